"""Reports: self-contained, complete in words, and true to the result they show."""

from __future__ import annotations

import base64
import io
import tracemalloc
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st
from jinja2 import UndefinedError
from server_support import RATE, twist

from audio_pipeline.analysis.assessment import Assessment, assess
from audio_pipeline.analysis.events import Event, Finding
from audio_pipeline.analysis.pipeline import Analysis
from audio_pipeline.app.reporting.pages import (
    SHOWN,
    BatchSummary,
    batch_page,
    worth_listening,
    write_batch_report,
)
from audio_pipeline.app.reporting.plots import ROWS, draw, indexed_png, spectrogram_png
from audio_pipeline.app.reporting.report import (
    environment,
    level_symbols,
    render_page,
    report_page,
    write_report,
)
from audio_pipeline.audio.quality import QualityMeter
from audio_pipeline.audio.recording import Recording
from audio_pipeline.exceptions import CrepitusError
from audio_pipeline.model.classifier import Classifier, load_classifier
from audio_pipeline.triage.answers import parse_answers
from audio_pipeline.triage.rules import LEVELS

POPS = (1.0, 2.5)


class Page(HTMLParser):
    """Collects the tags and the text of a page, and checks that tags are closed in order."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words = ""
        self._open: list[str] = []
        self.feed(page)
        assert self._open == []

    def handle_starttag(self, name: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((name, dict(attributes)))
        if name not in ("meta", "img", "br"):
            self._open.append(name)

    def handle_endtag(self, name: str) -> None:
        assert self._open.pop() == name

    def handle_data(self, text: str) -> None:
        if not self._open or self._open[-1] not in ("style", "script"):
            self.words += text


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    return load_classifier()


@pytest.fixture(scope="module")
def recording() -> Recording:
    return Recording(twist(POPS), RATE, "twist <1>.wav")


@pytest.fixture(scope="module")
def analysis(recording: Recording) -> Analysis:
    meter = QualityMeter(RATE)
    meter.update(recording.samples)
    events = tuple(
        Event(
            start,
            start + 0.02,
            label,
            {"pop": chance, "grating": 1 - chance, "other": 0.0},
            chance < 0.6,
            1,
            ("One impact.",),
        )
        for start, label, chance in ((1.0, "pop", 0.9), (2.5, "grating", 0.45))
    )
    quality = meter.result([(event.start, event.end) for event in events])
    finding = Finding("single_pop", 0.9, ("1 pop.",))
    return Analysis(
        recording.source, "ok", None, recording.duration, RATE, quality, events, finding
    )


def page_of(assessment: Assessment, classifier: Classifier, **options: Any) -> Page:
    return Page(report_page([assessment], classifier, **options))


class TestReport:
    @pytest.mark.parametrize(
        "answers",
        [
            {},
            {"bladder_bowel": "yes"},
            {"pain": "none"},
            {"pain": "constant_severe", "severity": 1},
        ],
    )
    def test_it_says_everything_the_result_says(
        self,
        analysis: Analysis,
        recording: Recording,
        classifier: Classifier,
        answers: dict[str, Any],
    ) -> None:
        assessment = assess(analysis, parse_answers(answers), region="AU")
        sources = {recording.source: recording}
        words = page_of(assessment, classifier, sources=sources).words
        recommendation = assessment.recommendation
        assert recommendation is not None
        assert recommendation.catalogue.level(recommendation.level, "title") in words
        if recommendation.level == "emergency":
            assert recommendation.reasons[0].text in words
            assert recommendation.advice[0][1] in words
            assert "What to watch for" not in words
            assert "Pop at" not in words
            return
        for reason in recommendation.reasons:
            assert reason.told != "all" or reason.text in words
        for _, text in (*recommendation.advice, *recommendation.safety_net):
            assert text in words
        assert all(item.text in words for item in recommendation.explanation)
        assert all(text in words for text in recommendation.disagreements)
        assert recommendation.sound_note in words
        assert "Pop at 1.00 s" in words
        assert "Grinding sound, not sure at 2.50 s" in words
        assert "twist <1>.wav" in words

    def test_it_needs_nothing_else(
        self, analysis: Analysis, recording: Recording, classifier: Classifier
    ) -> None:
        assessment = assess(analysis, parse_answers({}))
        page = page_of(
            assessment, classifier, sources={recording.source: recording}, embed_audio=True
        )
        for name, attributes in page.tags:
            assert name not in ("link", "iframe", "object", "form")
            source = attributes.get("src") or "data:"
            assert source.startswith("data:")
            link = attributes.get("href") or "#"
            assert link.startswith("#") or (name == "a" and link.startswith("https://"))
        policy = next(a["content"] for _, a in page.tags if a.get("http-equiv"))
        assert policy is not None
        assert "default-src 'none'" in policy

    def test_embedded_sound_is_the_recording(
        self, analysis: Analysis, recording: Recording, classifier: Classifier
    ) -> None:
        assessment = assess(analysis, None)
        sources = {recording.source: recording}
        silent = page_of(assessment, classifier, sources=sources)
        assert "audio" not in {name for name, _ in silent.tags}
        page = page_of(assessment, classifier, sources=sources, embed_audio=True)
        [source] = [attributes["src"] for name, attributes in page.tags if name == "audio"]
        assert source is not None
        samples, rate = soundfile.read(io.BytesIO(base64.b64decode(source.partition(",")[2])))
        assert rate == RATE
        assert np.allclose(samples, recording.samples, atol=2**-15)
        assert len([name for name, a in page.tags if name == "button"]) == len(analysis.events)

    def test_without_answers_it_gives_no_advice(
        self, analysis: Analysis, recording: Recording, classifier: Classifier
    ) -> None:
        words = page_of(
            assess(analysis, None), classifier, sources={recording.source: recording}
        ).words
        assert "No answers were given" in words

    def test_a_failed_recording_is_told(self, classifier: Classifier, tmp_path: Path) -> None:
        failed = Analysis("no<t>.wav", "failed", "it is empty", None, None, None, (), None)
        words = page_of(assess(failed, parse_answers({})), classifier).words
        assert "It could not be read: it is empty." in words

    def test_a_recording_that_is_gone_is_told(
        self, analysis: Analysis, classifier: Classifier
    ) -> None:
        assert "no longer there" in page_of(assess(analysis, None), classifier).words

    def test_files_appear_whole_or_not_at_all(
        self, analysis: Analysis, classifier: Classifier, tmp_path: Path
    ) -> None:
        target = tmp_path / "report.html"
        write_report(target, [assess(analysis, None)], classifier)
        assert [entry.name for entry in tmp_path.iterdir()] == ["report.html"]
        with pytest.raises(CrepitusError, match="there is no folder"):
            write_report(tmp_path / "none" / "x.html", [assess(analysis, None)], classifier)


class TestPlots:
    def test_columns_show_where_the_sound_is(self, recording: Recording) -> None:
        picture = draw(recording, recording.duration)
        columns = len(picture.highs)
        loud = np.flatnonzero(picture.highs > 0.05) / columns * recording.duration
        assert {round(moment, 1) for moment in loud} == set(POPS)
        power = picture.levels.max(axis=0)
        loudest = np.argsort(power)[-4:] / columns * recording.duration
        assert all(min(abs(loudest_at - pop) for pop in POPS) < 0.05 for loudest_at in loudest)

    @pytest.mark.parametrize("frequency", [500, 3000, 9000])
    def test_a_tone_lies_at_its_height(self, frequency: int) -> None:
        t = np.arange(RATE) / RATE
        tone = Recording(0.1 * np.sin(2 * np.pi * frequency * t), RATE)
        picture = draw(tone, 1.0)
        row = int(picture.levels.mean(axis=1).argmax())
        height = (row + 0.5) / len(picture.levels) * picture.top_hz
        assert abs(height - frequency) < 2 * picture.top_hz / ROWS

    @pytest.mark.parametrize("seconds", [0.001, 0.03, 1.7, 23.0])
    def test_any_length(self, seconds: float) -> None:
        samples = np.random.default_rng(0).normal(0, 0.1, max(1, int(seconds * RATE)))
        samples[0] = np.nan
        picture = draw(Recording(samples, RATE), len(samples) / RATE)
        assert np.isfinite(picture.levels).all()
        assert picture.highs.max() <= np.nanmax(samples) + 1e-6
        assert spectrogram_png(picture).startswith(b"\x89PNG")

    def test_a_png_holds_its_pixels(self) -> None:
        from PIL import Image

        pixels = np.arange(12, dtype=np.uint8).reshape(3, 4)
        palette = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, axis=1)
        image = Image.open(io.BytesIO(indexed_png(pixels, palette)))
        assert np.array_equal(np.asarray(image.convert("L")), pixels)


@given(st.text())
def test_text_never_becomes_markup(words: str) -> None:
    values: dict[str, Any] = {"facts": [words], "counts": [], "listen": [], "more_failed": 0}
    empty = Page(render_page("batch.html", "", failed=[("", "")], **values | {"facts": [""]}))
    page = Page(render_page("batch.html", words, failed=[(words, words)], **values))
    assert page.tags == empty.tags
    mark = {"label": words, "uncertain": False, "left": words, "width": words}
    marked = Page(
        render_page(
            "batch.html",
            "",
            failed=[("", "")],
            **values | {"listen": [{"recording": "", "heard": "", "marks": [mark]}]},
        )
    )
    [attributes] = [a for name, a in marked.tags if name == "span"]
    assert attributes.keys() == {"class", "style"}


def test_every_template_escapes_and_knows_its_values() -> None:
    templates = environment()
    assert templates.autoescape is True
    for name in templates.list_templates():
        text = templates.get_template(name).filename
        assert text
        assert "|safe" not in Path(text).read_text().replace(" ", "")
    with pytest.raises(UndefinedError):
        render_page("batch.html", "a title and nothing else")


def document(
    label: str = "pop", chance: float = 0.9, status: str = "ok", events: int = 1
) -> dict[str, Any]:
    """Return a recording's entry in the results."""
    rest = {"pop": 0.0, "grating": 0.0, "other": 1 - chance}
    event = {
        "start": 1.0,
        "end": 1.02,
        "label": label,
        "probabilities": rest | {label: chance},
        "uncertain": chance < 0.6,
        "impacts": 1,
    }
    finding = {"pop": "single_pop", "grating": "grating", "other": "nothing_recognised"}[label]
    return {
        "status": status,
        "error": None if status == "ok" else "it is empty",
        "duration": 4.0,
        "quality": {"warnings": [{"code": "clipped", "text": "Too loud."}]},
        "events": [event] * events,
        "finding": {"label": finding, "confidence": chance},
    }


