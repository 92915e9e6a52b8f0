"""The page in a real browser, with a sound file as its microphone.

Needs Chromium; the checks for accessibility also need ``axe-playwright-python``.
"""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import soundfile
from scipy.signal import correlate
from server_support import RATE, running, started, twist

from audio_pipeline.analysis.assessment import analyses_to_dict, assess
from audio_pipeline.analysis.pipeline import analyze_file, extract
from audio_pipeline.app.server.app import Service
from audio_pipeline.app.server.guards import ServerSettings
from audio_pipeline.app.server.worker import NamedBytes
from audio_pipeline.model.classifier import load_classifier
from audio_pipeline.triage.answers import parse_answers

playwright = pytest.importorskip("playwright.sync_api")

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
POPS = (2.2, 3.7)
PHONE = {"width": 360, "height": 740}
DESKTOP = {"width": 1200, "height": 800}
CLEAR = (
    "saddle_numbness-no",
    "bladder_bowel-no",
    "both_legs-no",
    "leg_weakness-no",
    "trauma-none",
    "chest_or_abdomen-no",
)

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


def named(audio: bytes, name: str) -> NamedBytes:
    stream = NamedBytes(audio)
    stream.name = name
    return stream


@pytest.fixture(scope="module")
def site() -> Iterator[str]:
    with running(Service(port=0, settings=ServerSettings(workers=1))) as client:
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
        self.tab.goto(site)
        self.tab.wait_for_selector("#first-questions fieldset")

    def _note(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(message.text)

    def answer(self, *options: str) -> None:
        for option in options:
            self.tab.check(f"#{option}")

    def clear_first_questions(self) -> None:
        self.answer(*CLEAR)
        self.tab.click("#first-next")

    def record(self, seconds: float) -> None:
        self.tab.click("#how-record")
        self.tab.uncheck("#guided")
        self.tab.click("#start")
        self.tab.wait_for_selector("#stop")
        self.tab.wait_for_timeout(1000 * seconds)
        self.tab.click("#stop")
        self.tab.wait_for_selector("#use")

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


@pytest.mark.parametrize("viewport", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_the_whole_way(launch: Launch, site: str, viewport: dict[str, int]) -> None:
    browser = launch()
    visit = Visit(browser, site, viewport=viewport, permissions=["microphone"])
    tab = visit.tab
    visit.clear_first_questions()
    assert visit.heading() == "How to record"
    visit.record(5.5)
    tab.click("#use")
    assert visit.heading() == "More questions"
    visit.answer("pain-sharp_or_burning", "severity-8", "trend-worse", "fever-no")
    with tab.expect_response("**/api/v1/analyses") as received:
        tab.click("#more-next")
    tab.wait_for_selector("#result h1")
    assert visit.heading() == "Get medical advice today"

    capture = json.loads(tab.evaluate("window.sent.get('capture')"))
    assert not any(capture[name] for name in ("echoCancellation", "noiseSuppression"))
    answers = json.loads(tab.evaluate("window.sent.get('answers')"))
    assert answers["severity"] == 8
    result = received.value.json()
    audio = visit.saved("Save the recording")
    classifier = load_classifier()
    analysis = analyze_file(named(audio, "twist.wav"), classifier)
    expected = analyses_to_dict([assess(analysis, parse_answers(answers))], classifier)
    assert result == json.loads(json.dumps(expected))
    assert json.loads(visit.saved("Save for programs")) == result

    events = result["recordings"][0]["events"]
    sounds = [event for event in events if event["label"] == "pop"]
    assert len(sounds) == len(POPS)
    assert sounds[1]["start"] - sounds[0]["start"] == pytest.approx(POPS[1] - POPS[0], abs=0.02)
    # A busy machine opens the file before the page listens, never after.
    assert 0 < sounds[0]["start"] < POPS[0] + 0.2

    assert tab.locator(".events li").count() == len(events)
    assert f"{sounds[0]['start']:.2f} s" in tab.locator("figcaption").inner_text()
    # In one go: on a busy machine the sound has ended before a second question is asked.
    pressed = tab.evaluate(
        "document.querySelector('.events button').click(),"
        " document.querySelector('.mark').getAttribute('aria-pressed')"
    )
    assert pressed == "true"
    page = visit.saved("Save as a page").decode()
    assert "Get medical advice today" in page
    assert f"{sounds[0]['start']:.2f} s" in page
    visit.check_manners()
    visit.close()
    browser.close()


def test_the_saved_samples_are_what_the_microphone_gave(launch: Launch, site: str) -> None:
    browser = launch()
    visit = Visit(browser, site, permissions=["microphone"])
    visit.clear_first_questions()
    visit.record(5.0)
    visit.tab.click("#use")
    visit.tab.click("#more-next")
    visit.tab.wait_for_selector("#result h1")
    with soundfile.SoundFile(io.BytesIO(visit.saved("Save the recording"))) as file:
        assert file.channels == 1
        assert file.subtype == "PCM_24"
        samples, rate = file.read(dtype="float32"), file.samplerate
    browser.close()
    played = twist(POPS, 6.0)
    # The fake microphone resamples on its way, and starts a little before or after the recorder.
    expected = np.interp(np.arange(len(samples)) / rate, np.arange(len(played)) / RATE, played)
    window = expected[round(2.0 * rate) : round(4.0 * rate)]
    products = correlate(samples, window, "valid", "fft")
    energy = correlate(samples**2, np.ones(len(window)), "valid", "fft")
    assert (products / np.sqrt(energy * (window**2).sum())).max() > 0.8


@pytest.mark.parametrize("viewport", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_an_emergency_stops_everything_at_once(
    visit: Callable[..., Visit], viewport: dict[str, int]
) -> None:
    page = visit(viewport=viewport)
    page.answer("saddle_numbness-no", "bladder_bowel-yes")
    page.tab.wait_for_selector("#emergency")
    assert page.heading() == "Get emergency help now"
    words = page.tab.locator("main").inner_text()
    assert "Call 999" in words
    assert "pee or poo" in words
    for absent in ("twist", "Record", "Next", "exercise"):
        assert absent not in words
    assert page.tab.locator("#steps").is_hidden()
    page.tab.reload()
    page.tab.wait_for_selector("#emergency")
    assert page.heading() == "Get emergency help now"
    page.tab.click("text=I gave a wrong answer")
    assert page.tab.is_checked("#bladder_bowel-yes")
    page.answer("bladder_bowel-no", *CLEAR)
    page.tab.click("#first-next")
    page.tab.click("#how-skip")
    page.tab.click("#more-next")
    page.tab.wait_for_selector("#result h1")
    assert "an answer that you gave first" in page.tab.locator("#result").inner_text().lower()
    page.check_manners()


def test_an_emergency_needs_no_network(visit: Callable[..., Visit]) -> None:
    page = visit()
    page.tab.route("**/api/**", lambda route: route.abort())
    page.answer("chest_or_abdomen-yes")
    page.tab.wait_for_selector("#emergency")
    assert page.heading() == "Get emergency help now"


@pytest.mark.parametrize(
    ("answers", "invited"),
    [
        (CLEAR, True),
        (CLEAR[:-1], False),
        ((*CLEAR[:-1], "chest_or_abdomen-unsure"), False),
        ((*CLEAR[:4], "trauma-minor", CLEAR[-1]), False),
        ((), False),
    ],
    ids=["all clear", "one left out", "one not sure", "a fall", "none"],
)
def test_who_is_invited_to_twist(
    visit: Callable[..., Visit], answers: tuple[str, ...], invited: bool
) -> None:
    page = visit()
    page.answer(*answers)
    page.tab.click("#first-next")
    page.tab.wait_for_selector("#invitation" if invited else "#no-twist")
    assert page.tab.is_visible("#how-record") == invited
    assert page.tab.is_visible("#invitation") == invited
    assert page.tab.is_visible("#how-skip")


def test_keyboard_alone(launch: Launch, site: str) -> None:
    browser = launch()
    visit = Visit(browser, site, permissions=["microphone"])
    keys = visit.tab.keyboard

    def focused() -> str:
        return str(visit.tab.evaluate("document.activeElement.id"))

    def go_to(target: str) -> None:
        for _ in range(120):
            if focused() == target:
                return
            keys.press("Tab")
        raise AssertionError(f"Tab never reached {target}")

    for option in CLEAR:
        # A radio group is entered at its first option, and Space takes that.
        question = option.rpartition("-")[0]
        go_to(f"{question}-{visit.tab.locator(f'[name={question}]').first.get_attribute('value')}")
        keys.press("Space")
    go_to("first-next")
    keys.press("Enter")
    visit.tab.wait_for_selector("#how-record")
    go_to("how-record")
    keys.press("Enter")
    go_to("guided")
    keys.press("Space")
    go_to("start")
    keys.press("Enter")
    visit.tab.wait_for_selector("#stop")
    visit.tab.wait_for_timeout(4500)
    assert focused() == "stop"
    keys.press("Enter")
    visit.tab.wait_for_selector("#use")
    assert focused() == "use"
    keys.press("Enter")
    go_to("pain-none")
    keys.press("ArrowDown")
    assert visit.tab.is_checked("#pain-brief")
    go_to("more-next")
    keys.press("Enter")
    visit.tab.wait_for_selector("#result h1")
    assert visit.heading()
    visit.check_manners()
    browser.close()


def test_the_guide_leads_through_and_ends_by_itself(visit: Callable[..., Visit]) -> None:
    page = visit(permissions=["microphone"])
    short = [
        {"kind": "quiet", "turn": 0, "seconds": 0.5, "cues": [{"after": 0, "words": "Stay still"}]},
        {"kind": "turn", "turn": 1, "seconds": 1.0, "cues": [{"after": 0, "words": "Turn"}]},
    ]

    def shortened(route: Any) -> None:
        response = route.fetch()
        route.fulfill(response=response, json=response.json() | {"protocol": short})

    page.tab.route("**/api/v1/questions", shortened)
    page.tab.reload()
    page.tab.wait_for_selector("#first-questions fieldset")
    page.clear_first_questions()
    page.tab.click("#how-record")
    page.tab.click("#start")
    page.tab.wait_for_selector("#guide:has-text('Stay still')")
    page.tab.wait_for_selector("#guide:has-text('Turn')")
    page.tab.wait_for_selector("#use")
    page.tab.click("#use")
    page.tab.click("#more-next")
    page.tab.wait_for_selector("#result h1")
    saved = named(page.saved("Save the recording"), "twist.wav")
    phases = extract(saved).phases
    assert [(phase.kind, phase.turn) for phase in phases] == [("quiet", 0), ("turn", 1)]
    assert phases[0].end == pytest.approx(0.5, abs=0.2)
    page.check_manners()


def test_a_take_can_be_made_again(visit: Callable[..., Visit]) -> None:
    page = visit(permissions=["microphone"])
    page.clear_first_questions()
    page.record(1.0)
    page.tab.click("#again")
    assert page.tab.is_visible("#start")
    page.tab.click("#start")
    page.tab.wait_for_timeout(600)
    page.tab.click("#stop")
    page.tab.wait_for_selector("#use")
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
    page.tab.wait_for_selector("#first-questions fieldset")
    page.clear_first_questions()
    page.tab.click("#how-record")


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


@pytest.mark.parametrize(
    "event",
    [
        "window.sound.suspend()",
        "window.track.dispatchEvent(new Event('mute'))",
        "window.track.dispatchEvent(new Event('ended'))",
        "window.sound.close()",
    ],
)
def test_an_interrupted_recording_says_so_and_keeps_what_there_is(
    visit: Callable[..., Visit], event: str
) -> None:
    page = visit(permissions=["microphone"])
    reopened(page, KEEPS_HOLD)
    page.tab.click("#start")
    page.tab.wait_for_timeout(2500)
    page.tab.evaluate(f"void {event}")
    page.tab.wait_for_selector("#use:visible")
    words = page.tab.locator("#take-text").inner_text()
    assert "kept" in words
    told = int(words.split(" seconds")[0].split()[-1])
    assert told in (2, 3)
    assert page.tab.is_visible("#again")
    assert "interrupted" in page.tab.locator("#guide").inner_text()
    assert page.tab.evaluate("window.track.readyState") == "ended"


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


def test_the_microphone_is_refused(launch: Launch, site: str, microphone: Path) -> None:
    browser = launch(allowed=False)
    visit = Visit(browser, site)
    tab = visit.tab
    visit.clear_first_questions()
    tab.click("#how-record")
    tab.click("#start")
    tab.wait_for_selector("#trouble:visible")
    assert "may not use the microphone" in tab.locator("#trouble").inner_text()
    tab.set_input_files("#record-file", microphone)
    assert visit.heading() == "More questions"
    visit.answer("pain-none")
    tab.click("#more-next")
    tab.wait_for_selector("#result .events")
    assert "Pop" in tab.locator(".events").inner_text()
    browser.close()


def test_questions_alone_give_advice(visit: Callable[..., Visit]) -> None:
    page = visit()
    page.clear_first_questions()
    page.tab.click("#how-skip")
    page.tab.click("#more-next")
    page.tab.wait_for_selector("#result h1")
    assert page.heading() == "See someone within a week"
    words = page.tab.locator("#result").inner_text()
    assert "No recording was used" in words
    assert "What you did not answer" in words
    page.tab.click("text=Answer more questions")
    assert page.heading() == "More questions"
    page.check_manners()


def test_a_reload_loses_nothing_and_start_again_clears(visit: Callable[..., Visit]) -> None:
    page = visit()
    page.clear_first_questions()
    page.tab.click("#how-skip")
    page.answer("pain-dull_ache", "severity-4")
    page.tab.fill("#age-number", "51")
    page.tab.reload()
    page.tab.wait_for_selector("#more-questions fieldset")
    assert page.tab.is_visible("#more-title")
    assert page.tab.is_checked("#pain-dull_ache")
    assert page.tab.is_checked("#severity-4")
    assert page.tab.input_value("#age-number") == "51"
    assert page.tab.evaluate("localStorage.length") == 0
    page.tab.click("#restart")
    assert page.tab.evaluate("sessionStorage.length") <= 1
    assert "dull_ache" not in page.tab.evaluate("JSON.stringify(sessionStorage)")
    assert page.tab.locator("input:checked[type=radio]").count() == 0
    page.check_manners()


def test_an_answer_can_be_taken_back(visit: Callable[..., Visit]) -> None:
    page = visit()
    page.answer("trauma-none")
    page.tab.click("#question-trauma .clear")
    assert (
        "trauma" not in page.tab.evaluate("sessionStorage.getItem('crepitus')").split("replaced")[0]
    )
    assert page.tab.locator("#question-trauma input:checked").count() == 0


def test_an_interrupted_upload_is_sent_again(visit: Callable[..., Visit], microphone: Path) -> None:
    page = visit()
    page.clear_first_questions()
    page.tab.set_input_files("#how-file", microphone)
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
    page.tab.click("#more-next")
    page.tab.wait_for_selector("#result h1")
    assert len(tries) == 3


def test_a_lost_server_is_told_and_nothing_is_lost(
    visit: Callable[..., Visit], microphone: Path
) -> None:
    page = visit()
    page.clear_first_questions()
    page.tab.set_input_files("#how-file", microphone)
    page.answer("pain-none")
    page.tab.route("**/api/v1/analyses", lambda route: route.abort())
    page.tab.click("#more-next")
    page.tab.wait_for_selector("#trouble-retry:visible")
    assert "cannot be reached" in page.tab.locator("#trouble").inner_text()
    page.tab.unroute("**/api/v1/analyses")
    page.tab.click("#trouble-retry")
    page.tab.wait_for_selector("#result .events")


def test_a_file_that_is_no_recording_is_told(visit: Callable[..., Visit], tmp_path: Path) -> None:
    page = visit()
    page.clear_first_questions()
    wrong = tmp_path / "letter.wav"
    wrong.write_text("Dear doctor")
    page.tab.set_input_files("#how-file", wrong)
    page.tab.click("#more-next")
    page.tab.wait_for_selector("#trouble:visible")
    assert "cannot be read" in page.tab.locator("#trouble").inner_text()


def test_what_the_browser_does_to_the_sound_is_told(visit: Callable[..., Visit]) -> None:
    page = visit(permissions=["microphone"])
    page.tab.add_init_script(
        "const read = MediaStreamTrack.prototype.getSettings;"
        "MediaStreamTrack.prototype.getSettings = function () {"
        "  return { ...read.call(this), noiseSuppression: true };"
        "};"
    )
    page.tab.reload()
    page.tab.wait_for_selector("#first-questions fieldset")
    page.clear_first_questions()
    page.record(1.5)
    assert "noise suppression" in page.tab.locator("#processing").inner_text()
    page.tab.click("#use")
    page.tab.click("#more-next")
    page.tab.wait_for_selector("#result h1")
    assert "The browser changed the sound" in page.tab.locator("#result").inner_text()


def test_without_an_audio_worklet_the_browsers_recorder_is_used(launch: Launch, site: str) -> None:
    browser = launch()
    visit = Visit(browser, site, permissions=["microphone"])
    visit.tab.add_init_script(
        "Object.defineProperty(BaseAudioContext.prototype, 'audioWorklet', { value: undefined });"
    )
    visit.tab.reload()
    visit.tab.wait_for_selector("#first-questions fieldset")
    visit.clear_first_questions()
    visit.record(5.5)
    visit.tab.click("#use")
    visit.tab.click("#more-next")
    visit.tab.wait_for_selector("#result .events")
    assert visit.tab.evaluate("window.sent.get('audio').type") == "audio/webm"
    assert visit.tab.locator(".events li.event-pop").count() == len(POPS)
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
        visit.clear_first_questions()
        visit.record(4.0)
        visit.tab.click("#use")
        visit.tab.click("#more-next")
        visit.tab.wait_for_selector("#result .events", timeout=60_000)
        visit.check_manners()
        browser.close()


def violations(tab: Any) -> list[str]:
    """Return what axe finds, in one line each."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    found = axe.Axe().run(tab).response["violations"]
    return [
        f"{each['impact']} {each['id']}: {each['nodes'][0]['html']:.200} ({len(each['nodes'])})"
        for each in found
    ]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("viewport", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_axe_finds_nothing(
    visit: Callable[..., Visit], microphone: Path, viewport: dict[str, int], scheme: str
) -> None:
    page = visit(viewport=viewport, color_scheme=scheme, permissions=["microphone"])
    tab = page.tab
    found = {"first": violations(tab)}
    page.clear_first_questions()
    found["how"] = violations(tab)
    page.record(1.0)
    found["record"] = violations(tab)
    tab.set_input_files("#record-file", microphone)
    page.answer("severity-5", "pain-dull_ache")
    found["more"] = violations(tab)
    tab.click("#more-next")
    tab.wait_for_selector("#result .events")
    for details in tab.locator("details").all():
        details.evaluate("node => { node.open = true; }")
    found["result"] = violations(tab)
    tab.click("#restart")
    page.answer("both_legs-yes")
    tab.wait_for_selector("#emergency")
    found["emergency"] = violations(tab)
    tab.goto(page.site + "/docs")
    tab.wait_for_selector("#operations h2")
    found["docs"] = violations(tab)
    assert {step: lines for step, lines in found.items() if lines} == {}
    page.check_manners()


@pytest.mark.parametrize("width", [320, 360, 600])
def test_every_step_fits_and_every_target_is_large_enough(
    visit: Callable[..., Visit], microphone: Path, width: int
) -> None:
    page = visit(viewport={"width": width, "height": 640})
    tab = page.tab

    def check() -> None:
        assert tab.evaluate("document.documentElement.scrollWidth") <= width
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
    page.clear_first_questions()
    check()
    tab.click("#how-record")
    check()
    tab.set_input_files("#record-file", microphone)
    check()
    tab.click("#more-next")
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
