"""Pages of one HTML file with everything inside, from templates; that of a result first.

A report is to keep, to print, to take to a clinician; it opens anywhere and needs no network.
"""

from __future__ import annotations

import base64
import datetime
import hashlib
import io
import os
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import resources
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from audio_pipeline._version import __version__
from audio_pipeline.analysis.assessment import Assessment
from audio_pipeline.analysis.events import Event
from audio_pipeline.analysis.pipeline import Analysis, printable
from audio_pipeline.app.outputs import GENERATOR, check_page, write_page
from audio_pipeline.app.reporting.plots import draw, spectrogram_png, waveform_svg
from audio_pipeline.app.reporting.recommendation import shown_advice
from audio_pipeline.app.text import visible_lines
from audio_pipeline.audio.recording import Recording, Source, read_recording
from audio_pipeline.exceptions import RecordingError
from audio_pipeline.model.classifier import Classifier
from audio_pipeline.triage.messages import load_catalogue

LABEL_WORDS = {"pop": "Pop", "grating": "Grinding sound", "other": "Other sound"}

LONGEST_EMBEDDED_SECONDS = 600.0
"""A longer recording is not put inside the page: 10 minutes of FLAC are about 30 MB."""

_SVG = "{http://www.w3.org/2000/svg}"


def write_report(
    path: str | os.PathLike[str],
    assessments: Sequence[Assessment],
    classifier: Classifier,
    *,
    sources: Mapping[str, Source | Recording] | None = None,
    embed_audio: bool = False,
    overwrite: bool = False,
) -> None:
    """Write the page of one or several recordings.

    ``path``: file to write, ending in .html or .htm; it appears whole or not at all.
    ``sources, embed_audio``: as for `report_page`.
    ``overwrite``: replace what is there, whoever made it; else only a page of ours, and never a
        recording.
    Raises InvalidInputError when something is there that Crepitus did not write.
    """
    heard = [assessment.analysis.source for assessment in assessments]
    check_page(path, heard, overwrite=overwrite)  # before any work
    page = report_page(assessments, classifier, sources=sources, embed_audio=embed_audio)
    write_page(path, page, heard, overwrite=overwrite)


def report_page(
    assessments: Sequence[Assessment],
    classifier: Classifier,
    *,
    sources: Mapping[str, Source | Recording] | None = None,
    embed_audio: bool = False,
    moment: datetime.datetime | None = None,
) -> str:
    """Return the page of one or several recordings.

    ``sources``: where the sound of an analysis is, by its ``source``; by default that is its path.
    ``embed_audio``: put the sound inside the page, to be played there.
    ``moment``: when the answers were given; now when None.
    HTML that needs nothing else: no network, no other file.
    """
    moment = moment or datetime.datetime.now().astimezone()
    results = []
    for number, assessment in enumerate(assessments, 1):
        analysis, advice = assessment.analysis, assessment.recommendation
        source = (sources or {}).get(analysis.source, analysis.source)
        shown = None if advice is None else shown_advice(advice)
        alone = shown is not None and shown.level == "emergency"  # it stands alone
        results.append(
            {
                "number": number if len(assessments) > 1 else 0,
                "shown": shown,
                "sound": None if alone else _sound(analysis, source, embed_audio),
            }
        )
    rules = {a.recommendation.rules_version for a in assessments if a.recommendation}
    footer = [
        load_catalogue().text("safety_net", "N-LIMITS"),
        f"Made on {moment:%d %B %Y, %H:%M}.",
        f"Model {classifier.name} ({classifier.sha256[:12]}).",
        *(f"Rules {version}." for version in sorted(rules)),
    ]
    return render_page(
        "report.html",
        "Crepitus: your result",
        results=results,
        symbols=level_symbols(),
        footer=" ".join(footer),
    )


@cache
def level_symbols() -> dict[str, str]:
    """Return the shape of each level, as the path of an SVG; the same as on the page."""
    file = resources.files("audio_pipeline.app.server") / "static" / "symbols.svg"
    shapes = ElementTree.fromstring(file.read_text(encoding="utf-8"))  # noqa: S314  our own file
    return {one.get("id", ""): one[0].get("d", "") for one in shapes.iter(f"{_SVG}symbol")}


