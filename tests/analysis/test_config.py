"""Settings travel through JSON unchanged, and what they do not know is refused."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import FrozenInstanceError, fields, is_dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from audio_pipeline.analysis.config import AnalysisConfig
from audio_pipeline.exceptions import InvalidInputError

rates = st.integers(1000, 48_000)


def places(values: dict[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Yield the path of every value in nested mappings."""
    for key, value in values.items():
        yield (*path, key)
        if isinstance(value, dict):
            yield from places(value, (*path, key))


def plain() -> dict[str, Any]:
    document: dict[str, Any] = json.loads(json.dumps(AnalysisConfig().to_dict()))
    return document


def parent(values: dict[str, Any], path: tuple[str, ...]) -> dict[str, Any]:
    for key in path[:-1]:
        values = values[key]
    return values


EVERY_PLACE = list(places(plain()))


@given(rates)
def test_settings_survive_json(rate: int) -> None:
    settings = AnalysisConfig().at_rate(rate)
    assert AnalysisConfig.from_dict(json.loads(json.dumps(settings.to_dict()))) == settings


@pytest.mark.parametrize("path", EVERY_PLACE, ids=".".join)
def test_a_missing_value_is_refused_by_name(path: tuple[str, ...]) -> None:
    values = plain()
    del parent(values, path)[path[-1]]
    with pytest.raises(InvalidInputError, match=path[-1]):
        AnalysisConfig.from_dict(values)


@pytest.mark.parametrize("path", [path for path in EVERY_PLACE if len(path) < 3], ids=".".join)
def test_an_unknown_key_is_refused_by_name(path: tuple[str, ...]) -> None:
    values = plain()
    parent(values, path)["window_of_luck"] = 1
    with pytest.raises(InvalidInputError, match="window_of_luck"):
        AnalysisConfig.from_dict(values)


@pytest.mark.parametrize("odd", [None, "a word", True, {"deep": 1}], ids=repr)
def test_a_value_of_another_type_is_refused(odd: object) -> None:
    taken = []
    for path in EVERY_PLACE:
        values = plain()
        parent(values, path)[path[-1]] = odd
        with suppress(InvalidInputError):
            AnalysisConfig.from_dict(values)
            taken.append(path)
    assert not taken


@given(rates)
def test_frames_and_bands_scale_with_the_rate(rate: int) -> None:
    base, scaled = AnalysisConfig().segmentation, AnalysisConfig().at_rate(rate).segmentation
    assert scaled.sample_rate == rate
    assert scaled.n_fft % 2 == 0
    assert 0 < scaled.hop_length < scaled.n_fft
    assert 0 < scaled.fmin < scaled.fmax <= rate / 2
    assert scaled.fmin / rate == pytest.approx(base.fmin / base.sample_rate)
    assert scaled.fmax / rate == pytest.approx(base.fmax / base.sample_rate)
    # Frames last as long as they did, to the rounding of a hop, which has at least four samples.
    hop = max(4.0, base.hop_length * rate / base.sample_rate)
    assert abs(scaled.hop_length - hop) <= 0.5


def test_a_lower_rate_is_then_enough() -> None:
    assert AnalysisConfig().quality.minimum_rate == 8000
    assert AnalysisConfig().at_rate(2000).quality.minimum_rate <= 2000


def test_settings_cannot_change() -> None:
    settings = AnalysisConfig()
    for field in fields(settings):
        assert is_dataclass(getattr(settings, field.name))
        with pytest.raises(FrozenInstanceError):
            setattr(settings, field.name, None)


def test_a_part_of_another_type_is_refused() -> None:
    for field in fields(AnalysisConfig):
        for odd in ({}, None, AnalysisConfig()):
            with pytest.raises(InvalidInputError, match=field.name):
                AnalysisConfig(**{field.name: odd})  # type: ignore[arg-type]


def test_a_rate_is_a_whole_number_of_any_type() -> None:
    for rate in (8000.0, np.int64(8000), np.float32(8000)):
        assert AnalysisConfig().at_rate(rate) == AnalysisConfig().at_rate(8000)  # type: ignore[arg-type]
    for odd in (8000.5, "8000", None, float("nan"), float("inf"), 1, 10**9):
        with pytest.raises(InvalidInputError, match="sample_rate"):
            AnalysisConfig().at_rate(odd)  # type: ignore[arg-type]
