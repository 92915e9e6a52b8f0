"""Reviewing by ear: what comes first, and labels that are never lost and can be trained on."""

from __future__ import annotations

import asyncio
import io
import json
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from server_support import RATE, sound_file, twist

from audio_pipeline.app.server.review import (
    UNSURE,
    ReviewItem,
    ReviewQueue,
    create_review_app,
    cut,
    most_informative,
    open_queue,
)
from audio_pipeline.datasets.manifest import read_dataset
from audio_pipeline.exceptions import InvalidInputError

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


chance_rows = st.tuples(*(st.floats(0.01, 1) for _ in LABELS)).map(
    lambda row: tuple(value / sum(row) for value in row)
)


class TestOrder:
    @settings(deadline=None)
    @given(st.lists(chance_rows, max_size=20), st.integers(1, 20))
    def test_the_most_informative_first_in_turns(
        self, rows: list[tuple[float, ...]], most: int
    ) -> None:
        items = [item(f"{number}.wav", chances=row) for number, row in enumerate(rows)]
        order = most_informative(items, most)
        assert len(order) == min(most, len(items))
        assert len({each.name for each in order}) == len(order)
        for label in LABELS:
            worths = [each.worth for each in order if each.guess == label]
            assert worths == sorted(worths, reverse=True)
        available = {each.guess for each in items}
        assert {each.guess for each in order[: len(available)]} == set(
            sorted(available)[: len(order)]
        )

    def test_a_label_the_model_does_not_believe_is_worth_most(self) -> None:
        wrong, right = item(given="other"), item(given="pop")
        assert wrong.worth > right.worth
        assert item(chances=(0.5, 0.5, 0.0)).worth == 1


class TestSaving:
    @settings(max_examples=20, deadline=None)
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
        expected: dict[int, str] = {}
        for number, label in steps:
            if label == "undo":
                queue.take_back(number)
                expected.pop(number, None)
            else:
                queue.give(number, label)
                expected[number] = label
        again = ReviewQueue(items, LABELS, folder / "review.csv")
        assert {n: again.label_of(n) for n in range(5) if again.label_of(n)} == expected
        assert list(again.open_items()) == [n for n in range(5) if n not in expected]
        sure = {n: label for n, label in expected.items() if label != UNSURE}
        assert (folder / "review.csv").exists() == bool(sure)
        if sure:
            clips = read_dataset(folder / "review.csv", allow_outside=True).clips
            assert {(clip.start, clip.label) for clip in clips} == {
                (float(number), label) for number, label in sure.items()
            }

    def test_an_unknown_label_is_refused(self, tmp_path: Path) -> None:
        queue = ReviewQueue([item()], LABELS, tmp_path / "review.csv")
        with pytest.raises(ValueError, match="purple"):
            queue.give(0, "purple")
        assert list(tmp_path.iterdir()) == []

    def test_a_file_of_someone_else_is_left_alone(self, tmp_path: Path) -> None:
        (tmp_path / "review.csv").write_text("a,b\n1,2\n")
        with pytest.raises(InvalidInputError, match="move it away"):
            ReviewQueue([item()], LABELS, tmp_path / "review.csv")

    def test_labels_that_cannot_be_saved_are_not_made(self, tmp_path: Path) -> None:
        from audio_pipeline.exceptions import CrepitusError

        queue = ReviewQueue([item()], LABELS, tmp_path / "gone" / "review.csv")
        with pytest.raises(CrepitusError, match="cannot write"):
            queue.give(0, "pop")
        assert queue.label_of(0) is None


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
    assert client.ask("DELETE", f"/api/review/{first['number']}").json()["open"] == 3
    assert not (dataset / "review.csv").exists()


@pytest.mark.parametrize("body", ["{", "[]", "{}", '{"label": "purple"}', '{"label": 1}', "null"])
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
