"""The two tables as Parquet, with real types instead of text (extra ``parquet``)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from audio_pipeline.app.batch.export import (
    RECORDING_COLUMNS,
    event_columns,
    event_values,
    recording_values,
)
from audio_pipeline.app.batch.store import StoreReader
from audio_pipeline.app.outputs import replaced

_ROWS_AT_ONCE = 20_000

_TYPES = {
    "duration": pa.float64(),
    "start": pa.float64(),
    "end": pa.float64(),
    "confidence": pa.float64(),
    "sample_rate": pa.int32(),
    "impacts": pa.int32(),
    "uncertain": pa.bool_(),
}


def write_parquet_tables(store: StoreReader, out: Path) -> None:
    """Write ``recordings.parquet`` and ``events.parquet``; unknown values are null."""
    labels = store.labels
    _write(out / "recordings.parquet", RECORDING_COLUMNS, map(recording_values, store.rows()))
    events = (values for row in store.rows() for values in event_values(row, labels))
    _write(out / "events.parquet", event_columns(labels), events)


def _write(path: Path, columns: Sequence[str], rows: Iterable[tuple[Any, ...]]) -> None:
    """Write one table, some rows at a time."""
    schema = pa.schema([(name, _type(name)) for name in columns])
    with replaced(path) as file, pq.ParquetWriter(file, schema) as writer:
        for some in _portions(rows):
            values = zip(*some, strict=True)
            arrays = [pa.array(one, kind) for one, kind in zip(values, schema.types, strict=True)]
            writer.write_table(pa.Table.from_arrays(arrays, schema=schema))


def _type(name: str) -> Any:
    """Return the type of a column."""
    return pa.float64() if name.startswith("p_") else _TYPES.get(name, pa.string())


def _portions(rows: Iterable[tuple[Any, ...]]) -> Iterator[list[tuple[Any, ...]]]:
    """Cut rows into lists of bounded length."""
    rest = iter(rows)
    while some := list(islice(rest, _ROWS_AT_ONCE)):
        yield some
