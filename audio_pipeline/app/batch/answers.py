"""Answers for many recordings: a CSV table in, ``recommendations.csv`` out.

The table has a column ``recording`` (names as in ``recordings.csv``) and one for every question
that was asked; an empty cell is no answer. A recording without a row has no answers at all.
"""

from __future__ import annotations

import csv
import os
from dataclasses import dataclass
from pathlib import Path

from audio_pipeline.app.batch.export import RECOMMENDATION_COLUMNS, cell
from audio_pipeline.app.batch.store import Row, StoreReader
from audio_pipeline.app.outputs import written
from audio_pipeline.audio.discovery import readable
from audio_pipeline.exceptions import InvalidInputError
from audio_pipeline.files import csv_text
from audio_pipeline.triage.answers import Answers, parse_row
from audio_pipeline.triage.recommendation import Recommendation, Sound, recommend

_LARGEST = 2**30
"""Bytes of a table; a million recordings with every question answered have about half of it."""


@dataclass(frozen=True)
class AnswersTable:
    """Checked answers by the name of their recording."""

    answers: dict[str, Answers]

    def write_recommendations(self, store: StoreReader, out: Path) -> None:
        """Write ``recommendations.csv``, a row for every recording, failed ones too."""
        with written(out / "recommendations.csv") as file:
            table = csv.writer(file)
            table.writerow(RECOMMENDATION_COLUMNS)
            for row in store.rows():
                recommendation = self.recommend(row)
                rules = ";".join(dict.fromkeys(reason.rule for reason in recommendation.reasons))
                values = (
                    row.recording,
                    recommendation.level,
                    recommendation.incomplete,
                    recommendation.no_self_manipulation,
                    rules,
                )
                table.writerow(map(cell, values))

    def recommend(self, row: Row) -> Recommendation:
        """Return the recommendation for one recording."""
        finding = row.document["finding"]
        sound = Sound(finding["label"], finding["confidence"]) if finding else None
        return recommend(self.answers.get(row.recording, Answers()), sound)

    def without_recording(self, store: StoreReader) -> tuple[str, ...]:
        """Return the names in the table that the batch does not know."""
        return tuple(sorted(self.answers.keys() - {row.recording for row in store.rows()}))


def read_answers(path: Path) -> AnswersTable:
    """Read and check a whole table.

    Raises
    ------
    InvalidInputError
        When it cannot be read, has an unknown column or answer, or two rows for one recording.
    """
    name = readable(os.fsencode(path))
    answers: dict[str, Answers] = {}
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            if os.fstat(file.fileno()).st_size > _LARGEST:
                raise InvalidInputError(f"{name!r} is too large for a table of answers")
            table = csv.reader(file, strict=True)
            header = [column.strip() for column in next(table, [])]
            _check_header(header, name)
            for values in table:
                if not values:
                    continue
                where = f"{name}, line {table.line_num}"
                if len(values) != len(header):
                    raise InvalidInputError(
                        f"{where}: {len(values)} values for {len(header)} columns; "
                        "an unanswered question is an empty cell"
                    )
                row = dict(zip(header, values, strict=True))
                recording = csv_text(row.pop("recording"))
                if recording in answers:
                    raise InvalidInputError(f"{where}: a second row for {recording!r}; keep one")
                answers[recording] = parse_row(row, where)
    except OSError as error:
        raise InvalidInputError(f"cannot read the answers {name!r}: {error.strerror}") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise InvalidInputError(f"{name!r} is no CSV table in UTF-8: {error}") from None
    return AnswersTable(answers)


def _check_header(header: list[str], name: str) -> None:
    """Refuse a header without recordings, with unknown questions or with one twice."""
    if "recording" not in header:
        raise InvalidInputError(
            f"{name!r} has no column 'recording'; its first line names the columns"
        )
    for column in header:
        if header.count(column) > 1:
            raise InvalidInputError(f"{name!r} has two columns {column!r}; keep one")
    parse_row({column: "" for column in header if column != "recording"}, name)
