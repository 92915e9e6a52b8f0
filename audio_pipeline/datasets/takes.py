"""Recordings as a person makes them, put together from labelled clips: takes of twenty seconds.

A clip cut around its sound says how well that sound is told. What a person gets is a finding about
a whole recording, with a room, the phone picked up and laid down, other sounds, and often no joint
sound at all. No labelled collection of such recordings exists, so they are put together, with their
truth. Figures on them are nearer to the product than those on clips, and still no evidence about
people: the joint sounds are the same proxies.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from audio_pipeline.analysis.config import AnalysisConfig
from audio_pipeline.analysis.events import LABELS
from audio_pipeline.analysis.guided import Phase, ProtocolConfig, planned_phases
from audio_pipeline.audio.recording import Recording, read_recording, write_recording
from audio_pipeline.datasets.conditions import in_parallel
from audio_pipeline.datasets.examples import AnnotatedRecording, annotate_recording
from audio_pipeline.datasets.manifest import (
    KIND,
    Dataset,
    LabelledClip,
    Region,
    audacity_track,
    in_doubt,
    is_near,
)
from audio_pipeline.datasets.synthesis.channel import ChannelSettings
from audio_pipeline.datasets.synthesis.dataset import check_new_dataset, new_dataset
from audio_pipeline.datasets.synthesis.everyday import rustle
from audio_pipeline.datasets.synthesis.resonance import Draws, LabelledEvent, Sound
from audio_pipeline.datasets.synthesis.scenes import Placed, clip_sound, recorded
from audio_pipeline.exceptions import InvalidInputError, RecordingError

COLUMNS: Final = (
    "file",
    "label",
    "group",
    "start",
    "end",
    "kind",
    "snr",
    "finding",
    "take_snr",
    "guided",
    "groups",
    "licence",
)
"""The manifest's columns: one row per sound; the last five are about the whole take. `snr` is of
the sound, `take_snr` of the faintest joint sound, or of the loudest sound where there is none."""

JOINTS: Final = ("pop", "grating")
_LARGEST: Final = 100_000
_TRIES: Final = 60


@dataclass(frozen=True)
class TakeSettings:
    """Ranges of a take; all by judgement, none tuned."""

    sample_rates: tuple[int, ...] = (44_100, 48_000)  #: Hz, drawn with equal chance
    guided: float = 0.5  #: Share recorded by the guided protocol
    #: Four turns between 2 s of quiet and 2 s of stillness: 20 s
    protocol: ProtocolConfig = field(
        default_factory=lambda: ProtocolConfig(quiet_seconds=2.0, turns=4, still_seconds=2.0)
    )
    #: Numbers of different joint sounds, drawn with equal chance
    joints: tuple[int, ...] = (0, 1, 2)
    others: tuple[int, int] = (1, 4)  #: Fewest and most everyday sounds
    #: Chance that an everyday sound is drawn from the kinds near a person, where there are such
    near: float = 0.75
    #: Chance that a pop of a guided take comes back in each turn, as a tendon does; gratings do
    returning: float = 0.25
    each_turn: float = 0.85  #: Chance that a returning sound is heard in a turn
    handling: float = 0.5  #: Chance that the phone is heard being laid down, and being picked up
    level: tuple[float, float] = (-12.0, 0.0)  #: dB of a sound below the loudest
    longest: float = 4.0  #: Seconds of a clip around its loudest moment
    gap: float = 0.4  #: Seconds between sounds, so that each has its own segment
    #: Milder than for dry sounds, because every clip has been through a room already
    channel: ChannelSettings = field(
        default_factory=lambda: ChannelSettings(
            slope=4.0,
            ripple=3.0,
            tissue=0.2,
            near=0.3,
            room=0.5,
            direct=(5.0, 30.0),
            snr=(15.0, 55.0),
            suppression=0.05,
            clipping=0.03,
        )
    )

    @property
    def duration(self) -> float:
        """Seconds of a take."""
        plan = self.protocol
        return plan.quiet_seconds + plan.turns * plan.turn_seconds + plan.still_seconds


@dataclass(frozen=True, eq=False)
class Take:
    """A recording put together, with its truth."""

    name: str
    recording: Recording
    events: tuple[LabelledEvent, ...]  #: In order of their start; at least one
    #: What should be found: ``nothing_recognised``, ``single_pop``, ``repeated_pops``, ``grating``
    #: or ``mixed``
    finding: str
    snr: float  #: dB of the faintest joint sound, or of the loudest sound
    phases: tuple[Phase, ...]  #: Of the guided protocol; empty for a free take
    fold: str  #: Takes of one fold share their groups with no other fold
    groups: tuple[str, ...]  #: Of the clips in it, sorted
    licences: tuple[str, ...]

    @property
    def clips(self) -> tuple[LabelledClip, ...]:
        """Its rows, as a manifest gives them."""
        about = {
            "finding": self.finding,
            "take_snr": f"{self.snr:.1f}",
            "guided": "yes" if self.phases else "no",
            "groups": ";".join(self.groups),
            "licence": "; ".join(self.licences),
            "group": self.fold,
        }
        return tuple(
            LabelledClip(
                Path(self.name),
                self.name,
                event.label,
                self.fold,
                round(event.start, 4),
                round(event.end, 4),
                {"kind": event.kind, "snr": f"{event.snr:.1f}", **about},
            )
            for event in self.events
        )

    @property
    def comment(self) -> str:
        """What the file says about itself, as `record` writes it; empty for a free take."""
        if not self.phases:
            return ""
        return json.dumps({"protocol": [phase.to_dict() for phase in self.phases]})


def take_clips(dataset: Dataset) -> list[LabelledClip]:
    """Return the clips of a dataset that takes can be made of.

    Rows with times hold several labels, and rows in doubt no sure one: both are left out.
    """
    return [clip for clip in dataset.clips if clip.start is None and not in_doubt(clip.columns)]


def clip_folds(clips: Sequence[LabelledClip], n_folds: int, seed: int) -> list[list[LabelledClip]]:
    """Split clips into folds of whole groups with every label in each, as far as groups allow.

    Raises
    ------
    InvalidInputError
        When there is no clip, or a label comes from a single group.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    labels, groups = [clip.label for clip in clips], [clip.group for clip in clips]
    groups_of = {
        label: len({clip.group for clip in clips if clip.label == label}) for label in set(labels)
    }
    fewest = min(groups_of.values(), default=0)
    if fewest < 2:
        short = min(groups_of, key=lambda label: groups_of[label], default="any label")
        raise InvalidInputError(
            f"takes need whole clips of every label from two groups at least; {short} has fewer "
            "(rows with start and end, and rows in doubt, are left out)"
        )
    splitter = StratifiedGroupKFold(min(n_folds, fewest), shuffle=True, random_state=seed)
    return [[clips[index] for index in test] for _, test in splitter.split(labels, labels, groups)]


