"""How soon a live sound is reported: ``python -m benchmarks.live`` (a minute).

Pops and grating are played into the virtual sound card of the tests and heard through PortAudio.
The delay runs from the moment an event's end can be known (its last impact plus the merge gap in
force) to its report. The sound's clock starts at the block that came soonest after its sound, so
what the sound card itself holds back is in the figures only where it varies.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np

RATE = 48_000


@dataclass(frozen=True)
class Scene:
    """What is played: samples (n,), the times of the pops, and of each passage's last impact."""

    samples: np.ndarray
    pops: tuple[float, ...]
    passages: tuple[float, ...]


def make_scene(count: int, seed: int = 0) -> Scene:
    """Return ``count`` pops, then half as many grating passages, with quiet between."""
    rng = np.random.default_rng(seed)
    pops = [1.0 + 0.9 * number for number in range(count)]
    impacts, ends = list(pops), []
    moment = pops[-1] + 1.0
    for _ in range(count // 2):
        train = moment + np.cumsum(rng.uniform(0.015, 0.06, 30))
        impacts += train.tolist()
        ends.append(float(train[-1]))
        moment = ends[-1] + 1.2
    samples = rng.normal(0, 0.001, round((moment + 1.0) * RATE))
    click_shape = 0.4 * np.exp(-np.arange(480) / 50) * np.sin(np.arange(480) * 0.5)
    for impact in impacts:
        samples[round(impact * RATE) :][:480] += click_shape
    return Scene(samples.astype(np.float32), tuple(pops), tuple(ends))


def measure(count: int) -> dict[str, float]:
    """Play a scene, listen to it, and return delays in ms, CPU share and lost sound."""
    sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
    from virtual_sound_card import running_card

    from audio_pipeline.analysis.pipeline import LiveEvent, StreamAnalyzer
    from audio_pipeline.app.capture.live import warm_up
    from audio_pipeline.audio.microphone import PROMPT_CAPTURE, Microphone, choose_device, devices
    from audio_pipeline.model.classifier import load_classifier

    scene = make_scene(count)
    classifier = load_classifier()
    warm_up(classifier)
    analyzer = StreamAnalyzer(RATE, classifier, remember=False)
    arrivals: list[tuple[float, float]] = []
    reports: list[tuple[float, LiveEvent]] = []
    card = running_card()
    card.plug_in()
    card.enter()
    with Microphone(choose_device("pulse", devices()), PROMPT_CAPTURE) as microphone:
        seen = 0
        began, spent = time.perf_counter(), time.process_time()
        while seen < len(scene.samples) + RATE:
            block = microphone.read()
            if block is None:
                continue
            if seen == 0:
                card.play(scene.samples)
            seen += len(block)
            arrivals.append((time.perf_counter(), seen / RATE))
            reports += [(time.perf_counter(), event) for event in analyzer.push(block)]
        share = (time.process_time() - spent) / (time.perf_counter() - began)
    first = reports[0][1].event.start - scene.pops[0]  # where the scene begins in the stream
    clock = min(moment - heard for moment, heard in arrivals) + first
    gaps = classifier.settings.segmentation
    found = {"cpu_share": share, "overflows": float(microphone.overflows)}
    for name, times, gap in (
        ("pop", scene.pops, gaps.cascade_gap),
        ("grating", scene.passages, gaps.dense_gap),
    ):
        delays = [
            next(
                moment - (clock + last + gap)
                for moment, event in reports
                if moment > clock + last and abs(event.event.end - first - last) < 0.06
            )
            for last in times
        ]
        for share_below in (50, 95):
            found[f"{name}_p{share_below}_ms"] = 1000 * float(np.percentile(delays, share_below))
    return found


@click.command(epilog="Example: python -m benchmarks.live")
@click.option("--count", default=40, help="Pops; half as many grating passages.")
def command(count: int) -> None:
    """Measure how soon a live sound is reported."""
    for name, value in measure(count).items():
        click.echo(f"{name:16} {value:8.3f}")


if __name__ == "__main__":
    command()
