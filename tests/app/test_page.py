"""The page in a real browser, with a sound file as its microphone.

Needs Chromium; the checks for accessibility also need ``axe-playwright-python``.
"""

from __future__ import annotations

import io
import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import soundfile
from scipy.signal import correlate
from server_support import RATE, running, sound_file, started, twist

from audio_pipeline.analysis.pipeline import analyze_file, extract
from audio_pipeline.app.history import History
from audio_pipeline.app.server.app import Service, written_page
from audio_pipeline.app.server.guards import ServerSettings
from audio_pipeline.model.classifier import load_classifier
from audio_pipeline.triage import messages

playwright = pytest.importorskip("playwright.sync_api")

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
POPS = (2.2, 3.7)
PHONE = {"width": 360, "height": 740}
DESKTOP = {"width": 1200, "height": 800}
CLEAR = ("no", "none", "nothing", "never", "normal", "under_6_weeks", "better", "0")
"""What a person answers who has no trouble at all, whatever is asked."""

# Playwright does not show the parts of an upload, so the page keeps the form it sends.
REMEMBER_UPLOAD = """
const send = window.fetch;
window.fetch = (path, options) => {
  if (options?.body instanceof FormData) window.sent = options.body;
  return send(path, options);
};
"""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed"),
]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    history = History(tmp_path_factory.mktemp("history") / "history.sqlite")
    service = Service(port=0, settings=ServerSettings(workers=1), history=history)
    with running(service) as client:
        while not client.get("/api/v1/health").json()["ready"]:
            pass
        yield str(client.base_url).replace("127.0.0.1", "localhost")


@pytest.fixture(scope="module")
def microphone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recording that is played once, from when the page opens the microphone."""
    path = tmp_path_factory.mktemp("microphone") / "twist.wav"
    soundfile.write(path, twist(POPS, 6.0), RATE, "PCM_16")
    return path


Launch = Callable[..., Any]


@pytest.fixture(scope="module")
def launch(microphone: Path) -> Iterator[Launch]:
    """Start a browser; each new one plays the microphone's file from its start."""
    with playwright.sync_playwright() as driver:
        browsers = []

        def start(*, allowed: bool = True) -> Any:
            arguments = [
                "--no-sandbox",
                "--disable-gpu",
                "--disable-background-networking",
                "--disable-component-update",
                "--no-first-run",
                "--use-fake-device-for-media-stream",
                f"--use-file-for-fake-audio-capture={microphone}%noloop",
                "--autoplay-policy=no-user-gesture-required",
            ]
            if allowed:
                arguments.append("--use-fake-ui-for-media-stream")
            browser = driver.chromium.launch(executable_path=CHROMIUM, args=arguments)
            browsers.append(browser)
            return browser

        yield start
        for browser in browsers:
            browser.close()


@pytest.fixture(scope="module")
def browser(launch: Launch) -> Any:
    return launch()


