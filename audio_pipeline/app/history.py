"""Results that a person chose to keep on this machine: a small database, off unless asked for.

Nothing is kept by itself. What is kept can be read by whoever can read the file, which is this
machine's user; `export` encrypts it for taking it elsewhere.
"""

from __future__ import annotations

import base64
import datetime
import json
import secrets
import sqlite3
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from audio_pipeline.app.reporting.terminal import finding_words, label_words, strength
from audio_pipeline.app.text import visible
from audio_pipeline.exceptions import CrepitusError, InvalidInputError
from audio_pipeline.files import whole_file
from audio_pipeline.triage.messages import Catalogue, load_catalogue

APPLICATION_ID = 0x43726570  # "Crep"
SCHEMA_VERSION = 1

LONGEST_DOCUMENT = 5_000_000
LARGEST_TAKE = 100_000_000
LARGEST_HISTORY = 2_000_000_000
LARGEST_EXPORT = 400_000_000
"""Bytes."""

SHORTEST_PASSPHRASE = 10

# scrypt as OWASP advises (2024): 128 MB and about half a second a guess.
SCRYPT_N, SCRYPT_R, SCRYPT_P = 2**17, 8, 1

_TABLE = """
CREATE TABLE entries (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    key TEXT NOT NULL UNIQUE,
    made TEXT NOT NULL,
    model TEXT NOT NULL,
    recording TEXT NOT NULL,
    answers TEXT,
    take_name TEXT,
    take BLOB
)
"""


@dataclass(frozen=True)
class Entry:
    """One result that was kept."""

    id: int  # its number on this machine
    key: str  # what makes it the same entry on another machine
    made: datetime.datetime  # when, with the offset of its time zone
    model: str  # SHA-256 of the model that listened
    recording: Mapping[str, Any]  # an entry of ``recordings`` in the ``analyze --json`` document
    answers: Mapping[str, Any] | None  # question id to answer; None where nothing was asked
    # the recording itself, where it was kept: its name and its size, else None and 0
    take_name: str | None = None
    take_bytes: int = 0

    @property
    def finding(self) -> str:
        """The finding's label; ``failed`` where there is none."""
        finding = self.recording.get("finding")
        return str(finding["label"]) if finding else "failed"

    @property
    def level(self) -> str | None:
        """The level that was recommended."""
        recommendation = self.recording.get("recommendation")
        return str(recommendation["level"]) if recommendation else None

    def count(self, label: str) -> int:
        """Return how many events were surely of a label."""
        events = self.recording.get("events", ())
        return sum(event["label"] == label and not event["uncertain"] for event in events)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "id": self.id,
            "key": self.key,
            "made": self.made.isoformat(timespec="seconds"),
            "model": self.model,
            "finding": self.finding,
            "text": finding_text(self),
            "level": self.level,
            "pops": self.count("pop"),
            "gratings": self.count("grating"),
            "duration": self.recording.get("duration"),
            "answers": None if self.answers is None else dict(self.answers),
            "take": self.take_name,
        }


