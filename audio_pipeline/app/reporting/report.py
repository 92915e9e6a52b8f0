"""One self-contained HTML file of a result: to keep, to print, to take to a clinician."""

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
from typing import TYPE_CHECKING

from audio_pipeline._version import __version__
from audio_pipeline.app.outputs import GENERATOR, check_page, write_page
from audio_pipeline.app.reporting.markup import Markup, bullets, join, tag
from audio_pipeline.app.reporting.plots import draw, spectrogram_png, waveform_svg
from audio_pipeline.app.reporting.wording import (
    Listing,
    ShownAdvice,
    ShownReason,
    ShownSource,
    shown_advice,
)
from audio_pipeline.audio.recording import Recording, Source, read_recording
from audio_pipeline.exceptions import RecordingError
from audio_pipeline.triage.messages import load_catalogue

if TYPE_CHECKING:
    from audio_pipeline.analysis.assessment import Assessment
    from audio_pipeline.analysis.events import Event
    from audio_pipeline.analysis.pipeline import Analysis
    from audio_pipeline.model.classifier import Classifier

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

    Parameters
    ----------
    path
        File to write, ending in .html or .htm; it appears whole or not at all.
    assessments
        What to show, in this order.
    classifier
        The model that listened.
    sources, embed_audio
        As for `report_page`.
    overwrite
        Replace what is there, whoever made it; else only a page of ours, and never a recording.

    Raises
    ------
    InvalidInputError
        When something is there that Crepitus did not write.
    CrepitusError
        When the file cannot be written.
    """
    heard = [assessment.analysis.source for assessment in assessments]
    check_page(path, heard, overwrite=overwrite)
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

    Parameters
    ----------
    assessments
        What to show, in this order.
    classifier
        The model that listened.
    sources
        Where the sound of an analysis is, by its ``source``; by default that is its path.
    embed_audio
        Put the sound inside the page, to be played there.
    moment
        When the answers were given; now when None.

    Returns
    -------
    str
        HTML that needs nothing else: no network, no other file.
    """
    moment = moment or datetime.datetime.now().astimezone()
    parts = []
    for number, assessment in enumerate(assessments, 1):
        source = (sources or {}).get(assessment.analysis.source, assessment.analysis.source)
        parts.append(
            _result(assessment, source, embed_audio, number if len(assessments) > 1 else 0)
        )
    model = f"Model {classifier.name} ({classifier.sha256[:12]})."
    rules = {a.recommendation.rules_version for a in assessments if a.recommendation}
    footer = tag(
        "p",
        " ".join(
            [
                load_catalogue().text("safety_net", "N-LIMITS"),
                f"Made on {moment:%d %B %Y, %H:%M}.",
                model,
                *(f"Rules {version}." for version in sorted(rules)),
            ]
        ),
        class_="note",
    )
    return html_page("Crepitus: your result", join(*parts, footer))


def html_page(title: str, body: Markup) -> str:
    """Return a whole page around its body, with the style and the script inside."""
    script = _script()
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    # The page may be opened from anywhere: it must not be able to fetch or run anything else.
    policy = (
        "default-src 'none'; style-src 'unsafe-inline'; img-src data:; media-src data:;"
        f" script-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    )
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="generator", content=f"{GENERATOR} {__version__}"),
        tag("meta", http_equiv="Content-Security-Policy", content=policy),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", title),
        tag("style", Markup(_style())),
    )
    content = tag("body", tag("main", body), tag("script", Markup(script)))
    return f"<!doctype html>\n{tag('html', head, content, lang='en')}\n"


@cache
def _style() -> str:
    page = resources.files("audio_pipeline.app.server") / "static" / "page.css"
    return page.read_text(encoding="utf-8")


@cache
def _script() -> str:
    script = resources.files("audio_pipeline.app.reporting") / "report.js"
    return script.read_text(encoding="utf-8")


@cache
def level_symbol(level: str) -> Markup:
    """Return the shape of a level, the same as on the page."""
    file = resources.files("audio_pipeline.app.server") / "static" / "symbols.svg"
    shapes = ElementTree.fromstring(file.read_text(encoding="utf-8"))  # noqa: S314  our own file
    path = next(s for s in shapes.iter(f"{_SVG}symbol") if s.get("id") == level)[0]
    shape = tag("path", fill="currentColor", fill_rule="evenodd", d=path.get("d"))
    return tag("svg", shape, viewBox="0 0 32 32", aria_hidden="true")


def _result(
    assessment: Assessment, source: Source | Recording, embed_audio: bool, number: int
) -> Markup:
    recommendation = assessment.recommendation
    shown = None
    parts: list[Markup | None] = []
    if recommendation is None:
        parts.append(tag("h1", "What the recording holds"))
        parts.append(
            tag("p", "No answers were given, so there is no advice here.", class_="notice")
        )
    else:
        shown = shown_advice(recommendation)
        parts.append(_recommendation(shown))
    parts.append(_sound(assessment.analysis, shown, source, embed_audio, number))
    return tag("section", *parts)


def _recommendation(shown: ShownAdvice) -> Markup:
    verdict = tag(
        "div",
        tag("header", level_symbol(shown.level), tag("h1", shown.title)),
        tag(
            "div",
            tag("p", "Who to see: ", tag("strong", shown.who)),
            tag("p", "By when: ", tag("strong", shown.when)),
            *(tag("p", text) for text in shown.where_to_go),
            class_="body",
        ),
        class_=f"verdict level-{shown.level}",
    )
    return join(
        verdict,
        tag("h2", "Why"),
        _reasons(shown.why) if shown.why else tag("p", shown.no_reason),
        _listing("What we do not know", shown.urgent, "notice"),
        _listing("" if shown.urgent.items else "What we do not know", shown.unknown),
        _listing("Please check", Listing("", shown.check)),
        _listing("What to watch for", shown.watch),
        _listing("What may help", Listing("", shown.advice)),
        join(tag("h2", "Other reasons"), _reasons(shown.also)) if shown.also else None,
        _sources(shown.sources),
        tag("p", f"Not answered: {', '.join(shown.unanswered)}.", class_="note")
        if shown.unanswered
        else None,
    )


