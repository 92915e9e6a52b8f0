"""Reviewing by ear: what comes first, and labels that are never lost and can be trained on."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from server_support import RATE, sound_file, twist

from audio_pipeline.app.review import (
    DECIDED,
    UNSURE,
    ReviewItem,
    ReviewQueue,
    agreements,
)
from audio_pipeline.app.server.review import (
    create_review_app,
    cut,
    most_informative,
    open_queue,
)
from audio_pipeline.datasets.manifest import read_dataset
from audio_pipeline.exceptions import InvalidInputError
from audio_pipeline.features.transformer import FEATURE_NAMES

LABELS = ("pop", "grating", "other")


def item(
    name: str = "a.wav",
    start: float = 1.0,
    chances: tuple[float, ...] = (0.8, 0.1, 0.1),
    **more: Any,
) -> ReviewItem:
    return ReviewItem(
        Path("/somewhere") / name,
        name,
        start,
        start + 0.02,
        dict(zip(LABELS, chances, strict=True)),
        **more,
    )


def described(count: int) -> list[ReviewItem]:
    """Sounds of three kinds that a forest can tell, of six people."""
    rng = np.random.default_rng(0)
    made = []
    for number in range(count):
        row = np.zeros(len(FEATURE_NAMES), np.float32)
        row[:3] = rng.normal(0, 0.1, 3)
        row[number % 3] += 3
        made.append(item(f"{number}.wav", group=f"person {number % 6}", features=row))
    return made


chance_rows = st.tuples(*(st.floats(0.01, 1) for _ in LABELS)).map(
    lambda row: tuple(value / sum(row) for value in row)
)


class TestOrder:
    @settings(deadline=None)
    @given(st.lists(chance_rows, max_size=20), st.integers(5, 20))
    def test_the_most_informative_first_in_turns(
        self, rows: list[tuple[float, ...]], most: int
    ) -> None:
        items = [item(f"{number}.wav", chances=row) for number, row in enumerate(rows)]
        order = most_informative(items, most)
        assert len(order) <= most
        assert len({each.name for each in order}) == len(order)
        learned = [each for each in order if not each.apart]
        assert len(learned) == min(
            sum(not each.apart for each in items), most - (len(order) - len(learned))
        )
        for label in LABELS:
            worths = [each.worth for each in learned if each.guess == label]
            assert worths == sorted(worths, reverse=True)
        available = {each.guess for each in items if not each.apart}
        assert {each.guess for each in learned[: len(available)]} == set(
            sorted(available)[: len(learned)]
        )

    def test_a_label_the_model_does_not_believe_is_worth_most(self) -> None:
        wrong, right = item(given="other"), item(given="pop")
        assert wrong.worth > right.worth
        assert item(chances=(0.5, 0.5, 0.0)).worth == 1

    def test_every_fifth_is_drawn_at_random_however_long_the_queue(self, tmp_path: Path) -> None:
        items = most_informative((item(f"{number}.wav") for number in range(3000)), 500)
        queue = ReviewQueue(items, LABELS, tmp_path / "review.csv")
        apart = [items[number].apart for number in queue.open_items()]
        assert len(apart) == 500
        for first in range(0, 400, 5):
            assert apart[first : first + 5] == [False] * 4 + [True]
        drawn = [items[number].draw for number in queue.open_items() if items[number].apart]
        assert drawn == sorted(drawn)


class TestSaving:
    @settings(max_examples=8, deadline=None)
    @given(
        st.lists(
            st.tuples(st.integers(0, 4), st.sampled_from((*LABELS, UNSURE, "undo"))), max_size=8
        )
    )
    def test_files_always_hold_exactly_the_labels(
        self, tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[int, str]]
    ) -> None:
        folder = tmp_path_factory.mktemp("review")
        items = [item(f"{number}.wav", start=number) for number in range(5)]
        queue = ReviewQueue(items, LABELS, folder / "review.csv")
        acts: list[tuple[int, str]] = []
        for number, label in steps:
            if label == "undo":
                # Undo survives a new start: it takes back what was made before it too.
                queue = ReviewQueue(items, LABELS, folder / "review.csv")
                assert queue.undo() == (acts.pop()[0] if acts else None)
            else:
                queue.give(number, label)
                acts.append((number, label))
        expected = dict(acts)
        again = ReviewQueue(items, LABELS, folder / "review.csv")
        assert {n: again.label_of(n) for n in range(5) if again.label_of(n)} == expected
        assert set(again.open_items()) == {n for n in range(5) if n not in expected}
        sure = {n: label for n, label in expected.items() if label != UNSURE}
        assert (folder / "review.csv").exists() == bool(sure)
        assert (folder / "review-unsure.csv").exists() == (len(sure) < len(expected))
        if sure:
            clips = read_dataset(folder / "review.csv", allow_outside=True).clips
            assert {(clip.start, clip.label) for clip in clips} == {
                (float(number), label) for number, label in sure.items()
            }

    def test_an_unknown_label_or_an_endless_note_is_refused(self, tmp_path: Path) -> None:
        queue = ReviewQueue([item()], LABELS, tmp_path / "review.csv")
        with pytest.raises(ValueError, match="purple"):
            queue.give(0, "purple")
        with pytest.raises(ValueError, match="pop"):
            queue.give(0, "pop", "x" * 5000)
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize("name", ["review.csv", "review-unsure.csv", "review.db"])
    def test_a_file_of_someone_else_is_left_alone(self, tmp_path: Path, name: str) -> None:
        (tmp_path / name).write_text("a,b\n1,2\n")
        with pytest.raises(InvalidInputError, match="move it away"):
            ReviewQueue([item()], LABELS, tmp_path / "review.csv")
        assert (tmp_path / name).read_text() == "a,b\n1,2\n"

    def test_a_table_that_somebody_changed_is_left_alone(self, tmp_path: Path) -> None:
        file = tmp_path / "review.csv"
        ReviewQueue([item()], LABELS, file).give(0, "pop")
        file.write_text(file.read_text().replace("pop", "grating"))
        with pytest.raises(InvalidInputError, match="changed since"):
            ReviewQueue([item()], LABELS, file)

    def test_a_table_that_a_kill_left_behind_is_made_anew(self, tmp_path: Path) -> None:
        file = tmp_path / "review.csv"
        items = [item(), item("b.wav")]
        queue = ReviewQueue(items, LABELS, file)
        queue.give(0, "pop")
        before = file.read_bytes()
        queue.give(1, "grating")
        after = file.read_bytes()
        file.write_bytes(before)
        ReviewQueue(items, LABELS, file)
        assert file.read_bytes() == after

    def test_labels_that_cannot_be_saved_are_not_made(self, tmp_path: Path) -> None:
        from audio_pipeline.exceptions import CrepitusError

        queue = ReviewQueue([item()], LABELS, tmp_path / "gone" / "review.csv")
        with pytest.raises(CrepitusError, match="cannot write"):
            queue.give(0, "pop")
        assert queue.label_of(0) is None

    def test_a_label_whose_table_cannot_be_written_is_not_made(self, tmp_path: Path) -> None:
        items = [item(), item("b.wav")]
        queue = ReviewQueue(items, LABELS, tmp_path / "review.csv")
        queue.give(0, "pop")
        (tmp_path / "review-unsure.csv").mkdir()  # nothing can take its place
        with pytest.raises(Exception, match="review-unsure"):
            queue.give(1, UNSURE)
        (tmp_path / "review-unsure.csv").rmdir()
        again = ReviewQueue(items, LABELS, tmp_path / "review.csv")
        assert [again.label_of(number) for number in range(2)] == ["pop", None]

    def test_notes_are_exported_and_no_spreadsheet_runs_them(self, tmp_path: Path) -> None:
        queue = ReviewQueue([item(), item("b.wav")], LABELS, tmp_path / "review.csv")
        queue.give(0, "pop", "=1+1")
        queue.give(1, UNSURE, "a tap?")
        assert queue.note_of(0) == "=1+1"
        for name, note in (("review.csv", "'=1+1"), ("review-unsure.csv", "a tap?")):
            with (tmp_path / name).open(newline="") as file:
                assert [row["note"] for row in csv.DictReader(file)] == [note]

    @pytest.mark.slow
    def test_a_kill_loses_no_label_that_was_told_saved(self, tmp_path: Path) -> None:
        program = (
            "import sys; sys.path.insert(0, 'tests'); from pathlib import Path\n"
            "from app.server.test_server_review import LABELS, ReviewQueue, item\n"
            f"queue = ReviewQueue([item(f'{{n}}.wav') for n in range(500)], LABELS, "
            f"Path({str(tmp_path)!r}) / 'review.csv')\n"
            "for n in range(500): queue.give(n, 'pop'); print(n, flush=True)\n"
        )
        root = str(Path(__file__).parents[3])
        command = [sys.executable, "-c", program]
        with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=root) as ran:
            assert ran.stdout is not None
            said = [int(ran.stdout.readline()) for _ in range(12)]
            ran.send_signal(signal.SIGKILL)
            said += [int(line) for line in ran.stdout.read().split()]
        items = [item(f"{n}.wav") for n in range(500)]
        queue = ReviewQueue(items, LABELS, tmp_path / "review.csv")
        assert set(said) <= set(queue.made())
        clips = read_dataset(tmp_path / "review.csv", allow_outside=True).clips
        assert {clip.name for clip in clips} == {
            os.path.relpath(items[n].path, tmp_path) for n in queue.made()
        }


class TestRaters:
    def test_a_second_one_hears_exactly_the_same_sounds(self, tmp_path: Path) -> None:
        items = [item(f"{number}.wav") for number in range(40)]
        first = ReviewQueue(items, LABELS, tmp_path / "review.csv", "anna")
        heard = [number for number, _ in zip(first.open_items(), range(12), strict=False)]
        for number in heard:
            first.give(number, LABELS[number % 3])
        second = ReviewQueue(items, LABELS, tmp_path / "review.csv", "ben")
        assert set(second.open_items()) == set(heard)
        assert not second.counts()
        assert not second.wants_refit()

    def test_agreement_a_list_to_decide_and_what_was_decided(self, tmp_path: Path) -> None:
        items = [item(f"{number}.wav", group=f"p{number % 4}") for number in range(8)]
        file = tmp_path / "review.csv"
        said = {"anna": "pppggooo", "ben": "pppggoop"}
        words = {"p": "pop", "g": "grating", "o": "other"}
        for rater, letters in said.items():
            queue = ReviewQueue(items, LABELS, file, rater)
            for number, letter in enumerate(letters):
                queue.give(number, words[letter])
        found = agreements(queue.store, {each.key: each.group for each in items})
        assert found["raters"] == {"anna": 8, "ben": 8}
        assert found["differing"] == 1
        [pair] = found["pairs"]
        assert pair["agreed"] == 7 / 8
        assert 0 < pair["low"] <= pair["kappa"] <= pair["high"] <= 1
        assert len(read_dataset(file, allow_outside=True).clips) == 7
        with (tmp_path / "review-disagreements.csv").open(newline="") as stream:
            assert [(row["anna"], row["ben"]) for row in csv.DictReader(stream)] == [
                ("other", "pop")
            ]
        together = ReviewQueue(items, LABELS, file, DECIDED)
        assert list(together.open_items()) == [7]
        assert together.votes(7) == {"anna": "other", "ben": "pop"}
        together.give(7, "other")
        assert not (tmp_path / "review-disagreements.csv").exists()
        assert len(read_dataset(file, allow_outside=True).clips) == 8

    def test_one_who_is_unsure_differs(self, tmp_path: Path) -> None:
        for rater, label in (("anna", "pop"), ("ben", UNSURE)):
            queue = ReviewQueue([item()], LABELS, tmp_path / "review.csv", rater)
            queue.give(0, label)
        assert not (tmp_path / "review.csv").exists()
        assert (tmp_path / "review-disagreements.csv").exists()


class TestLearning:
    @pytest.mark.slow
    def test_after_twenty_labels_the_order_follows_and_is_judged(self, tmp_path: Path) -> None:
        items = described(120)
        queue = ReviewQueue(items, LABELS, tmp_path / "review.csv")
        for made in range(1, 61):
            number = next(queue.open_items())
            queue.give(number, LABELS[int(items[number].name.split(".")[0]) % 3])
            assert queue.wants_refit() == (made % 20 == 0)
            if queue.wants_refit():
                queue.refit()
        widths, counts = [], []
        for entry in queue.history:
            right = entry["estimate"]["right"]
            assert right["low"] <= right["value"] <= right["high"]
            widths.append(right["high"] - right["low"])
            counts.append(right["count"])
        assert counts == sorted(counts)
        assert widths[-1] < widths[0]
        # What is drawn at random is never learnt from.
        assert [entry["estimate"]["learnt"] for entry in queue.history] == [16, 32, 48]

    def test_more_like_this_comes_next(self, tmp_path: Path) -> None:
        items = described(60)
        queue = ReviewQueue(items, LABELS, tmp_path / "review.csv")
        number = next(n for n in queue.open_items() if n % 3 == 1)
        queue.give(number, "grating")
        assert queue.ask_for_more_like(number, 5) == 5
        nexts = [n for n in queue.open_items() if not items[n].apart][:5]
        assert {n % 3 for n in nexts} == {1}
        assert number not in nexts

    def test_the_page_answers_while_the_model_learns(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        items = described(60)
        queue = ReviewQueue(items, LABELS, tmp_path / "review.csv")
        go_on = threading.Event()
        refit = ReviewQueue.refit

        def slow(self: ReviewQueue) -> None:
            assert go_on.wait(20)
            refit(self)

        monkeypatch.setattr(ReviewQueue, "refit", slow)
        client = Client(queue)
        for _ in range(21):
            first = client.ask("GET", "/api/review").json()["items"][0]["number"]
            client.ask("POST", f"/api/review/{first}", json={"label": LABELS[first % 3]})
        assert client.ask("GET", "/api/review").json()["learning"]
        go_on.set()
        for _ in range(200):
            overview = client.ask("GET", "/api/review").json()
            if overview["history"]:
                break
            time.sleep(0.05)
        assert overview["history"][0]["labels"] in {20, 21}


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    folder = tmp_path / "set"
    for label, pops in (("pop", (1.0, 2.5)), ("other", (1.5,))):
        (folder / label).mkdir(parents=True)
        (folder / label / "ä 1.wav").write_bytes(sound_file(twist(pops)))
    return folder


class Client:
    """Asks a review's application directly."""

    def __init__(self, queue: ReviewQueue) -> None:
        self.app = create_review_app(queue)

    def ask(self, method: str, path: str, **options: Any) -> httpx.Response:
        async def send() -> httpx.Response:
            transport = httpx.ASGITransport(self.app)
            async with httpx.AsyncClient(
                transport=transport, base_url="http://localhost:8001"
            ) as client:
                return await client.request(method, path, **options)

        return asyncio.run(send())