class History:
    """The results kept on this machine.

    ``path``: the database; None for the one in the user's data folder. It is made when the first
        result is kept, readable by its owner only.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = path or default_path()

    def add(
        self,
        recording: Mapping[str, Any],
        model: str,
        *,
        answers: Mapping[str, Any] | None = None,
        take: tuple[str, bytes] | None = None,
        made: datetime.datetime | None = None,
        key: str | None = None,
    ) -> Entry:
        """Keep one result.

        ``recording``: an entry of ``recordings`` in the ``analyze --json`` document.
        ``model``: SHA-256 of the model.
        ``answers``: the answers as given, or None.
        ``take``: name and bytes of the recording, where it is wanted too.
        ``made``: when it was recorded; now when None.
        ``key``: what makes it the same entry on another machine; a new one when None.
        Raises CrepitusError when it is too large, or cannot be written.
        """
        made = made or datetime.datetime.now().astimezone()
        entry = Entry(0, key or secrets.token_hex(16), made, model, recording, answers)
        document = json.dumps(recording, ensure_ascii=False)
        told = None if answers is None else json.dumps(dict(answers))
        if len(document) > LONGEST_DOCUMENT or (take and len(take[1]) > LARGEST_TAKE):
            raise CrepitusError("the result is too large to be kept")
        name, content = take or (None, None)
        with self._open(create=True) as database:
            if self.path.stat().st_size + len(content or b"") > LARGEST_HISTORY:
                raise CrepitusError("the history is full; delete old entries, or keep no takes")
            cursor = database.execute(
                "INSERT INTO entries (key, made, model, recording, answers, take_name, take)"
                " VALUES (?, ?, ?, ?, ?, ?, ?)",
                (entry.key, made.isoformat(), model, document, told, name, content),
            )
            number = cursor.lastrowid or 0
        return replace(entry, id=number, take_name=name, take_bytes=len(content or b""))

    def entries(
        self, first: datetime.date | None = None, last: datetime.date | None = None
    ) -> list[Entry]:
        """Return what was kept from the first day to the last one, oldest first."""
        with self._open() as database:
            rows = database.execute(
                "SELECT id, key, made, model, recording, answers, take_name,"
                " coalesce(length(take), 0) FROM entries ORDER BY made, id"
            ).fetchall()
        first, last = first or datetime.date.min, last or datetime.date.max
        return [entry for entry in map(_entry, rows) if first <= entry.made.date() <= last]

    def entry(self, number: int) -> Entry:
        """Return one entry.

        Raises InvalidInputError when there is none of this number.
        """
        for entry in self.entries():
            if entry.id == number:
                return entry
        raise InvalidInputError(f"the history has no entry {number}")

    def take(self, number: int) -> bytes | None:
        """Return the recording that was kept with an entry, None where there is none."""
        with self._open() as database:
            row = database.execute("SELECT take FROM entries WHERE id = ?", (number,)).fetchone()
        return None if row is None else row[0]

    def delete(self, number: int) -> bool:
        """Delete one entry; tell whether there was one. Its bytes are overwritten."""
        with self._open() as database:
            return database.execute("DELETE FROM entries WHERE id = ?", (number,)).rowcount > 0

    def delete_all(self) -> int:
        """Delete all entries and the file itself; return how many there were."""
        count = len(self.entries())
        if self.path.exists():
            with self._open() as database:
                database.execute("DELETE FROM entries")
            self.path.unlink()
        return count

    def export(self, target: Path, passphrase: str, *, takes: bool = True) -> int:
        """Write everything into one encrypted file; return how many entries.

        The file is a line of JSON, which says how the key is made of the passphrase (scrypt), and
        a Fernet token (AES-128-CBC and HMAC-SHA-256). `read_export` is the way back.

        Raises CrepitusError when the passphrase is too short, the takes are too large, or it cannot
        be written.
        """
        with whole_file(target) as file:
            file.write(self.exported(passphrase, takes=takes))
        return len(self.entries())

    def exported(self, passphrase: str, *, takes: bool = True) -> bytes:
        """Return the bytes of an export."""
        if len(passphrase) < SHORTEST_PASSPHRASE:
            raise InvalidInputError(
                f"the passphrase is too short: use {SHORTEST_PASSPHRASE} characters or more"
            )
        entries = self.entries()
        if takes and sum(entry.take_bytes for entry in entries) > LARGEST_EXPORT:
            raise CrepitusError("the takes are too large for one file; export without them")
        documents = []
        for entry in entries:
            content = self.take(entry.id) if takes and entry.take_name else None
            documents.append(
                {
                    "key": entry.key,
                    "made": entry.made.isoformat(),
                    "model": entry.model,
                    "recording": entry.recording,
                    "answers": entry.answers,
                    "take_name": entry.take_name if content else None,
                    "take": base64.b64encode(content).decode() if content else None,
                }
            )
        salt = secrets.token_bytes(16)
        head = {
            "format": "crepitus-history",
            "version": SCHEMA_VERSION,
            "scrypt": {"n": SCRYPT_N, "r": SCRYPT_R, "p": SCRYPT_P, "salt": salt.hex()},
        }
        token = _fernet(passphrase, salt, SCRYPT_N, SCRYPT_R, SCRYPT_P).encrypt(
            json.dumps(documents).encode()
        )
        return json.dumps(head).encode() + b"\n" + bytes(token)

    def merge(self, documents: Sequence[Mapping[str, Any]]) -> int:
        """Add the entries of an export that are not there yet; return how many."""
        known = {entry.key for entry in self.entries()}
        added = 0
        for document in documents:
            if document["key"] in known:
                continue
            take = document["take"]
            self.add(
                document["recording"],
                document["model"],
                answers=document["answers"],
                take=(document["take_name"], base64.b64decode(take)) if take else None,
                made=datetime.datetime.fromisoformat(document["made"]),
                key=document["key"],
            )
            added += 1
        return added

    @contextmanager
    def _open(self, *, create: bool = False) -> Iterator[sqlite3.Connection]:
        """Open the database for one transaction; an absent one is empty."""
        if create and not self.path.exists():
            try:
                self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                with suppress(FileExistsError):  # another one was quicker
                    self.path.touch(mode=0o600, exist_ok=False)
            except OSError as error:
                raise CrepitusError(f"{self.path}: cannot be made: {error.strerror}") from None
        name = str(self.path) if self.path.exists() else ":memory:"
        try:
            database = sqlite3.connect(name, timeout=10)
            try:
                with database:
                    _prepare(database, self.path)
                    yield database
            finally:
                database.close()
        except sqlite3.Error as error:
            raise CrepitusError(f"{self.path}: the history cannot be used: {error}") from None


def default_path() -> Path:
    """Return where the history of this user is kept."""
    import platformdirs

    return Path(platformdirs.user_data_dir("crepitus", appauthor=False)) / "history.sqlite"


def _prepare(database: sqlite3.Connection, path: Path) -> None:
    database.execute("PRAGMA secure_delete = ON")
    identity = database.execute("PRAGMA application_id").fetchone()[0]
    version = database.execute("PRAGMA user_version").fetchone()[0]
    if (identity, version) == (0, 0):
        if database.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            raise CrepitusError(f"{path} is another program's database")
        database.execute(_TABLE)
        database.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        database.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
    elif (identity, version) != (APPLICATION_ID, SCHEMA_VERSION):
        raise CrepitusError(f"{path} is of another version of Crepitus, or another program's")


def _entry(row: tuple[Any, ...]) -> Entry:
    number, key, made, model, recording, answers, take_name, take_bytes = row
    return Entry(
        number,
        key,
        datetime.datetime.fromisoformat(made),
        model,
        json.loads(recording),
        None if answers is None else json.loads(answers),
        take_name,
        take_bytes,
    )


def read_export(path: Path, passphrase: str) -> list[dict[str, Any]]:
    """Decrypt an export.

    Entries for `History.merge`.
    Raises InvalidInputError when it is no export, or the passphrase is another one.
    """
    try:
        with open(path, "rb") as file:
            head = json.loads(file.readline(1000))
            token = file.read(3 * LARGEST_EXPORT)
        scrypt = head["scrypt"]
        n, r, p, salt = scrypt["n"], scrypt["r"], scrypt["p"], bytes.fromhex(scrypt["salt"])
        sane = n in [2**power for power in range(14, 21)] and r in range(1, 17) and p in range(1, 5)
        if head["format"] != "crepitus-history" or head["version"] != SCHEMA_VERSION or not sane:
            raise ValueError
    except OSError as error:
        raise InvalidInputError(f"{path}: cannot be read: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, RecursionError):
        raise InvalidInputError(f"{path} is not a history that Crepitus exported") from None
    fernet = _fernet(passphrase, salt, n, r, p)
    from cryptography.fernet import InvalidToken

    try:
        documents: list[dict[str, Any]] = json.loads(fernet.decrypt(token))
    except InvalidToken:
        raise InvalidInputError(
            f"{path}: the passphrase is another one, or the file was changed"
        ) from None
    return documents


def _fernet(passphrase: str, salt: bytes, n: int, r: int, p: int) -> Any:
    try:
        from cryptography.fernet import Fernet
        from cryptography.hazmat.primitives.kdf.scrypt import Scrypt
    except ImportError:
        raise CrepitusError(
            'encryption needs cryptography; install it with: pip install "crepitus[serve]"'
        ) from None
    key = Scrypt(salt=salt, length=32, n=n, r=r, p=p).derive(passphrase.encode())
    return Fernet(base64.urlsafe_b64encode(key))


def counts_by_week(entries: Sequence[Entry]) -> list[dict[str, Any]]:
    """Count takes and sounds by ISO week, oldest first, weeks without a take left out.

    ``week`` (2026-W48), ``monday``, ``takes``, ``pops``, ``gratings``, ``findings`` (finding to
    count). The counts say how often was recorded and heard, not how a back is.
    """
    weeks: dict[tuple[int, int], list[Entry]] = {}
    for entry in entries:
        year, week, _ = entry.made.isocalendar()
        weeks.setdefault((year, week), []).append(entry)
    return [
        {
            "week": f"{year}-W{week:02d}",
            "monday": datetime.date.fromisocalendar(year, week, 1).isoformat(),
            "takes": len(found),
            "pops": sum(entry.count("pop") for entry in found),
            "gratings": sum(entry.count("grating") for entry in found),
            "findings": dict(Counter(entry.finding for entry in found)),
        }
        for (year, week), found in sorted(weeks.items())
    ]


def history_page(
    entries: Sequence[Entry], first: datetime.date | None = None, last: datetime.date | None = None
) -> str:
    """Return the page.

    ``entries``: oldest first.
    ``first, last``: the range of dates; that of the entries, or today, when None.
    HTML that needs nothing else. It never says better or worse: recordings of different days cannot
    be compared.
    """
    from audio_pipeline.app.reporting.report import render_page

    today = datetime.datetime.now().astimezone().date()
    words = load_catalogue("GB")
    shown = []
    before: Mapping[str, Any] = {}
    for entry in entries:
        shown.append(_shown(entry, before, words))
        before = entry.answers or before
    first = first or (entries[0].made.date() if entries else today)
    last = last or (entries[-1].made.date() if entries else today)
    return render_page(
        "history.html",
        f"Sounds of a back, {_day(first)}" + (f" to {_day(last)}" if last > first else ""),
        entries=shown,
        weeks=counts_by_week(entries),
    )


def _day(date: datetime.date) -> str:
    return f"{date.day} {date:%B %Y}"


def _shown(entry: Entry, before: Mapping[str, Any], words: Catalogue) -> dict[str, Any]:
    """Return an entry in words, with the answers that differ from those of the one before."""
    answers = entry.answers or {}
    changed = {name: value for name, value in answers.items() if before.get(name) != value}
    events = [event for event in entry.recording.get("events", ()) if not event["uncertain"]]
    return {
        "made": entry.made.strftime("%A %d %B %Y, %H:%M"),
        "finding": finding_text(entry),
        "level": words.level(entry.level, "title") if entry.level else None,
        "events": [
            {
                "time": f"{event['start']:.1f}",
                "label": label_words(event["label"]),
                "sure": strength(event["probabilities"][event["label"]]),
            }
            for event in events
        ],
        "answered": bool(answers),
        "answers": [_answer(name, value, words) for name, value in changed.items()],
    }


def finding_text(entry: Entry) -> str:
    """Return the finding of an entry in a sentence."""
    return finding_words(entry.finding, entry.count("pop"))


def _answer(name: str, value: Any, words: Catalogue) -> dict[str, str]:
    try:
        option = str(value) if isinstance(value, int) else words.option(name, str(value))
        return {"question": words.question(name), "option": option}
    except KeyError:  # of a questionnaire that was, or will be
        return {"question": visible(name), "option": visible(str(value))}
