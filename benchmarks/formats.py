"""Compare the findings of one recording in every format that a phone makes of it.

Run ``python -m benchmarks.formats DATASET`` on labelled clips: takes are put together from them,
written in each format, and their findings compared with that of the WAV file.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path

import av
import click
import numpy as np
import numpy.typing as npt
import soxr

from audio_pipeline.analysis.events import SOUNDS
from audio_pipeline.analysis.pipeline import analyze_file
from audio_pipeline.audio.recording import write_recording
from audio_pipeline.datasets.manifest import read_dataset
from audio_pipeline.datasets.takes import clip_folds, make_takes, take_clips
from audio_pipeline.model.classifier import load_classifier

FORMATS = {
    "m4a": ("ipod", "aac", 48_000, 96_000),
    "mp3": ("mp3", "libmp3lame", 48_000, 128_000),
    "webm": ("webm", "libopus", 48_000, 64_000),
    "webm, 24 kbit/s": ("webm", "libopus", 48_000, 24_000),
    "3gp, 16 kHz": ("3gp", "aac", 16_000, 24_000),
}
"""Container, codec, Hz, bits a second."""


@click.command()
@click.argument("dataset", type=click.Path(path_type=Path))
@click.option("--model", type=click.Path(path_type=Path), help="Else the default one.")
@click.option("--count", default=80, show_default=True, help="How many takes.")
@click.option("--seed", default=11, show_default=True)
def command(dataset: Path, model: Path | None, count: int, seed: int) -> None:
    """Print how often the finding is that of the WAV file, by format."""
    classifier = load_classifier(model)
    folds = clip_folds(take_clips(read_dataset(dataset)), 10, seed)
    same: Counter[str] = Counter()
    against: Counter[str] = Counter()
    unsure: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        for take in make_takes(folds, count, seed, jobs=1):
            path = Path(folder) / "take.wav"
            metadata = {"comment": take.comment} if take.comment else None
            write_recording(path, take.recording, "16-bit", metadata)
            said = {"wav": analyze_file(path, classifier).finding}
            for name, form in FORMATS.items():
                path = Path(folder) / f"take.{name.partition(',')[0]}"
                encode(
                    path, take.recording.samples, take.recording.sample_rate, *form, take.comment
                )
                said[name] = analyze_file(path, classifier).finding
            found = {name: "" if one is None else one.label for name, one in said.items()}
            for name, label in found.items():
                sounds, first = SOUNDS.get(label), SOUNDS.get(found["wav"])
                same[name] += sounds == first
                unsure[name] += sounds is None
                against[name] += sounds is not None and first is not None and sounds != first
    click.echo(
        "| format | same finding as wav | another sure one | cannot tell |\n|---|---|---|---|"
    )
    for name in ("wav", *FORMATS):
        click.echo(
            f"| {name} | {same[name]} of {count} | {against[name]} | {unsure[name] / count:.0%} |"
        )


def encode(
    path: Path,
    samples: npt.NDArray[np.float32],
    sample_rate: int,
    container: str,
    codec: str,
    rate: int,
    bit_rate: int,
    comment: str = "",
) -> None:
    """Write a recording as FFmpeg does."""
    sound = np.clip(soxr.resample(samples, sample_rate, rate), -1, 1).astype(np.float32)
    with av.open(str(path), "w", format=container) as file:
        if comment:
            file.metadata["comment"] = comment
        stream = file.add_stream(codec, rate=rate, layout="mono", bit_rate=bit_rate)
        packed = (sound[None] * 32767).astype(np.int16)
        frame = av.AudioFrame.from_ndarray(packed, format="s16", layout="mono")
        frame.sample_rate, frame.pts = rate, 0
        resampler = av.AudioResampler(format=stream.format, layout="mono", rate=rate)
        fifo = av.AudioFifo()
        for part in resampler.resample(frame):
            fifo.write(part)
        size = stream.codec_context.frame_size or 1024
        while (part := fifo.read(size)) or (part := fifo.read(size, partial=True)):
            file.mux(stream.encode(part))
        file.mux(stream.encode(None))


if __name__ == "__main__":
    command()
