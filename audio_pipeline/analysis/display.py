"""An analysis as a table, a picture and a notebook's output; needs pandas and matplotlib."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence
from typing import Any

import numpy as np

from audio_pipeline.analysis.events import Event, Finding
from audio_pipeline.audio.recording import Recording, Resampler, Source, read_stretch
from audio_pipeline.exceptions import CrepitusError

LONGEST_SECONDS = 120.0
"""More is neither drawn nor played at once."""

_PLAYED_RATE = 22_050
_N_FFT = 1024
_RANGE_DB = 70.0
_COLUMNS = 1500
"""Points of the waveform and columns of the spectrogram that are drawn, about."""

_COLOURS = {"pop": "#0072b2", "grating": "#d55e00"}
_OTHER_COLOUR = "#666666"
_WORDS = {"pop": "pop", "grating": "grinding sound", "other": "other sound"}


def events_to_frame(events: Sequence[Event], labels: Sequence[str]) -> Any:
    """Return one row per event as a pandas data frame.

    Parameters
    ----------
    events : sequence of Event
    labels : sequence of str
        Of the model that was asked.

    Returns
    -------
    pandas.DataFrame
        Columns `start`, `end` (s), `label`, `p_<label>`..., `uncertain`, `impacts`; without rows
        where there is no event.

    Raises
    ------
    CrepitusError
        Without pandas.
    """
    try:
        import pandas
    except ImportError:
        raise CrepitusError("a data frame needs pandas: pip install pandas") from None
    columns: dict[str, Any] = {
        "start": np.array([event.start for event in events], float),
        "end": np.array([event.end for event in events], float),
        "label": np.array([event.label for event in events], object),
    }
    for label in labels:
        columns[f"p_{label}"] = np.array([event.probabilities[label] for event in events], float)
    columns["uncertain"] = np.array([event.uncertain for event in events], bool)
    columns["impacts"] = np.array([event.impacts for event in events], int)
    return pandas.DataFrame(columns)


def plot_events(
    events: Sequence[Event],
    sound: Source | Recording,
    start: float = 0.0,
    end: float | None = None,
) -> Any:
    """Draw the waveform and the spectrogram of a recording with its events.

    Parameters
    ----------
    events : sequence of Event
        Outlined in both, dashed where unsure.
    sound : str, bytes, path, binary file or Recording
        What was analysed.
    start, end : float
        Seconds; at most two minutes are drawn.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    CrepitusError
        Without matplotlib, or when the recording cannot be read.
    """
    figure_class = _matplotlib_figure()
    import matplotlib.pyplot

    part = read_part(sound, start, end)
    figure = matplotlib.pyplot.figure(FigureClass=figure_class, figsize=(10, 5), layout="tight")
    _draw(figure, part, events, start)
    return figure


def events_to_html(
    name: str, said: Finding | str | None, events: Sequence[Event], sound: Source | Recording | None
) -> str:
    """Return an analysis for a notebook: a picture, a play button and its events, self-contained.

    Parameters
    ----------
    name : str
        Of the recording.
    said : Finding, str or None
        What it holds, or why it could not be analysed.
    events : sequence of Event
    sound : str, bytes, path, binary file, Recording or None
        What was analysed; without it, or where it is gone, only the events are shown.
    """
    if isinstance(said, Finding):
        said = f"{said.label} ({said.confidence:.2f})"
    parts = [f"<p><b>{_text(name)}</b>: {_text(said or '')}</p>"]
    if sound is not None:
        try:
            part = read_part(sound)
            parts += [_picture(part, events), _player(part)]
        except (CrepitusError, OSError):
            pass  # the table says what was heard
    if events:
        rows = "".join(_row(event) for event in events)
        head = "<tr><th>start (s)</th><th>end (s)</th><th>what</th><th>sure</th></tr>"
        parts.append(f"<table>{head}{rows}</table>")
    return f"<div>{''.join(parts)}</div>"


def read_part(sound: Source | Recording, start: float = 0.0, end: float | None = None) -> Recording:
    """Read a part of a recording, at most two minutes of it.

    Raises
    ------
    RecordingError
        When it cannot be read.
    """
    latest = start + LONGEST_SECONDS
    end = latest if end is None else min(end, latest)
    return read_stretch(sound, start, end)


def _matplotlib_figure() -> Any:
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise CrepitusError("a picture needs matplotlib: pip install 'crepitus[report]'") from None
    return Figure


def _draw(figure: Any, part: Recording, events: Sequence[Event], start: float) -> None:
    """Draw the waveform above the spectrogram, the events outlined in both."""
    import librosa

    wave, spectrogram = figure.subplots(2, 1, sharex=True, height_ratios=(1, 2))
    samples, rate = part.samples, part.sample_rate
    step = max(1, len(samples) // _COLUMNS)
    whole = samples[: len(samples) // step * step].reshape(-1, step)
    time = start + np.arange(len(whole)) * step / rate
    wave.fill_between(time, whole.min(axis=1), whole.max(axis=1), color="0.35", linewidth=0.5)
    wave.set_ylabel("amplitude")
    n_fft = min(_N_FFT, max(32, len(samples)))
    hop = max(n_fft // 8, len(samples) // _COLUMNS)
    padded = np.pad(samples, (0, max(0, n_fft - len(samples))))
    power = np.square(np.abs(librosa.stft(padded, n_fft=n_fft, hop_length=hop)))
    levels = librosa.power_to_db(power, ref=np.max, top_db=_RANGE_DB)
    spectrogram.imshow(
        levels,
        origin="lower",
        aspect="auto",
        cmap="gray_r",
        extent=(start, start + power.shape[1] * hop / rate, 0, rate / 2000),
    )
    spectrogram.set_ylabel("frequency (kHz)")
    spectrogram.set_xlabel("time (s)")
    end = start + len(samples) / rate
    for event in events:
        if event.end < start or event.start > end:
            continue
        colour = _COLOURS.get(event.label, _OTHER_COLOUR)
        for axes in (wave, spectrogram):
            axes.axvspan(
                event.start,
                event.end,
                facecolor="none",
                edgecolor=colour,
                linestyle="--" if event.uncertain else "-",
                linewidth=1.2,
            )
        name = _WORDS.get(event.label, event.label) + ("?" if event.uncertain else "")
        wave.annotate(
            name,
            (event.start, 1.0),
            xycoords=("data", "axes fraction"),
            va="bottom",
            rotation=30,
            color=colour,
            fontsize="small",
            parse_math=False,
        )
    wave.set_xlim(start, max(end, start + 1e-3))


def _picture(part: Recording, events: Sequence[Event]) -> str:
    try:
        figure = _matplotlib_figure()(figsize=(10, 5), layout="tight")
    except CrepitusError as error:
        return f"<p>{_text(str(error))}</p>"
    _draw(figure, part, events, 0.0)
    image = io.BytesIO()
    figure.savefig(image, format="png", dpi=80)
    encoded = base64.b64encode(image.getvalue()).decode()
    words = "waveform and spectrogram with the events outlined"
    return f'<img alt="{words}" src="data:image/png;base64,{encoded}">'


def _player(part: Recording) -> str:
    import soundfile

    samples, rate = part.samples, part.sample_rate
    if rate > _PLAYED_RATE:
        samples, rate = Resampler(rate, _PLAYED_RATE).finish(samples), _PLAYED_RATE
    sound = io.BytesIO()
    loudest = max(1e-6, float(np.abs(samples).max(initial=0.0)))
    soundfile.write(sound, samples * (0.9 / loudest), rate, "PCM_16", format="WAV")
    encoded = base64.b64encode(sound.getvalue()).decode()
    return f'<p><audio controls src="data:audio/wav;base64,{encoded}"></audio></p>'


def _row(event: Event) -> str:
    what = _WORDS.get(event.label, event.label)
    chance = f"{'no' if event.uncertain else 'yes'} ({event.probabilities[event.label]:.2f})"
    cells = (f"{event.start:.2f}", f"{event.end:.2f}", what, chance)
    return "<tr>" + "".join(f"<td>{_text(cell)}</td>" for cell in cells) + "</tr>"


def _text(given: str) -> str:
    """Escape for HTML; what cannot be seen is written as its number."""
    seen = (c if c.isprintable() else c.encode("unicode_escape").decode() for c in given)
    return html.escape("".join(seen))
