"""The review page in a real browser, by keyboard alone."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from server_support import serving, sound_file, twist

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


@pytest.fixture
def tab(dataset: Path) -> Iterator[Any]:
    listener = listen(LOOPBACK, 0)
    server = make_server(create_review_app(open_queue(dataset)), ServerSettings(), listener)
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


def test_labels_by_keyboard_are_saved_as_they_are_made(tab: Any, dataset: Path) -> None:
    def labels() -> list[str]:
        file = dataset / "review.csv"
        return [clip.label for clip in read_dataset(file).clips] if file.exists() else []

    def press(key: str, said: str) -> None:
        tab.keyboard.press(key)
        tab.wait_for_selector(f"#said:has-text('{said}')")

    press("p", "Saved: Pop")
    assert labels() == ["pop"]
    press("g", "Saved: Grinding sound")
    assert labels() == ["pop", "grating"]
    press("z", "Taken back")
    assert labels() == ["pop"]
    press("u", "Saved: Unsure")
    assert labels() == ["pop"]
    assert "2 of 4 labelled" in tab.inner_text("#progress")
    press("o", "Saved: Other sound")
    tab.reload()
    tab.wait_for_selector("#picture-words:not(:empty)")
    assert "3 of 4 labelled" in tab.inner_text("#progress")
    press("o", "Saved: Other sound")
    tab.wait_for_selector("h1:has-text('All done')")
    assert labels() == ["pop", "other", "other"]


def test_axe_finds_nothing_on_the_review_page(tab: Any) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    for scheme in ("light", "dark"):
        tab.emulate_media(color_scheme=scheme)
        assert axe.Axe().run(tab).response["violations"] == []