def make_takes(
    folds: Sequence[Sequence[LabelledClip]],
    count: int,
    seed: int,
    settings: TakeSettings | None = None,
    jobs: int = 2,
) -> Iterator[Take]:
    """Make takes, each from the clips of one fold.

    Parameters
    ----------
    folds : sequence of sequence of LabelledClip
        Of whole groups each, as :func:`clip_folds` gives them; one fold is allowed.
    count : int
    seed : int
        The same seed and clips give the same samples, take by take: take `n` depends on nothing
        but its number, the seed and its fold.
    settings : TakeSettings, optional
    jobs : int
        Processes; the result does not depend on it.

    Yields
    ------
    Take
        In order; number `n` is of fold `n` modulo the number of folds.
    """
    plan = _plan(folds, count, seed, settings or TakeSettings())
    yield from in_parallel([(make_take, given) for given in plan], jobs, worth=30)


def _plan(
    folds: Sequence[Sequence[LabelledClip]], count: int, seed: int, settings: TakeSettings
) -> Iterator[tuple[int, Sequence[LabelledClip], str, int, TakeSettings]]:
    """Yield the arguments of :func:`make_take` for each take."""
    for number in range(count):
        fold = number % len(folds)
        yield number, folds[fold], f"fold {fold}", seed, settings


def heard_takes(
    folds: Sequence[Sequence[LabelledClip]],
    count: int,
    seed: int,
    config: AnalysisConfig,
) -> list[list[AnnotatedRecording]]:
    """Make takes and analyse them, keeping no sound: what a model is judged on, or tuned on.

    Parameters
    ----------
    folds, count, seed
        As for :func:`make_takes`.
    config : AnalysisConfig
        How recordings are analysed.

    Returns
    -------
    list of list of AnnotatedRecording
        For each fold, in order of the takes; the columns of their cases say what should be found.
    """
    plan = _plan(folds, count, seed, TakeSettings())
    heard = list(in_parallel([(_heard_take, (config, *given)) for given in plan], worth=30))
    return [heard[fold :: len(folds)] for fold in range(len(folds))]


def _heard_take(config: AnalysisConfig, *given: Any) -> AnnotatedRecording:
    take = make_take(*given)
    one = annotate_recording(take.name, take.clips, config, take.recording)
    return replace(one, extraction=replace(one.extraction, phases=take.phases))