@pytest.fixture
def queue(dataset: Path) -> ReviewQueue:
    return open_queue(dataset)


def test_a_dataset_is_heard_again(dataset: Path, queue: ReviewQueue) -> None:
    assert len(queue.items) == 3
    assert {each.given for each in queue.items} == {"pop", "other"}
    assert sorted(round(each.start, 1) for each in queue.items) == [1.0, 1.5, 2.5]
    assert queue.manifest == dataset / "review.csv"


def test_the_way_through_the_page(dataset: Path, queue: ReviewQueue) -> None:
    client = Client(queue)
    overview = client.ask("GET", "/api/review").json()
    assert overview["open"] == overview["total"] == 3
    first = overview["items"][0]
    sound = client.ask("GET", f"/api/review/{first['number']}/sound")
    samples, rate = soundfile.read(io.BytesIO(sound.content))
    assert rate == RATE
    loudest = first["clip_start"] + np.abs(samples).argmax() / rate
    assert loudest == pytest.approx(first["start"], abs=0.03)
    after = client.ask("POST", f"/api/review/{first['number']}", json={"label": "grating"}).json()
    assert after["open"] == 2
    assert after["counts"] == {"grating": 1}
    [clip] = read_dataset(dataset / "review.csv").clips
    assert clip.label == "grating"
    assert clip.path.is_file()
    assert clip.start == pytest.approx(first["start"], abs=1e-4)
    undone = client.ask("DELETE", "/api/review").json()
    assert undone["open"] == 3
    assert undone["undone"]["number"] == first["number"]
    assert client.ask("DELETE", "/api/review").json()["undone"] is None
    assert not (dataset / "review.csv").exists()