def _sound(analysis: Analysis, source: Source | Recording, embed_audio: bool) -> dict[str, Any]:
    """Return what the page shows of a recording."""
    sound: dict[str, Any] = {"name": os.path.basename(printable(analysis.source)), "error": None}
    if analysis.status != "ok" or analysis.finding is None or analysis.quality is None:
        return sound | {"error": str(analysis.error)}
    too_long = (analysis.duration or 0.0) > LONGEST_EMBEDDED_SECONDS
    return sound | {
        "reasons": analysis.finding.reasons,
        "warnings": [warning.text for warning in analysis.quality.warnings],
        "figure": _figure(analysis, source),
        "audio": _flac(source) if embed_audio and not too_long else None,
        "too_long": embed_audio and too_long,
        "events": [_event(event, analysis.duration or 0.0) for event in analysis.events],
    }


def _event(event: Event, duration: float) -> dict[str, Any]:
    """Return what the page shows of an event; its mark is at least 24 px wide to be tapped."""
    width = 100 * (event.end - event.start) / duration
    middle = 100 * (event.start + event.end) / 2 / duration
    return {
        "label": event.label,
        "words": event_words(event),
        "at": f"{event.start:.2f}",
        "start": f"{event.start:.4f}",
        "end": f"{event.end:.4f}",
        "reasons": event.reasons,
        "sure": f"{event.probabilities[event.label]:.0%}",
        "place": f"left:calc({middle:.3f}% - max(.75rem, {width / 2:.3f}%));"
        f"width:max(1.5rem, {width:.3f}%);--share:{width:.3f}",
    }


def event_words(event: Event) -> str:
    """Return a heard sound in words: its label, and that it is not sure."""
    words = LABEL_WORDS.get(event.label, event.label)
    return f"{words}, not sure" if event.uncertain else words


def text_equivalent(duration: float, events: Sequence[Event]) -> str:
    """Say in words what the picture of a recording shows."""
    shows = f"The picture shows {duration:.1f} seconds of sound"
    if not events:
        return f"{shows}. Nothing is marked on it."
    heard = "; ".join(f"{event_words(event).lower()} at {event.start:.2f} s" for event in events)
    return f"{shows}: {heard}."


def _figure(analysis: Analysis, source: Source | Recording) -> dict[str, Any] | None:
    """Return the pictures of a recording; None when it is no longer there."""
    duration = analysis.duration or 0.0
    try:
        picture = draw(source, duration)
    except RecordingError:
        return None
    return {
        "waveform": Markup(waveform_svg(picture)),  # noqa: S704  numbers only
        "spectrogram": base64.b64encode(spectrogram_png(picture)).decode(),
        "axis": [f"{share * duration:.1f} s" for share in (0, 0.5, 1)],
        "caption": text_equivalent(duration, analysis.events),
        "top": f"{picture.top_hz / 1000:.0f}",
    }


def _flac(source: Source | Recording) -> str | None:
    """Return the sound as FLAC in base64, which every browser plays; None when it is gone."""
    import soundfile

    try:
        recording = read_recording(source)
    except RecordingError:
        return None
    file = io.BytesIO()
    soundfile.write(
        file, recording.samples.clip(-1, 1), recording.sample_rate, "PCM_16", format="FLAC"
    )
    return base64.b64encode(file.getvalue()).decode()


def render_page(template: str, title: str, *, language: str = "en", **values: Any) -> str:
    """Return a whole page from a template that extends ``page.html``.

    ``**values``: what the template shows. Text is escaped and hidden characters are made visible;
        only a :class:`markupsafe.Markup` is HTML already.
    """
    script = _read("audio_pipeline.app.reporting", "report.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    # The page may be opened from anywhere: it must not be able to fetch or run anything else.
    policy = (
        "default-src 'none'; style-src 'unsafe-inline'; img-src data:; media-src data:;"
        f" script-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    )
    return (
        environment()
        .get_template(template)
        .render(
            title=title,
            language=language,
            generator=f"{GENERATOR} {__version__}",
            policy=policy,
            style=Markup(_read("audio_pipeline.app.server", "static/page.css")),  # noqa: S704
            script=Markup(script),  # noqa: S704
            **values,
        )
    )


@cache
def environment() -> Environment:
    """Return what finds and fills the templates."""
    return Environment(
        loader=PackageLoader("audio_pipeline.app.reporting"),
        autoescape=True,
        finalize=_shown,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def _shown(value: Any) -> Any:
    """Make hidden characters of text visible; what is HTML already stays."""
    return visible_lines(value) if type(value) is str else value


@cache
def _read(package: str, name: str) -> str:
    return (resources.files(package) / name).read_text(encoding="utf-8")