def make_take(
    number: int, clips: Sequence[LabelledClip], fold: str, seed: int, settings: TakeSettings
) -> Take:
    """Make one take.

    Parameters
    ----------
    number : int
    clips : sequence of LabelledClip
        Of one fold.
    fold : str
        Its name.
    seed : int
    settings : TakeSettings
    """
    first = np.random.default_rng([seed, 0x7A4E, number])
    guided = bool(first.random() < settings.guided)
    rng = Draws(int(first.choice(settings.sample_rates)), first)
    maker = _TakeMaker(rng, settings, guided)
    joints = [clip for clip in clips if clip.label in JOINTS]
    others = [clip for clip in clips if clip.label not in JOINTS]
    for _ in range(int(rng.choice(settings.joints)) if joints else 0):
        maker.add_joint(_drawn(rng, joints))
    for _ in range(int(rng.integers(settings.others[0], settings.others[1] + 1)) if others else 0):
        near = [clip for clip in others if is_near(clip.columns)]
        maker.add_other(_drawn(rng, near if near and rng.random() < settings.near else others))
    maker.add_handling()
    count = round(settings.duration * rng.rate)
    scene = recorded(rng, maker.placed, count, "take", settings.channel)
    joint_snrs = [event.snr for event in scene.events if event.label in JOINTS]
    name = f"take_{number:05d}"
    return Take(
        name,
        Recording(scene.samples, rng.rate, name),
        scene.events,
        _finding(scene.events),
        min(joint_snrs) if joint_snrs else max(event.snr for event in scene.events),
        planned_phases(settings.protocol) if guided else (),
        fold,
        tuple(sorted({clip.group for clip in maker.used})),
        tuple(sorted({clip.columns.get("licence", "") for clip in maker.used} - {""})),
    )


def _finding(events: Sequence[LabelledEvent]) -> str:
    counts = Counter(event.label for event in events)
    if counts["pop"] and counts["grating"]:
        return "mixed"
    if counts["grating"]:
        return "grating"
    if counts["pop"]:
        return "single_pop" if counts["pop"] == 1 else "repeated_pops"
    return "nothing_recognised"


def _drawn(rng: np.random.Generator, clips: Sequence[LabelledClip]) -> LabelledClip:
    """Draw a label, then a kind of it, then a clip of it: rare kinds are heard as often."""
    label = str(rng.choice(sorted({clip.label for clip in clips})))
    of_label = [clip for clip in clips if clip.label == label]
    kind = str(rng.choice(sorted({_kind(clip) for clip in of_label})))
    chosen = [clip for clip in of_label if _kind(clip) == kind]
    return chosen[int(rng.integers(len(chosen)))]


def _kind(clip: LabelledClip) -> str:
    return clip.columns.get(KIND, "") or clip.label


