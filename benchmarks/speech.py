"""How often `study check` hears speech where it is, and where it is not.

Run ``python -m benchmarks.speech DATASET --where developed_on=`` on a dataset with a column `kind`.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import click
import numpy as np

from audio_pipeline.app.cli.options import where_option
from audio_pipeline.audio.recording import read_recording
from audio_pipeline.datasets.conditions import voice_stretches
from audio_pipeline.datasets.manifest import KIND, read_dataset

VOICES = ("speech", "baby", "cough")


@click.command()
@click.argument("dataset", type=click.Path(path_type=Path))
@where_option
def command(dataset: Path, where: dict[str, str]) -> None:
    """Print hits and false alarms a clip, with intervals over groups."""
    given = read_dataset(dataset)
    given = given.where(where) if where else given
    kinds: dict[str, list[tuple[bool, str]]] = defaultdict(list)
    for clips in given.recordings.values():
        heard = bool(voice_stretches(read_recording(clips[0].path)))
        kinds[clips[0].columns.get(KIND, "")].append((heard, clips[0].group))
    others = [one for kind, found in kinds.items() if kind not in VOICES for one in found]
    for name, found in (*((kind, kinds[kind]) for kind in VOICES), ("everything else", others)):
        heard = np.array([one for one, _ in found], dtype=float)
        groups = np.array([group for _, group in found])
        low, high = interval(heard, groups)
        click.echo(
            f"{name:16} heard in {heard.mean():.3f} ({low:.3f} to {high:.3f}) of {len(found)} clips"
            f" of {np.unique(groups).size} groups"
        )
    worst = sorted(kinds, key=lambda kind: -np.mean([one for one, _ in kinds[kind]]))
    for kind in worst[:12]:
        click.echo(
            f"  {kind:16} {np.mean([one for one, _ in kinds[kind]]):.2f} of {len(kinds[kind])}"
        )


def interval(values: np.ndarray, groups: np.ndarray) -> tuple[float, float]:
    """Return the 95 % interval of a mean, by drawing whole groups again."""
    random = np.random.default_rng(0)
    _, index = np.unique(groups, return_inverse=True)
    sums, counts = np.bincount(index, values), np.bincount(index)
    drawn = random.integers(0, len(counts), (2000, len(counts)))
    means = sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
    low, high = np.percentile(means, (2.5, 97.5))
    return float(low), float(high)


if __name__ == "__main__":
    command()
