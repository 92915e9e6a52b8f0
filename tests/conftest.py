"""What all tests share: the same examples every time, unless asked to explore."""

import subprocess
import sys

import pytest
from hypothesis import settings

# A change is judged on the examples that the last one passed; new ones are looked for with
# `pytest --hypothesis-profile=explore`.
settings.register_profile("steady", derandomize=True, deadline=None)
settings.register_profile("explore", deadline=None)
settings.load_profile("steady")


def pytest_configure(config: pytest.Config) -> None:
    """Compile librosa's loops once before many workers would do it at the same time."""
    if hasattr(config, "workerinput") or config.option.collectonly:
        return
    code = (
        "import numpy as np, audio_pipeline.segmentation.onset_envelope as envelope;"
        "envelope._compile_peak_pick()"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
