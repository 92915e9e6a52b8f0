"""The level meter says what to mend while it can still be mended, and the screen shows it."""

from __future__ import annotations

import io
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from audio_pipeline.analysis.events import Event
from audio_pipeline.analysis.guided import planned_phases
from audio_pipeline.analysis.pipeline import LiveEvent
from audio_pipeline.app.capture.live import FLOOR_DBFS, LevelMeter, to_dbfs
from audio_pipeline.app.reporting import live
from audio_pipeline.app.reporting.live import ADVICE, TakeScreen, cue, describe

RATE = 48_000


def noise(level_dbfs: float, seconds: float, seed: int = 2) -> np.ndarray:
    rng = np.random.default_rng(seed)
    samples = rng.normal(0, 10 ** (level_dbfs / 20), round(seconds * RATE))
    return np.clip(samples, -1, 1).astype(np.float32)


def after(samples: np.ndarray, meter: LevelMeter | None = None) -> LevelMeter:
    meter = meter or LevelMeter(RATE)
    for block in np.array_split(samples, max(1, len(samples) // 960)):
        meter.update(block)
    return meter


def test_a_quiet_room_is_good_until_something_should_have_sounded() -> None:
    meter = after(noise(-85, 3))
    assert meter.advice == "good"
    assert after(noise(-85, 3), meter).advice == "quiet"


def test_a_sound_makes_a_quiet_take_good_again() -> None:
    meter = after(noise(-85, 8))
    click = noise(-85, 0.5)
    click[100:200] = 0.1
    assert after(click, meter).advice == "good"


def test_clipping_shows_long_enough_to_be_read_and_then_goes() -> None:
    click = noise(-70, 0.5)
    click[100:110] = 1.0
    meter = after(click)
    assert meter.advice == "loud"
    assert after(noise(-70, 1.5), meter).advice == "loud"
    assert after(noise(-70, 2.0), meter).advice == "good"


def test_digital_silence_is_named() -> None:
    assert after(np.zeros(RATE * 2, np.float32)).advice == "silent"


def test_a_noisy_room_is_named_and_a_voice_in_a_quiet_one_is_not() -> None:
    assert after(noise(-20, 3)).advice == "noisy"
    voice = np.concatenate([noise(-20, 0.2), noise(-80, 0.2)] * 5)
    assert after(voice).advice == "good"


@given(st.lists(st.floats(-1, 1, width=32), min_size=1, max_size=400))
def test_the_bar_is_at_least_the_peak_and_stays_on_the_scale(values: list[float]) -> None:
    block = np.array(values, np.float32)
    meter = LevelMeter(RATE)
    meter.update(block)
    assert FLOOR_DBFS <= meter.bar_dbfs <= 0
    assert meter.bar_dbfs >= min(0.0, to_dbfs(float(np.abs(block).max())) - 1e-6)


def test_an_empty_block_changes_nothing() -> None:
    meter = after(noise(-40, 1))
    before = meter.bar_dbfs, meter.advice
    meter.update(np.zeros(0, np.float32))
    assert (meter.bar_dbfs, meter.advice) == before


def heard(start: float, final: bool, uncertain: bool = False) -> LiveEvent:
    shares = {"pop": 0.9, "grating": 0.05, "other": 0.05}
    return LiveEvent(Event(start, start + 0.01, "pop", shares, uncertain, 1), final)


def drawn(console: Console, moments: list[float], advice: str = "good") -> str:
    assert isinstance(console.file, io.StringIO)
    with TakeScreen(console, planned_phases(), 25.0) as screen:
        screen.hear([heard(1.0, False), heard(1.0, True), heard(2.0, True, uncertain=True)])
        for moment in moments:
            screen.draw(moment, -30.0, advice)  # type: ignore[arg-type]
    return console.file.getvalue()


@pytest.mark.parametrize("advice", ADVICE)
@pytest.mark.parametrize("width", [60, 80, 120])
def test_the_screen_fits_and_says_everything_in_words(
    advice: str, width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "REDRAW_SECONDS", 0.0)
    console = Console(
        file=io.StringIO(), force_terminal=True, width=width, height=24, no_color=True
    )
    text = drawn(console, [5.0], advice).partition("hurts.")[0]  # one frame
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)
    assert max(map(len, plain.splitlines())) <= width
    assert "Turn 1 of 5" in text
    assert ADVICE[advice][0].strip() in text  # type: ignore[index]
    assert text.count("1.0 s pop (likely)") == 1  # reported twice, shown once
    assert "pop (unsure)" in text
    assert "\x1b[3" not in text


def test_without_a_terminal_each_phase_is_one_line() -> None:
    console = Console(file=io.StringIO(), width=80)
    text = drawn(console, [0.1, 0.5, 3.1, 3.2, 7.1])
    assert [line.split()[0] for line in text.splitlines()] == ["Quiet", "Turn", "Turn"]


def test_letters_only_where_the_terminal_has_no_more() -> None:
    file = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    console = Console(file=file, force_terminal=True, width=80)
    with TakeScreen(console, planned_phases(), None) as screen:
        screen.draw(4.0, -20.0, "good")
    file.flush()  # an ASCII stream refuses anything else


def test_every_turn_goes_out_and_comes_back() -> None:
    for phase in planned_phases():
        moments = np.linspace(phase.start, phase.end, 50, endpoint=False)
        places = [cue(phase, float(moment))[1] for moment in moments]
        assert all(0 <= place <= 1 for place in places)
        assert places[0] == 0
        assert max(np.abs(np.diff(places))) < 0.1 or phase.kind != "turn"
        assert max(places) == (1 if phase.kind == "turn" else 0)
        assert "force" not in cue(phase, phase.start)[0]


def test_an_event_is_described_in_words() -> None:
    assert describe(heard(7.14, True)) == "7.1 s pop (likely)"


def test_nothing_a_person_reads_frightens_or_promises() -> None:
    from wording_rules import BANNED

    from audio_pipeline.analysis import guided as protocol
    from audio_pipeline.app.reporting import terminal

    said = [words for words, _ in ADVICE.values()]
    said += [*protocol._RETURNS.values(), *protocol._ONCE.values(), *terminal.HOW_TO_RECORD]
    said += [terminal.GUIDED_PLAN, terminal.FREE_PLAN, terminal.TIMED_PLAN, terminal.NO_TWIST]
    for phase in planned_phases():
        said += [cue(phase, float(at))[0] for at in np.linspace(phase.start, phase.end - 0.01, 9)]
    assert [text for text in said if BANNED.search(text)] == []
