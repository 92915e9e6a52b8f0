"""The page goes its whole way in Firefox too."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from firefox import FIREFOX, Tab, firefox
from server_support import running
from virtual_sound_card import VirtualSoundCard, sound_card  # noqa: F401

from audio_pipeline.app.server.app import Service
from audio_pipeline.app.server.guards import ServerSettings

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(FIREFOX is None, reason="Firefox is not installed"),
]

# A person without any trouble: the first option that says so, or none of a list.
CLEAR_SCREEN = """(() => {
  const clear = ["no", "none", "nothing", "never", "normal", "under_6_weeks", "better", "0"];
  const title = document.querySelector("#ask-title").textContent;
  const number = document.querySelector("#screen input[id$=-number]");
  if (number) {
    number.value = "40";
    document.querySelector("#number-next").click();
  } else {
    const options = [...document.querySelectorAll("#screen .choice")];
    const none = document.querySelector("#none-next");
    (none ?? options.find(({ id }) => clear.includes(id.split("-").at(-1))) ?? options[0]).click();
  }
  return title;
})()"""


@pytest.fixture(scope="module")
def site() -> Iterator[str]:
    with running(Service(port=0, settings=ServerSettings(workers=1))) as client:
        while not client.get("/api/v1/health").json()["ready"]:
            pass
        yield str(client.base_url).replace("127.0.0.1", "localhost")


def answer_all(tab: Tab, until: str) -> None:
    tab.wait_for("document.querySelector('#screen h1')?.checkVisibility()")
    for _ in range(40):
        title = tab.evaluate(CLEAR_SCREEN)
        tab.wait_for(
            "document.querySelector('section:not([hidden]) h1')?.textContent !== " + repr(title)
        )
        if tab.evaluate(f"document.querySelector({until!r}).checkVisibility()"):
            return
    raise AssertionError(f"{until} never came")


def test_the_whole_way(
    site: str,
    tmp_path: Path,
    sound_card: VirtualSoundCard,  # noqa: F811
) -> None:
    # Without a sound card Firefox starts no sound system at all.
    sound_card.plug_in()
    with firefox(tmp_path, sound_card.environment) as tab:
        tab.goto(site)
        tab.click("#begin")
        answer_all(tab, "#how-record")
        tab.click("#how-record")
        tab.evaluate("document.querySelector('#guided').checked && guided.click()")
        tab.click("#start")
        tab.wait_for("parseInt(document.querySelector('#clock').textContent) >= 3")
        tab.click("#stop")
        tab.click("#use")
        tab.wait_for("document.querySelector('#verdict')?.checkVisibility()")
        tab.click("#heard-next")
        answer_all(tab, "#check-next")
        tab.click("#check-next")
        tab.wait_for("document.querySelector('#result h1')?.checkVisibility()")
        assert tab.evaluate("document.querySelector('#result h1').textContent")
        assert tab.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
        assert tab.evaluate("document.querySelector('#answers').children.length") > 10