def _listing(title: str, listing: Listing, class_: str | None = None) -> Markup | None:
    if not listing.items:
        return None
    opening = tag("p", listing.opening) if listing.opening else None
    body = join(opening, bullets(listing.items))
    return join(tag("h2", title) if title else None, tag("div", body, class_=class_))


def _reasons(reasons: Sequence[ShownReason]) -> Markup:
    return bullets(
        join(reason.text, tag("span", f" [{', '.join(reason.keys)}]", class_="source"))
        for reason in reasons
    )


def _sources(sources: Sequence[ShownSource]) -> Markup | None:
    items = [
        join(
            f"{source.key}: ",
            tag("a", source.title, href=source.url) if source.url else source.title,
        )
        for source in sources
    ]
    return join(tag("h3", "Where the reasons come from"), bullets(items)) if items else None


def _sound(
    analysis: Analysis,
    shown: ShownAdvice | None,
    source: Source | Recording,
    embed_audio: bool,
    number: int,
) -> Markup:
    title = f"The recording: {os.path.basename(_shown(analysis.source))}"
    if analysis.status != "ok" or analysis.finding is None or analysis.quality is None:
        message = f"It could not be read: {analysis.error}."
        return join(tag("h2", title), tag("p", message, class_="notice"))
    warnings = [warning.text for warning in analysis.quality.warnings]
    player = _player(source, analysis) if embed_audio else None
    return join(
        tag("h2", title),
        tag("p", shown.sound) if shown else None,
        bullets(analysis.finding.reasons) if analysis.finding.reasons else None,
        tag("div", tag("strong", "About this recording"), bullets(warnings), class_="notice")
        if warnings
        else None,
        _figure(analysis, source, number),
        player,
        _event_list(analysis.events, number, playable=player is not None),
    )


def _shown(name: str) -> str:
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


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


def _figure(analysis: Analysis, source: Source | Recording, number: int) -> Markup | None:
    duration = analysis.duration or 0.0
    try:
        picture = draw(source, duration)
    except RecordingError:
        return tag("p", "The recording is no longer there to be drawn.", class_="note")
    image = base64.b64encode(spectrogram_png(picture)).decode()
    marks = [
        tag(
            "a",
            tag("span", str(index), class_="tag"),
            class_=f"mark event-{event.label}",
            href=f"#event-{number}-{index}",
            aria_label=f"{index}: {event_words(event)} at {event.start:.2f} s",
            style=_place(event, duration),
        )
        for index, event in enumerate(analysis.events, 1)
    ]
    axis = [f"{share * duration:.1f} s" for share in (0, 0.5, 1)]
    return tag(
        "figure",
        tag(
            "div",
            Markup(waveform_svg(picture)),
            tag("img", class_="spectrogram", alt="", src=f"data:image/png;base64,{image}"),
            tag("div", *marks, class_="marks"),
            class_="picture",
        ),
        tag("div", *(tag("span", text) for text in axis), class_="axis", aria_hidden="true"),
        tag(
            "figcaption",
            text_equivalent(duration, analysis.events),
            " Above: how loud. Below: low notes at the bottom, high notes at the top"
            f" ({picture.top_hz / 1000:.0f} kHz).",
        ),
    )


def _place(event: Event, duration: float) -> str:
    """Return where a mark stands on a picture of any width, at least 24 px wide to be tapped."""
    width = 100 * (event.end - event.start) / duration
    middle = 100 * (event.start + event.end) / 2 / duration
    return (
        f"left:calc({middle:.3f}% - max(.75rem, {width / 2:.3f}%));"
        f"width:max(1.5rem, {width:.3f}%);--share:{width:.3f}"
    )


def _event_list(events: Sequence[Event], number: int, *, playable: bool) -> Markup | None:
    if not events:
        return None
    items = []
    for index, event in enumerate(events, 1):
        chance = event.probabilities[event.label]
        button = tag(
            "button",
            f"Play {index}",
            type="button",
            data_start=f"{event.start:.4f}",
            data_end=f"{event.end:.4f}",
        )
        items.append(
            tag(
                "li",
                tag(
                    "div",
                    tag("strong", f"{index}. {event_words(event)} at {event.start:.2f} s"),
                    button if playable else None,
                    class_="row",
                ),
                *(tag("p", reason) for reason in event.reasons),
                tag("p", f"How sure: {chance:.0%}.", class_="note"),
                class_=f"event-{event.label}",
                id=f"event-{number}-{index}",
            )
        )
    return tag("ol", *items, class_="events")


def _player(source: Source | Recording, analysis: Analysis) -> Markup | None:
    """Return an audio element with the sound inside, as FLAC, which every browser plays."""
    if (analysis.duration or 0.0) > LONGEST_EMBEDDED_SECONDS:
        return tag("p", "The recording is too long to be put inside this page.", class_="note")
    import soundfile

    try:
        recording = read_recording(source)
    except RecordingError:
        return None
    file = io.BytesIO()
    soundfile.write(
        file, recording.samples.clip(-1, 1), recording.sample_rate, "PCM_16", format="FLAC"
    )
    data = base64.b64encode(file.getvalue()).decode()
    return tag("audio", controls=True, src=f"data:audio/flac;base64,{data}")
