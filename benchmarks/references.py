"""What the product is compared with; written as their users write them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import av
import librosa
import numpy as np
import soundfile
import soxr

REFERENCE_RATE = 22_050


def decode_resample_stft(paths: Sequence[Path]) -> None:
    """Do the least that any analysis needs (a): decode, resample once, one transform."""
    for path in paths:
        samples, rate = soundfile.read(path, dtype="float32")
        samples = soxr.resample(samples, rate, REFERENCE_RATE, "HQ")
        librosa.stft(samples, n_fft=256, hop_length=64)


def tutorial(paths: Sequence[Path]) -> None:
    """Run the usual tutorial (b): a mean of each feature a file, a forest."""
    forest = _forest(40 + 12 + 128 + 7 + 6, 100)
    for path in paths:
        y, sr = librosa.load(path, sr=REFERENCE_RATE)
        features = [
            librosa.feature.mfcc(y=y, sr=sr, n_mfcc=40),
            librosa.feature.chroma_stft(y=y, sr=sr),
            librosa.feature.melspectrogram(y=y, sr=sr),
            librosa.feature.spectral_contrast(y=y, sr=sr),
            librosa.feature.tonnetz(y=librosa.effects.harmonic(y), sr=sr),
        ]
        row = np.concatenate([feature.mean(axis=1) for feature in features])
        forest.predict_proba(row[None])


def per_segment(paths: Sequence[Path]) -> None:
    """Take onsets (c), then each feature of each segment from its samples, a forest each."""
    forest = _forest(13 + 7 + 6, 300)
    for path in paths:
        y, sr = librosa.load(path, sr=REFERENCE_RATE)
        onsets = librosa.onset.onset_detect(y=y, sr=sr, units="samples", backtrack=True)
        for start in onsets:
            part = y[start : start + sr // 2]
            if len(part) < 2048:
                part = np.pad(part, (0, 2048 - len(part)))
            features = [
                librosa.feature.mfcc(y=part, sr=sr, n_mfcc=13),
                librosa.feature.spectral_contrast(y=part, sr=sr),
                librosa.feature.spectral_centroid(y=part, sr=sr),
                librosa.feature.spectral_bandwidth(y=part, sr=sr),
                librosa.feature.spectral_rolloff(y=part, sr=sr),
                librosa.feature.spectral_flatness(y=part),
                librosa.feature.rms(y=part),
                librosa.feature.zero_crossing_rate(part),
            ]
            row = np.concatenate([feature.mean(axis=1) for feature in features])
            forest.predict_proba(row[None])


def decode_media(paths: Sequence[Path]) -> None:
    """Decode with PyAV and nothing else: the floor for what phones write."""
    for path in paths:
        with av.open(str(path)) as file:
            for frame in file.decode(audio=0):
                frame.to_ndarray()


@cache
def _forest(n_features: int, trees: int) -> Any:
    from sklearn.ensemble import RandomForestClassifier

    random = np.random.default_rng(0)
    labels = random.integers(0, 3, 600)
    table = random.normal(size=(600, n_features)) + labels[:, None] * 0.3
    return RandomForestClassifier(trees, random_state=0).fit(table, labels)


REFERENCES: dict[str, Callable[[Sequence[Path]], None]] = {
    "decode + soxr + one STFT": decode_resample_stft,
    "tutorial": tutorial,
    "per segment": per_segment,
}
