"""A small dataset of clips: pops, gratings and other sounds of several groups."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from audio_pipeline.audio.recording import Recording, write_recording

RATE = 22_050


def write_clips(folder: Path, groups: int = 6) -> Path:
    """Write a burst of each label for each group: pops of 5 ms, rough gratings, other tones."""
    rng = np.random.default_rng(5)
    folder.mkdir(parents=True)
    rows = ["file,label,group,kind,licence,doubt"]
    for group in range(groups):
        for label, seconds in (("pop", 0.005), ("grating", 0.5), ("other", 0.3)):
            time = np.arange(round(seconds * RATE)) / RATE
            tone = np.sin(2 * np.pi * (400 + 200 * group) * time) * np.exp(-time / seconds)
            rough = rng.normal(0, 1, time.size)
            sound = 0.5 * (tone if label == "other" else rough / np.abs(rough).max())
            sound = np.pad(sound, (200, max(200, RATE // 10 - sound.size)))
            name = f"{label}_{group}.wav"
            write_recording(folder / name, Recording(sound.astype(np.float32), RATE), "16-bit")
            rows.append(f"{name},{label},group {group},{label}_kind_{group % 2},CC0,")
    rows.append(f"pop_0.wav,pop,group {groups},egg,CC0,yes")
    (folder / "manifest.csv").write_text("\n".join(rows) + "\n")
    return folder