class _TakeMaker:
    """Places sounds in one take, none too near another."""

    def __init__(self, rng: Draws, settings: TakeSettings, guided: bool) -> None:
        self.rng, self.settings, self.guided = rng, settings, guided
        self.placed: list[Placed] = []
        self.used: list[LabelledClip] = []

    def add_joint(self, clip: LabelledClip) -> None:
        """Add a joint sound: once, or in a guided take in each turn where it is of that sort."""
        plan, rng = self.settings.protocol, self.rng
        samples = self._read(clip)
        if samples is None:
            return
        gain = self._gain()
        if not self.guided:
            self._add(clip, samples, gain, 0.0, self.settings.duration)
            return
        returns = clip.label == "grating" or rng.random() < self.settings.returning
        length = len(samples[0]) / samples[1]
        point = rng.uniform(0.2, max(0.3, plan.turn_seconds - length - 0.3))
        once = int(rng.integers(plan.turns))
        for turn in range(plan.turns):
            heard = rng.random() < self.settings.each_turn if returns else turn == once
            if not heard:
                continue
            start = plan.quiet_seconds + turn * plan.turn_seconds
            reach = 0.5 * plan.same_point_seconds
            stretch = rng.uniform(0.95, 1.05) if returns else 1.0
            louder = 10 ** (rng.uniform(-4, 0) / 20) if returns else 1.0
            low, high = start + point - reach, start + point + reach + length
            self._add(clip, samples, gain * louder, low, high, stretch)

    def add_other(self, clip: LabelledClip) -> None:
        """Add an everyday sound at any time."""
        samples = self._read(clip)
        if samples is not None:
            self._add(clip, samples, self._gain(), 0.0, self.settings.duration)

    def add_handling(self) -> None:
        """Add the phone being laid down and picked up, in cloth or on wood."""
        duration = self.settings.duration
        for low, high in ((0.0, 1.2), (duration - 1.2, duration)):
            if self.rng.random() < self.settings.handling or not self.placed:
                sound = replace(rustle(self.rng), kind="handling")
                self._place(sound, self._gain(), low, high)

    def _gain(self) -> float:
        return float(10 ** (self.rng.uniform(*self.settings.level) / 20))

    def _read(self, clip: LabelledClip) -> tuple[NDArray[np.float32], int] | None:
        """Read a clip, no more of it than the longest around its loudest moment."""
        try:
            recording = read_recording(clip.path)
        except RecordingError:
            return None
        samples = np.nan_to_num(recording.samples)
        most = round(self.settings.longest * recording.sample_rate)
        if len(samples) > most:
            begin = int(np.abs(samples).argmax()) - most // 2
            begin = min(max(0, begin), len(samples) - most)
            samples = samples[begin : begin + most]
        return samples, recording.sample_rate

    def _add(
        self,
        clip: LabelledClip,
        given: tuple[NDArray[np.float32], int],
        gain: float,
        low: float,
        high: float,
        stretch: float = 1.0,
    ) -> None:
        samples, sample_rate = given
        try:
            sound = clip_sound(
                samples, sample_rate, self.rng.rate, clip.label, _kind(clip), stretch
            )
        except ValueError:  # silent: nothing to hear in it
            return
        if self._place(sound, gain, low, high):
            self.used.append(clip)

    def _place(self, sound: Sound, gain: float, low: float, high: float) -> bool:
        """Place a sound between two times where nothing else is; False where nothing is free."""
        length = len(sound.samples) / self.rng.rate
        latest = min(high, self.settings.duration) - length
        if latest < low:
            if low + length > self.settings.duration:
                return False
            latest = low
        gap = self.settings.gap
        for _ in range(_TRIES):
            time = float(self.rng.uniform(low, latest))
            if all(
                time > one.time + len(one.sound.samples) / self.rng.rate + gap
                or time + length + gap < one.time
                for one in self.placed
            ):
                self.placed.append(Placed(sound, time, gain))
                return True
        return False


def write_takes(
    dataset: Dataset,
    folder: Path,
    count: int,
    seed: int,
    settings: TakeSettings | None = None,
    n_folds: int = 10,
    progress: Callable[[int], None] | None = None,
) -> dict[str, Any]:
    """Write takes as a dataset: FLAC files, label tracks to look at, ``manifest.csv``.

    Parameters
    ----------
    dataset : Dataset
        Labelled clips; rows in doubt and rows with times are left out.
    folder : Path
        Made when missing; must be empty, nothing is ever overwritten.
    count : int
        1 to 100,000.
    seed : int
        At least 0; the same seed and clips give the same bytes.
    settings : TakeSettings, optional
    n_folds : int
        Takes are made of the clips of one fold of whole groups each.
    progress : callable, optional
        Called with the number of takes done.

    Returns
    -------
    dict
        ``dataset``, ``count``, ``seed``, ``seconds``, ``findings`` by what should be found.

    Raises
    ------
    InvalidInputError
        If count or seed are out of range, the folder is not empty, or the clips do not suffice.
    CrepitusError
        If the folder cannot be written.
    """
    settings = settings or TakeSettings()
    check_new_dataset(folder, count, seed, _LARGEST)
    clips = take_clips(dataset)
    if missing := [label for label in LABELS if label not in {clip.label for clip in clips}]:
        raise InvalidInputError(
            f"takes are put together from whole clips of {', '.join(LABELS)}; {dataset.source} has "
            f"none of {missing[0]} (rows with start and end, and rows in doubt, are left out)"
        )
    folds = clip_folds(clips, n_folds, seed)
    findings: Counter[str] = Counter()
    recipe = {"seed": seed, "count": count, "folds": len(folds), "settings": asdict(settings)}
    with new_dataset(folder, COLUMNS, recipe) as table:
        for number, take in enumerate(make_takes(folds, count, seed, settings), start=1):
            path = folder / "audio" / f"{take.name}.flac"
            metadata = {"comment": take.comment} if take.comment else None
            write_recording(path, take.recording, "16-bit", metadata)
            regions = [Region(one.start, one.end, one.label) for one in take.events]
            path.with_suffix(".txt").write_text(audacity_track(regions), encoding="utf-8")
            for clip in take.clips:
                row = {"label": clip.label, "start": clip.start, "end": clip.end}
                row["file"] = f"audio/{take.name}.flac"
                table.writerow(dict(clip.columns) | row)
            findings[take.finding] += 1
            if progress:
                progress(number)
    return {
        "dataset": str(folder),
        "count": count,
        "seed": seed,
        "seconds": round(count * settings.duration, 1),
        "findings": dict(sorted(findings.items())),
    }