def test_what_gives_a_label_away_is_told_only_when_asked(queue: ReviewQueue) -> None:
    client = Client(queue)
    shown = client.ask("GET", "/api/review")
    number = shown.json()["items"][0]["number"]
    assert queue.items[number].name.encode() not in shown.content
    assert "given" not in shown.text
    told = client.ask("GET", f"/api/review/{number}").json()
    assert told["name"] == queue.items[number].name
    assert told["given"] == queue.items[number].given


def test_a_folder_without_labels(dataset: Path) -> None:
    queue = open_queue(dataset, unlabelled=True)
    assert len(queue.items) == 3
    assert {each.given for each in queue.items} == {None}
    assert {each.group for each in queue.items} == {"pop", "other"}


@pytest.mark.parametrize(
    "body",
    ["{", "[]", "{}", '{"label": "purple"}', '{"label": 1}', "null", '{"label": "pop", "note": 1}'],
)
def test_wrong_labels_are_refused(queue: ReviewQueue, body: str) -> None:
    response = Client(queue).ask("POST", "/api/review/0", content=body)
    assert response.status_code == 422
    assert "unsure" in response.json()["error"]


def test_what_is_not_there_and_who_may_not_ask(queue: ReviewQueue) -> None:
    client = Client(queue)
    assert client.ask("GET", "/api/review/99/sound").status_code == 404
    assert client.ask("POST", "/api/review/99", json={"label": "pop"}).status_code == 404
    assert client.ask("GET", "/api/review", headers={"host": "evil"}).status_code == 400
    page = client.ask("GET", "/")
    assert page.status_code == 200
    assert "default-src 'none'" in page.headers["content-security-policy"]


def test_a_batch_is_reviewed_from_its_results(dataset: Path, tmp_path: Path) -> None:
    from click.testing import CliRunner

    from audio_pipeline.app.cli import app as command_line

    out = tmp_path / "out"
    arguments = ["batch", str(dataset), "-o", str(out), "--jobs", "1", "--json"]
    done = CliRunner().invoke(command_line, arguments)
    assert done.exit_code == 0, done.output
    queue = open_queue(out)
    assert len(queue.items) == 3
    queue.give(0, "pop")
    [clip] = read_dataset(out / "review.csv", allow_outside=True).clips
    assert clip.path.is_file()
    assert json.dumps(sorted(queue.labels)) == json.dumps(sorted(LABELS))


def test_cutting_is_exact(tmp_path: Path) -> None:
    samples = twist((1.0,), 30.0)
    path = tmp_path / "long.wav"
    soundfile.write(path, samples, RATE, "FLOAT")
    piece, _ = soundfile.read(io.BytesIO(cut(path, 14.0, 15.5)))
    assert np.allclose(piece, samples[14 * RATE : round(15.5 * RATE)], atol=2**-14)
