"""What every worker process needs, imported once before the workers are forked from it."""

import librosa
import scipy.signal

import audio_pipeline.batch.worker  # noqa: F401

# librosa and SciPy load their parts on first use; 3.5 s of it on librosa 0.11.
librosa.stft  # noqa: B018
librosa.filters.mel  # noqa: B018
scipy.signal.find_peaks  # noqa: B018