class TestBatchPage:
    def test_counts_add_up(self) -> None:
        summary = BatchSummary()
        entries = [document(), document("grating"), document("other"), document(status="failed")]
        for number, entry in enumerate(entries * 3):
            summary.add(f"{number}.wav", entry)
        assert summary.recordings == 12
        assert summary.failures == 3
        assert summary.findings.total() == 9
        words = Page(batch_page(summary)).words
        assert "12 recordings" in words
        assert "3 could not be read" in words
        assert "Grinding sound" in words

    def test_what_is_least_sure_comes_first(self) -> None:
        summary = BatchSummary()
        chances = np.linspace(0.5, 0.99, 4 * SHOWN)
        for chance in np.random.default_rng(0).permutation(chances):
            summary.add(f"{chance:.3f}.wav", document(chance=float(chance)))
        shown = {name for _, name, _ in summary.listen}
        assert shown == {f"{chance:.3f}.wav" for chance in chances[:SHOWN]}

    def test_possible_grating_comes_before_an_equally_unsure_pop(self) -> None:
        assert worth_listening(document("grating", 0.6)) > worth_listening(document("pop", 0.6))
        assert worth_listening(document(events=0)) == 0

    def test_names_are_only_text(self, tmp_path: Path) -> None:
        target = tmp_path / "batch.html"
        write_batch_report(target, [("<script>x</script>.wav", document(chance=0.5))])
        page = Page(target.read_text())
        assert "<script>x</script>.wav" in page.words
        assert "script" not in [name for name, _ in page.tags]

    def test_nothing_found(self, tmp_path: Path) -> None:
        target = tmp_path / "batch.html"
        write_batch_report(target, [])
        assert "0 recordings" in Page(target.read_text()).words

    def test_memory_does_not_grow_with_the_batch(self) -> None:
        def most(count: int) -> int:
            summary = BatchSummary()
            tracemalloc.start()
            for number in range(count):
                summary.add(f"{number}.wav", document(chance=0.5 + number % 97 / 200))
            size = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            return size

        assert most(2000) < 1.5 * most(200)


def test_every_level_has_its_symbol() -> None:
    shapes = level_symbols()
    assert set(LEVELS) <= shapes.keys()
    assert len({shapes[level] for level in LEVELS}) == len(LEVELS)
