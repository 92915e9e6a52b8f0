"""Make the pictures of ``docs/study.md``: the page of a study, its review and its plan.

Run in an environment with ``.[test]``, where Chromium is:
``PYTHONPATH=.:tests:tests/app python docs/images/make_study_pictures.py``. It takes two minutes:
one made person records a whole take.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile
from server_support import RATE, running, twist
from test_study_page import Person, crepitus, playwright, rate

from audio_pipeline.app.reporting.plots import plan_chart
from audio_pipeline.app.server.app import Service
from audio_pipeline.app.server.guards import ServerSettings
from audio_pipeline.app.study import new_study
from audio_pipeline.model.metrics import plan_people

IMAGES = Path(__file__).parent


def main() -> None:
    """Record somebody, label the sounds, and draw the plan of a made pilot of 12 people."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        study = new_study(folder / "study", "Sounds of the twisting back", "A. Miller")
        sound = folder / "microphone.wav"
        soundfile.write(sound, twist((9.0, 14.2, 20.1), 40.0), RATE, "PCM_16")
        service = Service(port=0, settings=ServerSettings(workers=1), study=study)
        with running(service) as client, playwright.sync_playwright() as driver:
            while not client.get("/api/v1/health").json()["ready"]:
                time.sleep(0.2)
            site = str(client.base_url).replace("127.0.0.1", "localhost")
            person = Person(driver, site, sound, IMAGES)
            person.arrive()
            person.consent()
            person.answer("#setup-next")
            person.set_up()
            person.start_take()
            person.end_take()
            person.close()
        crepitus("batch", study.folder / "takes", "-o", study.folder / "labels", "--jobs", "1")
        rate(study, "anna", picture=IMAGES / "study-review.png")
    random = np.random.default_rng(0)
    hits = random.binomial(8, random.beta(3, 1.5, 12))
    plan = plan_people(hits, np.full(12, 8), width=0.1)
    drawn = plan_chart("Share of right answers, pilot of 12 people", 0.1, plan.curve, "png")
    (IMAGES / "study-plan.png").write_bytes(drawn)


if __name__ == "__main__":
    main()
