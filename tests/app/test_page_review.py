"""The review page in a real browser, by keyboard alone."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from server_support import serving, sound_file, twist

from audio_pipeline.app.review import DECIDED
from audio_pipeline.app.server.app import LOOPBACK
from audio_pipeline.app.server.connections import listen, make_server
from audio_pipeline.app.server.guards import ServerSettings
from audio_pipeline.app.server.review import create_review_app, open_queue
from audio_pipeline.datasets.manifest import read_dataset

playwright = pytest.importorskip("playwright.sync_api")

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed"),
]


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    for label, pops in (("pop", (1.0, 2.5)), ("other", (1.5, 3.0))):
        (tmp_path / label).mkdir()
        (tmp_path / label / "1.wav").write_bytes(sound_file(twist(pops)))
    return tmp_path


@contextmanager
def opened(dataset: Path, rater: str = "") -> Iterator[Any]:
    """Give the page of a review in a browser."""
    listener = listen(LOOPBACK, 0)
    queue = open_queue(dataset, rater=rater)
    server = make_server(create_review_app(queue), ServerSettings(), listener)
    with (
        serving(server, [listener]) as client,
        playwright.sync_playwright() as driver,
    ):
        browser = driver.chromium.launch(
            executable_path=CHROMIUM,
            args=["--no-sandbox", "--disable-gpu", "--autoplay-policy=no-user-gesture-required"],
        )
        tab = browser.new_page(viewport={"width": 900, "height": 800})
        tab.goto(str(client.base_url))
        tab.wait_for_selector("#picture-words:not(:empty)")
        yield tab
        browser.close()


@pytest.fixture
def tab(dataset: Path) -> Iterator[Any]:
    with opened(dataset) as page:
        yield page


def labels(dataset: Path) -> list[str]:
    file = dataset / "review.csv"
    return sorted(clip.label for clip in read_dataset(file).clips) if file.exists() else []


def press(tab: Any, key: str, said: str) -> None:
    tab.keyboard.press(key)
    tab.wait_for_selector(f"#said:has-text('{said}')")


def test_labels_by_keyboard_are_saved_as_they_are_made(tab: Any, dataset: Path) -> None:
    press(tab, "p", "Saved: Pop")
    assert labels(dataset) == ["pop"]
    press(tab, "g", "Saved: Grinding sound")
    assert labels(dataset) == ["grating", "pop"]
    press(tab, "z", "Taken back")
    assert labels(dataset) == ["pop"]
    press(tab, "u", "Saved: Unsure")
    assert labels(dataset) == ["pop"]
    assert "2 of 4 labelled" in tab.inner_text("#progress")
    press(tab, "o", "Saved: Other sound")
    tab.reload()
    tab.wait_for_selector("#picture-words:not(:empty)")
    assert "3 of 4 labelled" in tab.inner_text("#progress")
    press(tab, "z", "Taken back")  # what was made before the reload
    assert labels(dataset) == ["pop"]
    press(tab, "o", "Saved: Other sound")
    press(tab, "o", "Saved: Other sound")
    tab.wait_for_selector("h1:has-text('All done')")
    assert labels(dataset) == ["other", "other", "pop"]


def test_a_key_pressed_twice_at_once_is_one_label(tab: Any, dataset: Path) -> None:
    tab.evaluate(
        """() => { for (let n = 0; n < 2; n += 1)
        document.body.dispatchEvent(new KeyboardEvent("keydown", { key: "p", bubbles: true })); }"""
    )
    tab.wait_for_selector("#progress:has-text('1 of 4 labelled')")
    assert labels(dataset) == ["pop"]


def test_back_to_what_was_labelled_with_a_note(tab: Any, dataset: Path) -> None:
    press(tab, "p", "Saved: Pop")
    press(tab, "g", "Saved: Grinding sound")
    tab.keyboard.press("ArrowLeft")
    tab.wait_for_selector("#where:has-text('You called it: Grinding sound')")
    tab.keyboard.press("ArrowLeft")
    tab.wait_for_selector("#where:has-text('2 steps back. You called it: Pop')")
    tab.keyboard.press("n")
    tab.keyboard.type("a double one")  # letters in a note are no labels
    tab.keyboard.press("Enter")
    tab.wait_for_selector("#said:has-text('Note saved')")
    assert labels(dataset) == ["grating", "pop"]
    assert "a double one" in (dataset / "review.csv").read_text()


def test_hidden_until_asked_for_and_seen_from_near(tab: Any) -> None:
    name = "1.wav"
    assert name not in tab.inner_text("body")
    tab.keyboard.press("i")
    tab.wait_for_selector(f"#hidden-text:has-text('{name}')")
    wide = tab.inner_text("#axis-end")
    tab.keyboard.press("+")
    tab.wait_for_function(
        "wide => document.querySelector('#axis-end').innerText !== wide", arg=wide
    )
    for key, name in (("l", "Loop"), ("h", "Half speed")):
        tab.keyboard.press(key)
        tab.wait_for_selector(f"button[aria-pressed=true]:has-text('{name}')")


def test_two_raters_and_what_they_decide(dataset: Path) -> None:
    for rater, keys in (("anna", "pppp"), ("ben", "pppg")):
        with opened(dataset, rater) as tab:
            for number, key in enumerate(keys, 1):
                tab.keyboard.press(key)
                tab.wait_for_selector(f"#progress:has-text('{number} of 4 labelled')")
    assert labels(dataset) == ["pop"] * 3
    with opened(dataset, DECIDED) as tab:
        tab.keyboard.press("i")
        tab.wait_for_selector("#hidden-text:has-text('anna: Pop')")
        press(tab, "g", "Saved: Grinding sound")
    assert labels(dataset) == ["grating", "pop", "pop", "pop"]


def test_axe_finds_nothing_on_the_review_page(tab: Any) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    for scheme in ("light", "dark"):
        tab.emulate_media(color_scheme=scheme)
        assert axe.Axe().run(tab).response["violations"] == []
