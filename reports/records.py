"""Records on disk: JSON Lines, one measurement a line, appended and never rewritten."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from roofline.record import Record

if TYPE_CHECKING:
    import pandas as pd


class RecordError(ValueError):
    """A file of records that cannot be read: the message names file, line and reason."""


def line(record: Record) -> str:
    """One record as a line of JSON, without its line end."""
    return json.dumps(record.as_dict(), allow_nan=False)


def append(path: Path, records: Iterable[Record]) -> None:
    """Add `records` to the end of `path`, making it and its folder where missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        for record in records:
            file.write(line(record) + "\n")


def read(path: Path) -> list[Record]:
    """Every record of `path`, in order; RecordError names the first line that is none."""
    found = []
    with path.open(encoding="utf-8") as file:
        for number, text in enumerate(file, 1):
            try:
                found.append(Record.from_dict(json.loads(text)))
            except (ValueError, TypeError, AttributeError) as error:
                raise RecordError(f"{path}, line {number}: {error}") from None
    return found


def table(records: Iterable[Record]) -> pd.DataFrame:
    """A row for each record, without its samples; nested fields as "device.name"."""
    import pandas as pd

    rows = [
        {k: v for k, v in r.as_dict().items() if k not in ("samples", "roofs")} for r in records
    ]
    return pd.json_normalize(rows)