class Visit:
    """One tab on the page, with everything it asked for and complained about."""

    def __init__(self, browser: Any, site: str, **options: Any) -> None:
        self.context = browser.new_context(**{"viewport": DESKTOP, "locale": "en-GB", **options})
        self.tab = self.context.new_page()
        self.tab.set_default_timeout(15_000)
        self.asked: list[str] = []
        self.complaints: list[str] = []
        self.tab.on("request", lambda request: self.asked.append(request.url))
        self.tab.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.tab.on("console", self._note)
        self.tab.add_init_script(REMEMBER_UPLOAD)
        self.site = site
        self.taps = 0
        self.tab.goto(site)
        self.tab.wait_for_selector("h1:visible")

    def _note(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(message.text)

    def title(self) -> str:
        return str(self.tab.inner_text("section:not([hidden]) h1"))

    def options(self) -> list[str]:
        """Return what can be chosen on this screen, as ``question-value``."""
        return [str(each.get_attribute("id")) for each in self.tab.locator(".choice").all()]

    def give(self, answers: dict[str, str]) -> None:
        """Answer the screen: as told, else as a person without any trouble."""
        before = (self.title(), self.tab.url)
        number = self.tab.locator("#screen input[id$=-number]")
        if number.count():
            question = str(number.get_attribute("id")).removesuffix("-number")
            focused = "() => document.activeElement.id.endsWith('-number')"
            self.tab.wait_for_function(focused)
            number.fill(answers.get(question, "40"))
            self.tab.click("#number-next")
        elif self.tab.locator("#none-next").count():
            for name in answers:
                if self.tab.locator(f"#{name}-tick").count():
                    self.tab.check(f"#{name}-tick")
            ticked = self.tab.locator("#screen input:checked").count()
            self.tab.click("#ticks-next" if ticked else "#none-next")
        else:
            options = self.options()
            question = options[0].rpartition("-")[0]
            if question in answers:
                choice = f"{question}-{answers[question]}"
            else:
                choice = next(
                    (each for each in options if each.rpartition("-")[2] in CLEAR), options[0]
                )
            if choice.endswith("-left_out"):
                self.tab.click("#leave-out")
            else:
                self.tab.click(f"#{choice}")
        self.taps += 1
        self.tab.wait_for_function(
            """([title, url]) => location.href !== url
                 || document.querySelector("section:not([hidden]) h1")?.textContent !== title""",
            arg=list(before),
        )

    def walk(self, until: str, **answers: str) -> None:
        """Answer screen after screen until something can be seen."""
        self.tab.wait_for_selector("section:not([hidden]) h1:visible")
        if self.tab.is_visible("#begin"):
            self.tab.click("#begin")
            self.taps += 1
            self.tab.wait_for_selector("#screen h1")
        for _ in range(40):
            self.tab.wait_for_selector(f"{until}:visible, #screen h1:visible")
            if self.tab.is_visible(until):
                return
            self.give(answers)
        raise AssertionError(f"{until} never came")

    def to_the_invitation(self, **answers: str) -> None:
        self.walk("#how-skip", **answers)

    def to_the_result(self, **answers: str) -> None:
        self.walk("#check-next", **answers)
        self.tab.click("#check-next")
        self.taps += 1
        self.tab.wait_for_selector("#result h1")

    def record(self, seconds: float) -> None:
        self.tab.click("#how-record")
        self.tab.uncheck("#guided")
        self.tab.click("#start")
        self.tab.wait_for_selector("#stop:visible")
        self.tab.wait_for_timeout(1000 * seconds)
        self.tab.click("#stop")
        self.tab.wait_for_selector("#use:visible")

    def use(self) -> None:
        self.tab.click("#use")
        self.tab.wait_for_selector("#heard-title:visible", timeout=60_000)
        self.tab.wait_for_selector("#heard > *")  # drawn once the sound is decoded

    def saved(self, button: str) -> bytes:
        """Return what a button lets the person save."""
        with self.tab.expect_download() as saving:
            self.tab.click(f"text={button}")
        return Path(saving.value.path()).read_bytes()

    def heading(self) -> str:
        """Return the heading the person sees, which is also where the focus is."""
        heading = self.tab.locator("h1:visible")
        assert heading.count() == 1
        # An emergency is drawn at once and again, in more words, when the server has answered.
        self.tab.wait_for_function(
            "() => document.activeElement === document.querySelector('h1:not([hidden] *)')",
            timeout=10_000,
        )
        return str(heading.inner_text())

    def check_manners(self) -> None:
        assert self.complaints == []
        for url in self.asked:
            assert url.startswith((self.site, "blob:", "data:")), url
        assert self.context.cookies() == []
        wide = self.tab.evaluate("document.documentElement.scrollWidth - innerWidth")
        assert wide <= 0, "the page can be scrolled sideways"

    def close(self) -> None:
        self.context.close()


@pytest.fixture
def visit(browser: Any, site: str) -> Iterator[Callable[..., Visit]]:
    visits = []

    def start(**options: Any) -> Visit:
        visits.append(Visit(browser, site, **options))
        return visits[-1]

    yield start
    for each in visits:
        each.close()


def test_the_whole_way(launch: Launch, site: str) -> None:
    browser = launch()
    visit = Visit(browser, site, viewport=PHONE, permissions=["microphone"])
    tab = visit.tab
    told: list[dict[str, Any]] = []
    tab.on(
        "websocket",
        lambda live: live.on("framereceived", lambda text: told.append(json.loads(text))),
    )
    visit.to_the_invitation()
    assert visit.heading() == "How to record"
    visit.record(5.5)
    tab.wait_for_selector("#live-heard:has-text(', ')", state="attached", timeout=90_000)
    drawn = str(tab.text_content("#live-heard"))
    with tab.expect_response("**/api/v1/analyses") as received:
        visit.use()
    assert visit.heading() == "What we heard"
    tab.click("#heard-next")
    answers = {"pain": "sharp_or_burning", "severity": "8", "trend": "worse"}
    visit.to_the_result(**answers)
    heading = visit.heading()

    capture = json.loads(tab.evaluate("window.sent.get('capture')"))
    assert not any(capture[name] for name in ("echoCancellation", "noiseSuppression"))
    result = received.value.json()
    audio = visit.saved("Save the recording")
    check_samples(audio)
    classifier = load_classifier()
    expected = analyze_file(io.BytesIO(audio), classifier).to_dict()
    heard = result["recordings"][0]
    for name in ("events", "finding", "quality"):
        assert heard[name] == json.loads(json.dumps(expected[name]))
    whole = json.loads(visit.saved("Save for programs"))["recordings"][0]
    assert whole["events"] == heard["events"]
    assert whole["recommendation"]["level"] != "self_care"
    assert "No crack was heard" not in tab.inner_text("#result")

    events = result["recordings"][0]["events"]
    sounds = [event for event in events if event["label"] == "pop"]
    assert len(sounds) == len(POPS)
    assert sounds[1]["start"] - sounds[0]["start"] == pytest.approx(POPS[1] - POPS[0], abs=0.02)
    # A busy machine opens the file before the page listens, never after.
    assert 0 < sounds[0]["start"] < POPS[0] + 0.2

    final = [event for event in told if event["type"] == "event" and event["final"]]
    assert [event["label"] for event in final] == [event["label"] for event in events]
    for live, event in zip(final, events, strict=True):
        assert live["start"] == pytest.approx(event["start"], abs=0.002)
    for sound in sounds:
        assert f"pop at {sound['start']:.1f} s" in drawn

    assert tab.locator("#result .events li").count() == len(events)
    assert f"{sounds[0]['start']:.2f} s" in tab.locator("#result figcaption").inner_text()
    # In one go: on a busy machine the sound has ended before a second question is asked.
    pressed = tab.evaluate(
        "document.querySelector('#result .events button').click(),"
        " document.querySelector('#result .mark').getAttribute('aria-pressed')"
    )
    assert pressed == "true"
    page = visit.saved("Save as a page").decode()
    assert heading in page
    assert f"{sounds[0]['start']:.2f} s" in page
    visit.check_manners()
    visit.close()
    browser.close()


def check_samples(audio: bytes) -> None:
    """The take holds what the microphone gave, untouched."""
    with soundfile.SoundFile(io.BytesIO(audio)) as file:
        assert file.channels == 1
        assert file.subtype == "PCM_24"
        samples, rate = file.read(dtype="float32"), file.samplerate
    played = twist(POPS, 6.0)
    # The fake microphone resamples on its way, and starts a little before or after the recorder.
    expected = np.interp(np.arange(len(samples)) / rate, np.arange(len(played)) / RATE, played)
    window = expected[round(2.0 * rate) : round(4.0 * rate)]
    products = correlate(samples, window, "valid", "fft")
    energy = correlate(samples**2, np.ones(len(window)), "valid", "fft")
    assert (products / np.sqrt(energy * (window**2).sum())).max() > 0.8


def test_an_emergency_stops_everything_at_once(visit: Callable[..., Visit]) -> None:
    page = visit(viewport=PHONE)
    page.walk("#emergency h1", bladder_bowel="yes")
    assert page.heading() == "Get emergency help now"
    words = page.tab.locator("main").inner_text()
    assert "Call 999" in words
    assert "pee or poo" in words
    for absent in ("twist", "Record", "Next", "exercise", "6 weeks"):
        assert absent not in words
    assert page.tab.is_hidden("#progress")
    page.tab.reload()
    page.tab.wait_for_selector("#emergency h1")
    assert page.heading() == "Get emergency help now"
    page.tab.click("text=I gave a wrong answer")
    page.tab.wait_for_selector("#screen h1:visible")
    page.tab.click("#bladder_bowel-no")
    page.tab.wait_for_selector("#bladder_bowel-no", state="detached")
    page.to_the_invitation()
    page.tab.click("#how-skip")
    page.to_the_result()
    assert "an answer that you gave first" in page.tab.locator("#result").inner_text().lower()
    page.check_manners()


def test_an_emergency_needs_no_network(visit: Callable[..., Visit]) -> None:
    page = visit()
    page.walk("#chest_or_abdomen-yes")
    page.tab.route("**/api/**", lambda route: route.abort())
    page.tab.click("#chest_or_abdomen-yes")
    page.tab.wait_for_selector("#emergency h1")
    assert page.heading() == "Get emergency help now"


def test_a_late_answer_of_the_server_pulls_nobody_back(visit: Callable[..., Visit]) -> None:
    page = visit()
    page.walk("#bladder_bowel-yes")
    held: list[Any] = []
    page.tab.route("**/api/v1/advice", lambda route: held.append(route))
    with page.tab.expect_request("**/api/v1/advice"):
        page.tab.click("#bladder_bowel-yes")
    page.tab.click("text=I gave a wrong answer")
    page.tab.wait_for_selector("#screen h1:visible")
    with page.tab.expect_response("**/api/v1/advice"):
        held[0].continue_()
    page.tab.wait_for_timeout(300)
    assert "#ask" in page.tab.url


@pytest.mark.parametrize(
    ("answers", "invited"),
    [
        ({}, True),
        ({"chest_or_abdomen": "left_out"}, False),
        ({"chest_or_abdomen": "unsure"}, False),
        ({"trauma": "minor"}, False),
    ],
    ids=["no trouble", "one left out", "one not sure", "a fall"],
)
def test_who_is_invited_to_twist(
    visit: Callable[..., Visit], answers: dict[str, str], invited: bool
) -> None:
    page = visit()
    page.to_the_invitation(**answers)
    assert page.tab.is_visible("#how-record") == invited
    assert page.tab.is_visible("#invitation") == invited
    assert page.tab.is_visible("#no-twist") != invited


def test_keyboard_alone(launch: Launch, site: str) -> None:
    browser = launch()
    visit = Visit(browser, site, permissions=["microphone"])
    keys = visit.tab.keyboard

    def focused() -> str:
        return str(visit.tab.evaluate("document.activeElement.id"))

    def go_to(target: str) -> None:
        for _ in range(60):
            if focused() == target:
                return
            keys.press("Tab")
        raise AssertionError(f"Tab never reached {target}")

    def clear_screen() -> None:
        title = visit.title()
        options = visit.options()
        go_to(next(each for each in options if each.rpartition("-")[2] in (*CLEAR, "next")))
        keys.press("Enter")
        visit.tab.wait_for_function(
            "(title) => document.querySelector('section:not([hidden]) h1')?.textContent !== title",
            arg=title,
        )

    go_to("begin")
    keys.press("Enter")
    visit.tab.wait_for_selector("#screen h1")
    while visit.tab.is_visible("#screen h1"):
        clear_screen()
    go_to("how-record")
    keys.press("Enter")
    visit.tab.wait_for_selector("#start:visible")
    go_to("guided")
    keys.press("Space")
    keys.press("Shift+Tab")
    for _ in range(8):
        if focused() == "start":
            break
        keys.press("Shift+Tab")
    keys.press("Enter")
    visit.tab.wait_for_selector("#stop:visible")
    visit.tab.wait_for_timeout(4500)
    assert focused() == "stop"
    keys.press("Enter")
    visit.tab.wait_for_selector("#use:visible")
    assert focused() == "use"
    keys.press("Enter")
    visit.tab.wait_for_selector("#heard-next:visible", timeout=60_000)
    visit.tab.wait_for_function(  # the focus comes to the step after the step is shown
        "() => document.activeElement.closest('section')?.querySelector('#heard-next')"
    )
    go_to("heard-next")
    keys.press("Enter")
    visit.tab.wait_for_selector("#screen h1:visible")
    visit.to_the_result()
    assert visit.heading()
    visit.check_manners()
    browser.close()


def test_the_guide_leads_through_and_ends_by_itself(visit: Callable[..., Visit]) -> None:
    page = visit(permissions=["microphone"])
    short = [
        {"kind": "quiet", "turn": 0, "seconds": 0.5, "cues": [cue("quiet", "Stay still")]},
        {"kind": "turn", "turn": 1, "seconds": 1.0, "cues": [cue("turn", "Turn")]},
    ]

    def shortened(route: Any) -> None:
        response = route.fetch()
        route.fulfill(response=response, json=response.json() | {"protocol": short})

    page.tab.route("**/api/v1/questions*", shortened)
    page.tab.reload()
    page.to_the_invitation()
    page.tab.click("#how-record")
    page.tab.click("#start")
    page.tab.wait_for_selector("#guide:has-text('Starting in 3')")
    page.tab.wait_for_selector("#guide:has-text('Stay still')")
    page.tab.wait_for_selector("#guide:has-text('Turn')")
    # Nothing to tap: what was heard comes by itself.
    page.tab.wait_for_selector("#heard-title:visible", timeout=60_000)
    page.tab.click("#heard-next")
    page.to_the_result()
    saved = io.BytesIO(page.saved("Save the recording"))
    phases = extract(saved).phases
    assert [(phase.kind, phase.turn) for phase in phases] == [("quiet", 0), ("turn", 1)]
    # Three seconds to bring the phone to the back come first.
    assert phases[0].end == pytest.approx(3.5, abs=0.7)
    page.check_manners()


def cue(kind: str, words: str) -> dict[str, Any]:
    return {"after": 0, "kind": kind, "words": words, "spoken": words}


def test_a_take_can_be_made_again(visit: Callable[..., Visit]) -> None:
    page = visit(permissions=["microphone"])
    page.to_the_invitation()
    page.record(1.0)
    page.tab.click("#again")
    assert page.tab.is_visible("#start")
    page.tab.click("#start")
    page.tab.wait_for_timeout(900)
    page.tab.click("#stop")
    page.tab.wait_for_selector("#use:visible")
    page.use()
    page.tab.click("#heard-again")
    page.tab.wait_for_selector("#start:visible")
    page.check_manners()


# The browser asks for the microphone; the person answers when the test calls window.allow().
ASKS = """
const real = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
window.tracks = [];
navigator.mediaDevices.getUserMedia = async (wanted) => {
  await new Promise((resolve) => { window.allow = resolve; });
  const stream = await real(wanted);
  window.tracks.push(...stream.getTracks());
  return stream;
};
"""
# Everything that a call, a locked screen or another program can do to a recording.
KEEPS_HOLD = """
const real = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
navigator.mediaDevices.getUserMedia = async (wanted) => {
  const stream = await real(wanted);
  [window.track] = stream.getTracks();
  return stream;
};
const Context = window.AudioContext;
window.AudioContext = class extends Context {
  constructor(...given) { super(...given); window.sound = this; }
};
"""


def reopened(page: Visit, script: str) -> None:
    page.tab.add_init_script(script)
    page.tab.reload()
    page.to_the_invitation()
    page.tab.click("#how-record")
    page.tab.uncheck("#guided")


@pytest.mark.parametrize("leave", ["#record-skip", "[data-step=record] [data-back]"])
def test_the_microphone_stays_off_when_allowed_after_leaving(
    visit: Callable[..., Visit], leave: str
) -> None:
    page = visit(permissions=["microphone"])
    reopened(page, ASKS)
    page.tab.click("#start")
    page.tab.wait_for_function("() => Boolean(window.allow)")
    page.tab.click(leave)
    page.tab.evaluate("window.allow()")
    page.tab.wait_for_function("() => window.tracks.length > 0")
    page.tab.wait_for_function("() => window.tracks.every((track) => track.readyState === 'ended')")
    page.check_manners()


def test_an_interrupted_recording_says_so_and_keeps_what_there_is(
    visit: Callable[..., Visit],
) -> None:
    page = visit(permissions=["microphone"])
    reopened(page, KEEPS_HOLD)
    for event, seconds in (
        ("window.sound.suspend()", 6),  # in the middle of the guide
        ("window.track.dispatchEvent(new Event('mute'))", 1),
        ("window.track.dispatchEvent(new Event('ended'))", 1),
        ("window.sound.close()", 1),
    ):
        page.tab.click("#start")
        page.tab.wait_for_function(
            f"() => parseInt(document.querySelector('#clock').textContent) >= {seconds}"
        )
        page.tab.evaluate(f"void {event}")
        page.tab.wait_for_selector("#use:visible")
        words = page.tab.locator("#take-text").inner_text()
        assert "kept" in words, event
        told = int(words.split(" seconds")[0].split()[-1])
        assert seconds <= told <= seconds + 2, event
        assert "interrupted" in page.tab.locator("#guide").inner_text(), event
        assert page.tab.evaluate("window.track.readyState") == "ended", event
        page.tab.click("#again")


def test_a_sound_system_that_never_answers_does_not_hang_the_page(
    visit: Callable[..., Visit],
) -> None:
    page = visit(permissions=["microphone"])
    reopened(
        page,
        "AudioContext.prototype.resume = () => new Promise(() => {});"
        "Object.defineProperty(AudioContext.prototype, 'state', { get: () => 'suspended' });",
    )
    page.tab.click("#start")
    page.tab.wait_for_selector("#trouble:visible")
    assert page.tab.is_enabled("#start")


@pytest.mark.parametrize("guided", [True, False])
def test_a_silent_microphone_is_told_within_two_seconds(
    visit: Callable[..., Visit], guided: bool
) -> None:
    page = visit(permissions=["microphone"])
    reopened(page, KEEPS_HOLD)
    page.tab.set_checked("#guided", guided)
    page.tab.click("#start")
    page.tab.wait_for_selector("#stop:visible")
    page.tab.wait_for_timeout(800)
    page.tab.evaluate("void (window.track.enabled = false)")
    page.tab.wait_for_selector("#guide:has-text('No sound comes')", timeout=2600)
    assert "No sound comes in at all" in page.tab.inner_text("#level-words")


def test_the_microphone_is_refused(launch: Launch, site: str, microphone: Path) -> None:
    browser = launch(allowed=False)
    visit = Visit(browser, site)
    tab = visit.tab
    visit.to_the_invitation()
    tab.click("#how-record")
    tab.click("#start")
    tab.wait_for_selector("#trouble:visible")
    assert "may not use the microphone" in tab.locator("#trouble").inner_text()
    tab.set_input_files("#record-file", microphone)
    tab.wait_for_selector("#heard .events")
    tab.click("#heard-next")
    visit.to_the_result()
    assert "Pop" in tab.locator("#result .events").inner_text()
    browser.close()


def test_questions_alone_give_advice(visit: Callable[..., Visit]) -> None:
    page = visit()
    page.to_the_invitation()
    page.tab.click("#how-skip")
    page.to_the_result(fever="left_out", pain="left_out")
    words = page.tab.locator("#result").inner_text()
    assert "No recording was used" in words
    assert "What you did not answer" in words
    page.tab.click("text=Answer more questions")
    page.tab.wait_for_selector("#check-title:visible")
    page.check_manners()


def test_twenty_taps_are_enough_for_a_person_without_trouble(visit: Callable[..., Visit]) -> None:
    page = visit(viewport=PHONE)
    page.to_the_invitation()
    with_sound = 2  # to the microphone, start; the guide ends it, and what was heard comes
    assert page.taps + with_sound <= 12
    page.tab.click("#how-skip")
    page.to_the_result(heard="one_pop")
    assert page.taps + with_sound + 1 <= 20  # and on from what was heard


def test_back_forward_and_reload_lose_nothing(
    visit: Callable[..., Visit], microphone: Path
) -> None:
    page = visit()
    tab = page.tab
    page.walk("#both_legs-no", leg_weakness="no")
    title = page.title()
    tab.go_back()
    tab.wait_for_selector("#leg_weakness-no[aria-pressed=true]")
    tab.go_forward()
    tab.wait_for_selector("#both_legs-no")
    assert page.title() == title
    tab.reload()
    tab.wait_for_selector("#both_legs-no")
    page.to_the_invitation()
    tab.set_input_files("#how-file", microphone)
    tab.wait_for_selector("#heard .events")
    tab.reload()
    tab.wait_for_selector("#heard .events")
    tab.click("#heard-next")
    page.walk("#check-next", pain="dull_ache", severity="4")
    tab.reload()
    tab.wait_for_selector("#answers li")
    words = tab.inner_text("#answers")
    assert "40" in words
    assert "twist.wav" in tab.inner_text("#check-recording")
    tab.click("#check-next")
    tab.wait_for_selector("#result .events")
    tab.reload()
    tab.wait_for_selector("#result .events")
    assert tab.evaluate("localStorage.length") == 0
    page.check_manners()


def test_every_step_stays_when_it_is_loaded_again_and_back_goes_one_back(
    visit: Callable[..., Visit], microphone: Path
) -> None:
    page = visit(permissions=["microphone"])
    tab = page.tab

    def stays() -> None:
        title = page.title()
        tab.reload()
        tab.wait_for_selector("section:not([hidden]) h1:visible")
        assert page.title() == title
        before.append(title)

    def comes_from() -> None:
        tab.go_back()
        tab.wait_for_function(
            "(title) => document.querySelector('section:not([hidden]) h1')?.textContent === title",
            arg=before[-2],
        )
        tab.go_forward()
        tab.wait_for_function(
            "(title) => document.querySelector('section:not([hidden]) h1')?.textContent === title",
            arg=before[-1],
        )

    before: list[str] = []
    stays()
    for button, comes in (("#kept", "#history"), ("#why", "#why-text p")):
        tab.click(button)
        tab.wait_for_selector(comes)
        stays()
        comes_from()
        tab.go_back()
        tab.wait_for_selector("#begin:visible")
        before.append(page.title())
    page.walk("#both_legs-no")
    stays()
    page.to_the_invitation()
    stays()
    tab.click("#how-record")
    tab.wait_for_selector("#start:visible")
    stays()
    comes_from()
    tab.set_input_files("#record-file", microphone)
    tab.wait_for_selector("#heard .events")
    stays()
    comes_from()
    tab.click("#heard-next")
    page.walk("#check-next")
    stays()
    tab.click("#check-next")
    tab.wait_for_selector("#result h1")
    stays()
    comes_from()
    page.check_manners()


def test_starting_again_asks_first_and_clears(visit: Callable[..., Visit]) -> None:
    page = visit()
    page.walk("#both_legs-no")
    page.tab.click("#restart")
    page.tab.click("#restart-no")
    page.tab.wait_for_selector("#both_legs-no:visible")
    page.tab.click("#restart")
    page.tab.click("#restart-yes")
    page.tab.wait_for_selector("#begin:visible")
    assert "saddle" not in page.tab.evaluate("JSON.stringify(sessionStorage)")
    page.check_manners()


def test_a_take_is_unreadable_once_its_tab_is_gone(
    browser: Any, site: str, microphone: Path
) -> None:
    context = browser.new_context()
    first = context.new_page()
    first.goto(site)
    kept = """new Promise((done) => {
      const opening = indexedDB.open('crepitus', 1);
      opening.onupgradeneeded = () => opening.result.createObjectStore('take');
      opening.onsuccess = () => {
        const reading = opening.result.transaction('take').objectStore('take').get('take');
        reading.onsuccess = () => {
          opening.result.close();
          done(reading.result ? [...new Uint8Array(reading.result.data)] : null);
        };
      };
    })"""
    keep = """async (bytes) => (await import('./static/takes.js')).keepTake(
      { blob: new Blob([new Uint8Array(bytes)]), name: 'twist.wav' })"""
    first.evaluate(keep, list(microphone.read_bytes()[:1000]))
    found = first.evaluate(kept)
    assert bytes(found)[:4] != b"RIFF"
    first.close()
    second = context.new_page()
    second.goto(site)
    restored = "async () => (await import('./static/takes.js')).restoreTake()"
    assert second.evaluate(restored) is None
    assert second.evaluate(kept) is None
    context.close()


def test_the_region_follows_the_language_and_can_be_changed(visit: Callable[..., Visit]) -> None:
    page = visit(locale="en-US")
    page.tab.wait_for_selector("#begin:visible")
    assert page.tab.input_value("#region") == "US"
    page.walk("#emergency h1", bladder_bowel="yes")
    assert "Call 911" in page.tab.inner_text("#emergency")
    page.tab.click("text=I gave a wrong answer")
    page.tab.goto(page.site + "/#start")
    page.tab.select_option("#region", "AU")
    page.tab.click("#begin")
    page.walk("#emergency h1", bladder_bowel="yes", both_legs="yes")
    assert "Call 000" in page.tab.inner_text("#emergency")


def test_a_visit_is_kept_compared_shown_and_deleted(
    visit: Callable[..., Visit], microphone: Path
) -> None:
    page = visit(viewport=PHONE)
    tab = page.tab
    page.to_the_invitation()
    tab.set_input_files("#how-file", microphone)
    tab.wait_for_selector("#heard .events")
    tab.click("#heard-next")
    page.to_the_result(pain="brief")
    tab.check("#keep-sound")
    tab.click("#keep-visit")
    tab.wait_for_selector(".keep [role=status]")
    tab.reload()
    tab.wait_for_selector(".keep [role=status]")
    assert not tab.locator("#keep-visit").count(), "the same visit would be kept twice"
    again = {"audio": ("again.wav", sound_file(twist(())))}
    httpx.post(f"{page.site}/api/v1/history", files=again, timeout=60).raise_for_status()

    tab.goto(page.site)
    tab.click("#kept")
    tab.wait_for_selector(".visits > li")
    latest, first = tab.locator(".visits > li").all()
    assert "2 pops" in first.inner_text()
    first.locator("button:has-text('Listen')").click()
    first.locator("audio").wait_for()
    latest.locator("button:has-text('Compare')").click()
    words = latest.locator(".notice").inner_text()
    assert "2 in the first take, 0 in the second" in words
    assert "would mean that they differ" in words
    assert violations(tab) == []
    with page.context.expect_page() as opened:
        tab.click("#doctor-open")
    doctor = opened.value
    doctor.wait_for_selector("h3")
    assert "serif" not in doctor.evaluate("getComputedStyle(document.body).fontFamily").split(",")
    assert not re.search(r"\b(better|worse|improved)\b", tab.inner_text("main").lower())
    doctor.close()
    tab.fill("#doctor-to", "2001-01-01")
    assert "to=2001-01-01" in str(tab.get_attribute("#doctor-open", "href"))
    latest.locator("button:has-text('Delete')").click()
    tab.click("#delete-no")
    latest.locator("button:has-text('Delete')").click()
    tab.click("#delete-yes")
    tab.wait_for_function("() => document.querySelectorAll('.visits > li').length === 1")
    tab.click("text=Delete everything")
    tab.click("#delete-yes")
    tab.wait_for_selector("#history:has-text('Nothing is kept yet')")
    assert httpx.get(f"{page.site}/api/v1/history").json()["entries"] == []
    page.check_manners()


def test_a_copy_for_offline_use_holds_the_page_and_nothing_else(
    visit: Callable[..., Visit],
) -> None:
    page = visit(viewport=PHONE, locale="en-US")
    tab = page.tab
    site = f"{page.site}/"
    copied = """async () => {
      const found = [];
      for (const name of await caches.keys()) {
        for (const { url } of await (await caches.open(name)).keys()) found.push(url);
      }
      return found;
    }"""
    faults = page.context.new_cdp_session(tab).send("Page.getInstallabilityErrors")
    # Any page in a test's private window has this one, and only this one.
    assert {fault["errorId"] for fault in faults["installabilityErrors"]} <= {"in-incognito"}
    assert tab.evaluate(copied) == [], "nothing is copied unless asked for"
    tab.click("#offline-copy")
    tab.wait_for_selector("#offline-copy:has-text('Remove')")
    tab.evaluate("() => navigator.serviceWorker.ready.then(() => null)")
    tab.reload()
    page.walk("#both_legs-no")
    found = set(tab.evaluate(copied))
    loaded = {url.partition("#")[0] for url in page.asked if "/api/" not in url}
    assert loaded - found <= {f"{site}manifest.webmanifest", f"{site}service-worker.js"}
    assert all(url == site or url.startswith(f"{site}static/") for url in found)
    page.context.set_offline(True)
    tab.reload()
    tab.wait_for_selector("#offline h1")
    assert "Call 911" in tab.inner_text("#offline")
    page.context.set_offline(False)
    tab.click("#offline-again")
    tab.wait_for_selector("#both_legs-no")
    tab.goto(f"{site}#start")
    tab.click("#offline-copy")
    tab.wait_for_selector("#offline-copy:has-text('Keep')")
    assert tab.evaluate(copied) == []
    kept = "() => navigator.serviceWorker.getRegistrations().then((all) => all.length)"
    assert tab.evaluate(kept) == 0


def test_the_page_is_read_in_another_language(
    visit: Callable[..., Visit], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A catalogue whose every text is marked: whatever lacks the mark was never translated."""
    english = (messages.MESSAGES / "en.toml").read_text(encoding="utf-8")
    head, _, rest = english.partition("[levels.emergency]")
    before, _, rest = rest.partition("[regions.GB]")
    regions, _, after = rest.partition("[questions.trauma]")
    marked = [
        re.sub(r'^(\w[\w-]* = |  )"', '\\1"\u00bb', part, flags=re.M) for part in (before, after)
    ]
    foreign = (
        f"{head}[levels.emergency]{marked[0]}[regions.GB]{regions}[questions.trauma]{marked[1]}"
    )
    (tmp_path / "en.toml").write_text(english, encoding="utf-8")
    (tmp_path / "eo.toml").write_text(foreign.replace('name = "English"', 'name = "Esperanto"', 1))
    monkeypatch.setattr(messages, "MESSAGES", tmp_path)
    written_page.cache_clear()
    page = visit(locale="eo")
    tab = page.tab
    assert tab.evaluate("document.documentElement.lang") == "eo"
    plain = """() => {
      const found = [];
      const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
      while (walk.nextNode()) {
        const node = walk.currentNode;
        const parent = node.parentElement;
        const whole = parent.closest("li, p, button, h1, h2, label, summary") ?? parent;
        if (!parent.checkVisibility() || !/[a-z]{3}/i.test(node.data)) continue;
        if (parent.closest(".brand, #region, #language, a, li:has(a)")) continue;
        if (/^[A-Z0-9]+: /.test(whole.textContent)) continue; // a source keeps its title
        if (!whole.textContent.includes("\u00bb")) found.push(node.data);
      }
      return found;
    }"""
    assert tab.evaluate(plain) == []
    page.walk("#both_legs-no")
    assert tab.evaluate(plain) == []
    page.to_the_invitation()
    assert tab.evaluate(plain) == []
    tab.click("#how-record")
    assert tab.evaluate(plain) == []
    tab.click("#record-skip")
    page.to_the_result(pain="sharp_or_burning", severity="8")
    for details in tab.locator("#result details").all():
        details.evaluate("node => { node.open = true; }")
    assert tab.evaluate(plain) == []
    tab.goto(f"{page.site}/#start")
    tab.wait_for_selector("#begin:visible")
    tab.select_option("#language", "en")
    tab.wait_for_function("() => document.documentElement.lang === 'en'")
    assert tab.inner_text("#start-title") == "Why does my back crack when I twist?"
    written_page.cache_clear()


def test_an_interrupted_upload_is_sent_again(visit: Callable[..., Visit], microphone: Path) -> None:
    page = visit()
    page.to_the_invitation()
    tries = []

    def fail_first(route: Any) -> None:
        tries.append(route.request.url)
        if len(tries) == 1:
            route.abort("connectionreset")
        elif len(tries) == 2:
            route.fulfill(status=503, headers={"Retry-After": "1"}, json={"error": "busy"})
        else:
            route.continue_()

    page.tab.route("**/api/v1/analyses", fail_first)
    page.tab.set_input_files("#how-file", microphone)
    page.tab.wait_for_selector("#heard .events")
    assert len(tries) == 3


def test_a_lost_server_is_told_and_nothing_is_lost(
    visit: Callable[..., Visit], microphone: Path
) -> None:
    page = visit()
    page.to_the_invitation()
    page.tab.route("**/api/v1/analyses", lambda route: route.abort())
    page.tab.set_input_files("#how-file", microphone)
    page.tab.wait_for_selector("#trouble-retry:visible", timeout=30_000)
    assert "cannot be reached" in page.tab.locator("#trouble").inner_text()
    page.tab.unroute("**/api/v1/analyses")
    page.tab.click("#trouble-retry")
    page.tab.wait_for_selector("#heard .events")


def test_a_file_that_is_no_recording_is_no_dead_end(
    visit: Callable[..., Visit], tmp_path: Path, microphone: Path
) -> None:
    page = visit()
    page.to_the_invitation()
    wrong = tmp_path / "letter.wav"
    wrong.write_text("Dear doctor")
    page.tab.set_input_files("#how-file", wrong)
    page.tab.wait_for_selector("#trouble:has-text('cannot be read')")
    page.tab.set_input_files("#how-file", microphone)
    page.tab.wait_for_selector("#heard .events")


def test_what_the_browser_does_to_the_sound_is_told(visit: Callable[..., Visit]) -> None:
    page = visit(permissions=["microphone"])
    page.tab.add_init_script(
        "const read = MediaStreamTrack.prototype.getSettings;"
        "MediaStreamTrack.prototype.getSettings = function () {"
        "  return { ...read.call(this), noiseSuppression: true };"
        "};"
    )
    page.tab.reload()
    page.to_the_invitation()
    page.record(1.5)
    assert "noise suppression" in page.tab.locator("#processing").inner_text()
    page.use()
    assert "noise suppression" in page.tab.locator("#heard").inner_text()
    page.tab.click("#heard-next")
    page.to_the_result()
    assert "The browser changed the sound" in page.tab.locator("#result").inner_text()


def test_without_an_audio_worklet_the_browsers_recorder_is_used(launch: Launch, site: str) -> None:
    browser = launch()
    visit = Visit(browser, site, permissions=["microphone"])
    visit.tab.add_init_script(
        "Object.defineProperty(BaseAudioContext.prototype, 'audioWorklet', { value: undefined });"
    )
    visit.tab.reload()
    visit.to_the_invitation()
    visit.record(5.5)
    visit.use()
    assert visit.tab.evaluate("window.sent.get('audio').type") == "audio/webm"
    assert visit.tab.locator("#heard .events li.event-pop").count() == len(POPS)
    visit.check_manners()
    browser.close()


def test_a_phone_over_https(launch: Launch) -> None:
    """As after scanning the code: another host name, a secret in the address, TLS."""
    service = Service(host="0.0.0.0", port=0, https=True, settings=ServerSettings(workers=1))
    assert service.pairing is not None
    address = f"https://127.0.0.1:{service.port}/{service.pairing.secret}/"
    with started(service):
        browser = launch()
        visit = Visit(
            browser, address, viewport=PHONE, permissions=["microphone"], ignore_https_errors=True
        )
        visit.to_the_invitation()
        visit.record(4.0)
        visit.use()
        visit.tab.wait_for_selector("#heard .events", timeout=60_000)
        visit.check_manners()
        visit.tab.goto(address)
        visit.tab.wait_for_selector("#begin:visible")
        # Nothing is kept unless the computer was told to, and a phone installs nothing.
        assert visit.tab.is_hidden("#kept")
        assert visit.tab.is_hidden("#offline-copy")
        browser.close()


def violations(tab: Any) -> list[str]:
    """Return what axe finds, in one line each."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    found = axe.Axe().run(tab).response["violations"]
    return [
        f"{each['impact']} {each['id']}: {each['nodes'][0]['html']:.200} ({len(each['nodes'])})"
        for each in found
    ]


@pytest.mark.parametrize(
    ("viewport", "scheme"), [(DESKTOP, "light"), (PHONE, "dark")], ids=["desktop", "phone"]
)
def test_axe_finds_nothing(
    visit: Callable[..., Visit], microphone: Path, viewport: dict[str, int], scheme: str
) -> None:
    page = visit(viewport=viewport, color_scheme=scheme, permissions=["microphone"])
    tab = page.tab
    found = {"start": violations(tab)}
    tab.click("#why")
    tab.wait_for_selector("#why-title:visible")
    found["why"] = violations(tab)
    tab.go_back()
    page.walk("#bladder_bowel-no")
    found["ask"] = violations(tab)
    page.to_the_invitation()
    found["how"] = violations(tab)
    page.record(1.0)
    found["record"] = violations(tab)
    tab.set_input_files("#record-file", microphone)
    tab.wait_for_selector("#heard .events")
    found["heard"] = violations(tab)
    tab.click("#heard-next")
    page.walk("#none-next")
    found["ticks"] = violations(tab)
    page.walk("#check-next")
    found["check"] = violations(tab)
    tab.click("#check-next")
    tab.wait_for_selector("#result .events")
    for details in tab.locator("details").all():
        details.evaluate("node => { node.open = true; }")
    found["result"] = violations(tab)
    tab.click("#restart")
    tab.click("#restart-yes")
    tab.wait_for_selector("#begin:visible")
    page.walk("#emergency h1", both_legs="yes")
    found["emergency"] = violations(tab)
    tab.goto(page.site + "/docs")
    tab.wait_for_selector("#operations h2")
    found["docs"] = violations(tab)
    assert {step: lines for step, lines in found.items() if lines} == {}
    page.check_manners()


@pytest.mark.parametrize(("width", "text"), [(320, 200), (360, 200), (390, 200)])
def test_every_step_fits_and_every_target_is_large_enough(
    visit: Callable[..., Visit], microphone: Path, width: int, text: int
) -> None:
    page = visit(viewport={"width": width, "height": 640})
    tab = page.tab
    # As a browser's larger text does: it changes the size that rem counts in.
    tab.add_init_script(
        "addEventListener('DOMContentLoaded', () => {"
        f"  document.documentElement.style.fontSize = '{1.125 * text}%';"
        "});"
    )
    tab.reload()
    tab.wait_for_selector("#begin:visible")

    def check() -> None:
        wide = tab.evaluate(
            """() => [...document.querySelectorAll('body *')].filter((node) =>
                 node.checkVisibility() && !node.closest('.sr-only, .skip-link, .marks')
                 && node.getBoundingClientRect().right > innerWidth + 1)
               .map((node) => node.outerHTML.slice(0, 80))"""
        )
        assert tab.evaluate("document.documentElement.scrollWidth") <= width, wide[:3]
        small = tab.evaluate(
            """[...document.querySelectorAll("button, input, summary, .button")]
              .filter((node) => node.checkVisibility() && !node.closest(".file"))
              .filter((node) => {
                const box = (node.labels?.[0] ?? node).getBoundingClientRect();
                return box.width < 24 || box.height < 24;
              }).map((node) => node.outerHTML.slice(0, 120))"""
        )
        assert small == []

    check()
    page.walk("#bladder_bowel-no")
    check()
    page.to_the_invitation()
    check()
    tab.click("#how-record")
    check()
    tab.set_input_files("#record-file", microphone)
    tab.wait_for_selector("#heard .events")
    check()
    tab.click("#heard-next")
    page.walk("#none-next")
    check()
    page.walk("#check-next")
    check()
    tab.click("#check-next")
    tab.wait_for_selector("#result .events")
    check()


def test_a_saved_report_opens_anywhere(
    browser: Any, site: str, microphone: Path, tmp_path: Path
) -> None:
    files = {"audio": ("twist.wav", microphone.read_bytes())}
    data = {"answers": "{}", "embed": "yes"}
    saved = tmp_path / "report.html"
    saved.write_text(httpx.post(f"{site}/api/v1/reports", files=files, data=data, timeout=60).text)
    context = browser.new_context(viewport=PHONE)
    tab = context.new_page()
    complaints: list[str] = []
    tab.on("console", lambda message: complaints.append(message.text))
    tab.on("pageerror", lambda error: complaints.append(str(error)))
    asked: list[str] = []
    tab.on("request", lambda request: asked.append(request.url))
    tab.goto(saved.as_uri())
    tab.wait_for_function("document.querySelector('audio').readyState > 0")
    tab.click("text=Play 1")
    tab.wait_for_function("document.querySelector('audio').currentTime > 0.5")
    assert complaints == []
    assert all(url.startswith(("file:", "data:")) for url in asked)
    assert tab.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    assert violations(tab) == []
    context.close()
