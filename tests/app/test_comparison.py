"""Two takes of one session: a difference is called one only where chance seldom makes it."""

from __future__ import annotations

import datetime
import json
import os
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest
from server_support import sound_file, twist

from audio_pipeline.app.cli import app as command_line
from audio_pipeline.app.comparison import CHANCE, Counts, chance_of, compare, difference
from audio_pipeline.exceptions import InvalidInputError

NOON = datetime.datetime(2026, 11, 23, 12, tzinfo=datetime.UTC)


def take(pops: int, minutes: float = 0, seconds: float = 25.0, **more: object) -> Counts:
    made = NOON + datetime.timedelta(minutes=minutes)
    values = {"model": "m", "usable": True} | more
    return Counts("a take", made, seconds, counts={"pop": pops, "grating": 0}, **values)  # type: ignore[arg-type]


@given(
    first=st.integers(0, 30),
    second=st.integers(0, 30),
    seconds=st.tuples(st.floats(5, 900), st.floats(5, 900)),
)
@settings(max_examples=50, deadline=None)
def test_the_bounds_are_where_the_verdict_turns(
    first: int, second: int, seconds: tuple[float, float]
) -> None:
    found = difference("pop", first, second, *seconds)
    assert 0 <= found.probability <= 1
    beyond = (found.at_most is not None and second <= found.at_most) or (
        found.at_least is not None and second >= found.at_least
    )
    assert found.means_something == beyond
    assert found.text()


@given(first=st.integers(0, 40), second=st.integers(0, 40))
@settings(max_examples=50, deadline=None)
def test_the_order_of_equal_takes_does_not_matter(first: int, second: int) -> None:
    there, back = difference("pop", first, second, 9, 9), difference("pop", second, first, 9, 9)
    assert there.probability == pytest.approx(back.probability)


@given(total=st.integers(0, 300), part=st.floats(0, 1), share=st.floats(0.01, 0.99))
@settings(max_examples=25, deadline=None)
def test_it_is_the_exact_test_of_scipy(total: int, part: float, share: float) -> None:
    count = round(part * total)
    expected = binomtest(count, total, share).pvalue if total else 1.0
    assert chance_of(count, total, share) == pytest.approx(expected, rel=1e-6, abs=1e-9)


def test_chance_seldom_counts_as_a_difference() -> None:
    rng = np.random.default_rng(0)
    for rate in (0.5, 2.0, 6.0, 20.0):
        pairs = rng.poisson(rate, (1000, 2))
        found = np.mean([chance_of(b, a + b, 0.5) <= CHANCE for a, b in pairs.tolist()])
        assert found <= CHANCE * 1.5


def test_small_counts_never_mean_anything() -> None:
    assert not difference("pop", 3, 0, 25, 25).means_something
    assert difference("pop", 3, 0, 25, 25).at_most is None
    assert "not even none" in difference("pop", 3, 0, 25, 25).text()
    assert difference("pop", 10, 0, 25, 25).means_something


class TestWhatIsCompared:
    def test_takes_of_one_session_only(self) -> None:
        compare(take(3), take(0, 19.9))
        compare(take(3, 19.9), take(0))
        for minutes, words in ((20.5, "minutes apart"), (300, "hours apart"), (9000, "days apart")):
            with pytest.raises(InvalidInputError, match=words):
                compare(take(3), take(0, minutes))
        compare(take(3), take(0, 9000), same_session=True)

    def test_takes_that_can_be_used_and_were_heard_alike(self) -> None:
        for other in (take(1, usable=False), take(1, seconds=0.0), take(1, model="n")):
            with pytest.raises(InvalidInputError):
                compare(take(1), other)

    def test_it_never_says_better_or_worse(self) -> None:
        for first, second in ((0, 0), (3, 0), (0, 40), (40, 0)):
            document = compare(take(first), take(second)).to_dict()
            words = json.dumps(document).lower()
            for banned in ("better", "worse", "improve", "normal"):
                assert banned not in words


def test_the_command_compares_files_and_kept_results(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    Path("a.wav").write_bytes(sound_file(twist((1.0, 2.5))))
    Path("b.wav").write_bytes(sound_file(twist(())))

    def run(*arguments: str) -> tuple[int, str]:
        outcome = CliRunner().invoke(command_line, ["compare", *arguments])
        if isinstance(outcome.exception, InvalidInputError):
            return 2, str(outcome.exception)
        return outcome.exit_code, outcome.stdout

    code, out = run("a.wav", "b.wav", "--json")
    assert code == 0
    assert next(d["first"] for d in json.loads(out)["differences"]) == 2
    assert "can well be chance" in run("a.wav", "b.wav")[1]
    os.utime("b.wav", (0, 0))
    code, out = run("a.wav", "b.wav")
    assert code == 2
    assert "days apart" in out
    assert run("a.wav", "b.wav", "--same-session")[0] == 0
    assert run("1", "2")[0] == 2
