"""Records on disk: JSON Lines, one measurement a line, appended and never rewritten."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from roofline.kinds import Comparison, Counters, LargestBatch, RoofsRecord, StepRecord, Training
from roofline.record import Record

if TYPE_CHECKING:
    import pandas as pd

# By the "kind" of a line; a line without one is an op's.
KINDS: dict[str, type] = {
    "op": Record,
    "roofs": RoofsRecord,
    "step": StepRecord,
    "compare": Comparison,
    "counters": Counters,
    "training": Training,
    "largest": LargestBatch,
}


class Line(Protocol):
    """What can be a line of a file: a record of any kind."""

    def as_dict(self) -> dict[str, Any]: ...


T = TypeVar("T")


class RecordError(ValueError):
    """A file of records that cannot be read: the message names file, line and reason."""


def line(record: Line) -> str:
    """One record as a line of JSON, without its line end."""
    return json.dumps(record.as_dict(), allow_nan=False)


def append(path: Path, records: Iterable[Line]) -> None:
    """Add `records` to the end of `path`, making it and its folder where missing.

    A last line that an interruption cut off is dropped first.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    mend(path)
    with path.open("a", encoding="utf-8") as file:
        for record in records:
            file.write(line(record) + "\n")
            file.flush()


def mend(path: Path) -> None:
    """Drop what follows the last line end of `path`: a record that was being written."""
    if not path.exists():
        return
    with path.open("rb+") as file:
        size = end = file.seek(0, os.SEEK_END)
        while end:
            begin = max(end - (1 << 16), 0)
            file.seek(begin)
            found = file.read(end - begin).rfind(b"\n")
            end = begin if found < 0 else begin + found + 1
            if found >= 0:
                break
        if end < size:
            file.truncate(end)


def read_any(path: Path) -> list[Any]:
    """Every record of `path`, of any kind, in order; RecordError names the first line that is
    none."""
    found = []
    with path.open(encoding="utf-8") as file:
        for number, text in enumerate(file, 1):
            try:
                content = json.loads(text)
                kind = content.get("kind", "op")
                if kind not in KINDS:
                    raise ValueError(f"a record of kind {kind!r}; there are {', '.join(KINDS)}")
                found.append(KINDS[kind].from_dict(content))
            except (ValueError, TypeError, AttributeError) as error:
                raise RecordError(f"{path}, line {number}: {error}") from None
    return found


def read(path: Path, kind: type[T] = Record) -> list[T]:
    """The records of one kind in `path`, in order; RecordError as `read_any`."""
    return [record for record in read_any(path) if isinstance(record, kind)]


def table(records: Iterable[Record]) -> pd.DataFrame:
    """A row for each record, without its samples; nested fields as "device.name"."""
    import pandas as pd

    rows = [
        {k: v for k, v in r.as_dict().items() if k not in ("samples", "roofs")} for r in records
    ]
    return pd.json_normalize(rows)
