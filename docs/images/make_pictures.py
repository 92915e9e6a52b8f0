"""Make the pictures of the README: a result as Crepitus shows it, photographed in Chromium.

Run in an environment with ``.[test]``, where Chromium is: ``python docs/images/make_pictures.py``.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import sync_playwright

IMAGES = Path(__file__).parent
SAMPLES = IMAGES.parent.parent / "datasets" / "samples"
PICTURES = {"recommendation.png": ".verdict", "recording.png": "figure"}


def main() -> None:
    """Analyse a shipped recording and photograph two parts of its report."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.html"
        crepitus = [sys.executable, "-m", "audio_pipeline", "analyze"]
        recording = [SAMPLES / "twist_both.flac", "--answers", SAMPLES / "answers.yaml"]
        options = ["--region", "GB", "--report", report]
        subprocess.run([*crepitus, *recording, *options], check=True, stdout=subprocess.DEVNULL)  # noqa: S603
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(
                executable_path=shutil.which("chromium") or shutil.which("google-chrome"),
                args=["--no-sandbox"],
            )
            page = browser.new_page(
                viewport={"width": 820, "height": 1000}, device_scale_factor=1.25
            )
            page.goto(report.as_uri())
            for name, part in PICTURES.items():
                page.locator(part).first.screenshot(path=IMAGES / name)
            browser.close()


if __name__ == "__main__":
    main()
