"""What every worker process needs, imported once before the workers are forked from it."""

import numpy as np

from audio_pipeline.analysis import extract
from audio_pipeline.recording import Recording

# Hearing something loads what librosa and SciPy keep for their first use: half a second.
_click = np.zeros(8_000, np.float32)
_click[4_000] = 0.5
extract(Recording(_click, 16_000))
