"""The recording with eyes closed: what the page plays, heard by its own microphone.

Whatever the page would play is its microphone's sound here, so the take holds every cue as loud as
it was played: the worst case for the analysis, and the proof that each phase can be followed by
ear alone.
"""

from __future__ import annotations

import io
import itertools
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from server_support import running

from audio_pipeline.analysis.pipeline import analyze_file
from audio_pipeline.app.server.app import Service
from audio_pipeline.app.server.guards import ServerSettings
from audio_pipeline.model.classifier import load_classifier

playwright = pytest.importorskip("playwright.sync_api")
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed"),
]

NOTES = (196.0, 262.0, 330.0, 392.0, 440.0, 523.0)
TURN = [330.0, 440.0, 440.0, 330.0]
GUIDED = [262.0, 262.0, 262.0, 330.0, *TURN, *TURN, 262.0, 196.0]
"""Three counts, quiet, two turns with their way back, quiet."""


# The browser's loudspeaker is led into its microphone, over a little noise as in a quiet room.
LOOP = """
const room = new AudioContext();
const microphone = room.createMediaStreamDestination();
const noise = room.createBufferSource();
noise.buffer = room.createBuffer(1, 2 * room.sampleRate, room.sampleRate);
const samples = noise.buffer.getChannelData(0);
for (let i = 0; i < samples.length; i += 1) samples[i] = 0.0006 * (Math.random() - 0.5);
noise.loop = true;
noise.connect(microphone);
noise.start();
navigator.mediaDevices.getUserMedia = async () => {
  await room.resume();
  return microphone.stream;
};
const send = window.fetch;
window.fetch = (path, options) => {
  if (options?.body instanceof FormData) window.sent = options.body;
  return send(path, options);
};
const connect = AudioNode.prototype.connect;
AudioNode.prototype.connect = function (target, ...more) {
  if (!(target instanceof AudioDestinationNode)) return connect.call(this, target, ...more);
  const out = this.context.createMediaStreamDestination();
  connect.call(this, out);
  connect.call(room.createMediaStreamSource(out.stream), microphone);
  return target;
};
"""


def phases() -> list[dict[str, Any]]:
    def cue(after: float, kind: str) -> dict[str, Any]:
        return {"after": after, "kind": kind, "words": kind, "spoken": kind}

    turns = [
        {"kind": "turn", "turn": n, "seconds": 3.0, "cues": [cue(0, "turn"), cue(1.5, "back")]}
        for n in (1, 2)
    ]
    return [
        {"kind": "quiet", "turn": 0, "seconds": 1.5, "cues": [cue(0, "quiet")]},
        *turns,
        {"kind": "still", "turn": 0, "seconds": 1.5, "cues": [cue(0, "still")]},
    ]


def notes_heard(y: np.ndarray, sr: int) -> list[float]:
    """Return the notes in a recording in order, each once, as an ear would tell them apart."""
    n = round(0.043 * sr)
    hop = n // 4
    frames = np.lib.stride_tricks.sliding_window_view(y, n)[::hop] * np.hanning(n)
    times = np.arange(n) / sr
    tones = np.exp(-2j * np.pi * np.outer(times, NOTES))
    levels = np.abs(frames @ tones) / (n / 4)
    loud = levels.max(axis=1) > 0.02
    named = [
        NOTES[best] if on else None for best, on in zip(levels.argmax(axis=1), loud, strict=True)
    ]
    runs = [(note, len(list(group))) for note, group in itertools.groupby(named)]
    # A note lasts 100 ms; what flickers between two of them lasts a frame or two.
    return [note for note, length in runs if note is not None and length * hop / sr > 0.05]


def test_each_phase_can_be_followed_by_ear_and_no_cue_is_an_event(tmp_path: Path) -> None:
    with running(Service(port=0, settings=ServerSettings(workers=1))) as client:
        while not client.get("/api/v1/health").json()["ready"]:
            pass
        site = str(client.base_url).replace("127.0.0.1", "localhost")
        with playwright.sync_playwright() as driver:
            browser = driver.chromium.launch(
                executable_path=CHROMIUM,
                args=[
                    *("--no-sandbox", "--disable-gpu", "--disable-background-networking"),
                    *("--no-first-run", "--autoplay-policy=no-user-gesture-required"),
                ],
            )
            tab = browser.new_context(permissions=["microphone"], locale="en-GB").new_page()
            tab.set_default_timeout(30_000)

            def shortened(route: Any) -> None:
                response = route.fetch()
                route.fulfill(response=response, json=response.json() | {"protocol": phases()})

            tab.route("**/api/v1/questions*", shortened)
            tab.add_init_script(LOOP)
            tab.add_init_script(
                "sessionStorage.setItem('crepitus', JSON.stringify({ invited: true }));"
            )
            tab.goto(f"{site}/#record")
            tab.wait_for_selector("#start:visible")
            tab.click("#start")
            tab.wait_for_selector("#verdict:visible", timeout=60_000)
            data = tab.evaluate(
                "window.sent.get('audio').arrayBuffer().then((all) => [...new Uint8Array(all)])"
            )
            browser.close()
    take = bytes(data)
    y, sr = soundfile.read(io.BytesIO(take), dtype="float32")
    assert notes_heard(y, sr) == GUIDED
    path = tmp_path / "take.wav"
    path.write_bytes(take)
    assert analyze_file(path, load_classifier()).events == ()
