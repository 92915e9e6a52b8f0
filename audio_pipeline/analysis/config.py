"""All settings of an analysis in one frozen object.

It is stored in the model it was trained with, in every result and in the key of a resumable run, so
a default can never differ between the command line, Python, the server and a batch.
"""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from numbers import Real
from typing import Any, TypeVar, get_type_hints

from audio_pipeline.analysis.events import ContextConfig
from audio_pipeline.audio.quality import QualityConfig
from audio_pipeline.exceptions import InvalidInputError
from audio_pipeline.features.registry import FeatureConfig
from audio_pipeline.segmentation.segment import SegmentationConfig

T = TypeVar("T")

_MOST_VALUES = 64
_LARGEST = 1e9


@dataclass(frozen=True)
class AnalysisConfig:
    """How a recording is analysed.

    Raises
    ------
    InvalidInputError
        When a part is of another type, a mapping for instance: :meth:`from_dict` reads these.
    """

    segmentation: SegmentationConfig = field(default_factory=SegmentationConfig)
    features: FeatureConfig = field(default_factory=FeatureConfig)
    quality: QualityConfig = field(default_factory=QualityConfig)
    context: ContextConfig = field(default_factory=ContextConfig)

    def __post_init__(self) -> None:
        for each in fields(self):
            kind: Any = each.default_factory
            if not isinstance(given := getattr(self, each.name), kind):
                raise InvalidInputError(
                    f"{each.name} must be a {kind.__name__}, not {type(given).__name__}; "
                    "AnalysisConfig.from_dict reads mappings"
                )

    @property
    def sample_rate(self) -> int:
        """Rate in Hz at which sounds are looked for and described."""
        return self.segmentation.sample_rate

    def at_rate(self, sample_rate: int) -> AnalysisConfig:
        """Return these settings for a lower rate; frames and bands scale with it.

        Raises
        ------
        InvalidInputError
            When the rate is no whole number of Hz, or too low or high to hear anything.
        """
        given: Any = sample_rate  # by whatever means it was computed
        if not (isinstance(given, Real) and float(given).is_integer()):
            raise InvalidInputError(
                f"sample_rate must be a whole number of Hz, not {reprlib.repr(given)}"
            )
        sample_rate = int(float(given))
        try:
            segmentation = self.segmentation.at_rate(sample_rate)
        except ValueError as error:
            raise InvalidInputError(str(error)) from None
        narrow = self.quality.narrow_bandwidth_hz * sample_rate / self.sample_rate
        return replace(
            self,
            segmentation=segmentation,
            quality=replace(
                self.quality,
                minimum_rate=min(self.quality.minimum_rate, sample_rate),
                narrow_bandwidth_hz=narrow,
            ),
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> AnalysisConfig:
        """Return the settings that :meth:`to_dict` wrote.

        Raises
        ------
        InvalidInputError
            For a key that is unknown or missing, a value of another type or out of its range.
        """
        return _read(cls, values, "settings")


def _read(kind: type[T], values: Any, where: str) -> T:
    if not isinstance(values, Mapping):
        raise InvalidInputError(f"{where} must be a mapping, not {reprlib.repr(values)}")
    names = {each.name for each in fields(kind)}  # type: ignore[arg-type]
    if set(values) != names:
        odd = ", ".join(sorted(set(values) ^ names))
        raise InvalidInputError(f"{where}: unknown or missing: {odd}")
    hints = get_type_hints(kind)
    read = {name: _value(hints[name], values[name], f"{where}.{name}") for name in names}
    try:
        return kind(**read)
    except ValueError as error:
        raise InvalidInputError(f"{where}: {error}") from None


def _value(hint: Any, value: Any, where: str) -> Any:
    if is_dataclass(hint):
        return _read(hint, value, where)  # type: ignore[arg-type]
    if hint is float and isinstance(value, int | float) and not isinstance(value, bool):
        if not -_LARGEST <= value <= _LARGEST:  # nor is a NaN
            raise InvalidInputError(f"{where} is {reprlib.repr(value)}, which is out of range")
        return float(value)
    if hint is int and isinstance(value, int) and not isinstance(value, bool):
        return value
    if hint == tuple[float, ...] and isinstance(value, list | tuple):
        if len(value) > _MOST_VALUES:
            raise InvalidInputError(f"{where} has {len(value)} values; {_MOST_VALUES} at most")
        return tuple(_value(float, each, where) for each in value)
    raise InvalidInputError(f"{where} is {reprlib.repr(value)}, which is no {hint}")
