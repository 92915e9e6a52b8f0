"""Make the recordings of ``datasets/samples``: six short scenes with exact labels, all synthetic.

Run from the repository: ``python datasets/make_samples.py datasets/samples``. The same versions of
the libraries give the same files. Everything here is in the public domain (CC0).
"""

from __future__ import annotations

import csv
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

from audio_pipeline.audio.recording import Recording, write_recording
from audio_pipeline.datasets.synthesis import contacts, everyday
from audio_pipeline.datasets.synthesis.channel import ChannelSettings
from audio_pipeline.datasets.synthesis.joints import (
    JointSettings,
    PatternSettings,
    grating_a,
    grating_b,
    pop_a,
    pop_b,
)
from audio_pipeline.datasets.synthesis.resonance import (
    BodySettings,
    Draws,
    Scene,
    Sound,
    draw_body,
)
from audio_pipeline.datasets.synthesis.scenes import Placed, recorded

RATE = 44_100
JOINT = JointSettings(body=BodySettings(bright=1.0, broad=0.0), friction=0.0, layered=0.0)
SINGLE = replace(JOINT, single=1.0, double=0.0)
CASCADE = replace(JOINT, single=0.0, double=0.0, pattern=PatternSettings(cascade_impacts=(3, 4)))
CREPITUS = replace(JOINT, creak=0.0, crunch=0.0, scrape=0.0)
# A phone 20 cm from the back in a quiet living room, nothing switched on that changes the sound.
PHONE = ChannelSettings(
    slope=2.0, ripple=2.0, tissue=0.0, near=0.0,
    room=1.0, reverberation=(0.25, 0.35), direct=(12.0, 16.0),
    snr=(38.0, 42.0), noise_slope=(3.0, 5.0), hum=0.0, restless=0.0, low_pass=1.0,
    low_pass_cutoff=(10_000.0, 11_000.0), gain_control=0.0, suppression=0.0, clipping=0.0,
    peak=(-18.0, -15.0), codec=0.0,
)  # fmt: skip


def soft(sound: Sound, time: float, level: float) -> Placed:
    """Place a sound ``level`` dB under the loudest."""
    return Placed(sound, time, 10 ** (level / 20))


def mixed(seed: int, placed: list[Placed], seconds: float) -> Scene:
    """Record the sounds with the phone."""
    rng = Draws(RATE, [seed, 99])
    return recorded(rng, placed, round(seconds * RATE), "sample", PHONE)


def twist_two_pops(seed: int) -> Scene:
    """Twist to one side and to the other: cloth moves, and the back pops once each way."""
    rng = Draws(RATE, seed)
    body = draw_body(rng, JOINT.body)
    placed = [
        soft(everyday.rustle(rng), 1.6, -36.0),
        soft(pop_a(rng, body, SINGLE), 3.0, 0.0),
        soft(everyday.rustle(rng), 4.2, -36.0),
        soft(pop_a(rng, draw_body(rng, JOINT.body), CASCADE), 5.4, -2.0),
    ]
    return mixed(seed, placed, 7.0)


def twist_grinding(seed: int) -> Scene:
    """Twist slowly three times: it grinds at the same place each time."""
    rng = Draws(RATE, seed)
    body = draw_body(rng, JOINT.body)
    placed = [
        soft(grating_b(rng, body, CREPITUS), time, level)
        for time, level in ((0.9, 0.0), (3.1, -2.0), (5.3, -1.0))
    ]
    return mixed(seed, placed, 7.5)


def twist_both(seed: int) -> Scene:
    """Twist once: a pop, and grinding on the way back."""
    rng = Draws(RATE, seed)
    body = draw_body(rng, JOINT.body)
    placed = [
        soft(pop_b(rng, body, SINGLE), 1.8, 0.0),
        soft(grating_a(rng, draw_body(rng, JOINT.body), CREPITUS), 3.2, -2.0),
    ]
    return mixed(seed, placed, 6.0)


def key_clicks(seed: int) -> Scene:
    """Type a few words beside the phone."""
    rng = Draws(RATE, seed)
    times = 0.8 + np.cumsum(rng.uniform(0.2, 0.7, 11))
    placed = [soft(contacts.key(rng), float(t), rng.uniform(-8, 0)) for t in times if t < 6.0]
    return mixed(seed, placed, 6.5)


def talking(seed: int) -> Scene:
    """Speak, breathe and move in a rustling shirt."""
    rng = Draws(RATE, seed)
    placed = [
        soft(everyday.speech(rng), 0.8, 0.0),
        soft(everyday.breath(rng), 3.4, -18.0),
        soft(everyday.rustle(rng), 5.2, -12.0),
    ]
    return mixed(seed, placed, 7.5)


def quiet_room(seed: int) -> Scene:
    """Hold still: only the room. A faint far thump sets the level of the noise."""
    rng = Draws(RATE, seed)
    made = mixed(seed, [soft(contacts.thump(rng), 6.2, 0.0)], 7.5)
    return replace(made, samples=made.samples[: 6 * RATE], events=())


SAMPLES = {
    "twist_two_pops": (twist_two_pops, 11),
    "twist_grinding": (twist_grinding, 12),
    "twist_both": (twist_both, 13),
    "key_clicks": (key_clicks, 14),
    "talking": (talking, 15),
    "quiet_room": (quiet_room, 16),
}


def main(folder: Path) -> None:
    """Write all samples and their manifest."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "manifest.csv").open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["file", "label", "group", "start", "end", "kind", "impacts"])
        for name, (make, seed) in SAMPLES.items():
            made = make(seed)
            write_recording(
                folder / f"{name}.flac", Recording(made.samples, made.sample_rate, name), "16-bit"
            )
            for event in made.events:
                table.writerow(
                    [f"{name}.flac", event.label, name, f"{event.start:.4f}", f"{event.end:.4f}",
                     event.kind, len(event.impacts) or ""]
                )  # fmt: skip
            if not made.events:
                table.writerow([f"{name}.flac", "other", name, "", "", "room", ""])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
