"""What column files hold, for people: `recis data show`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from recis_core.io.error import ColumnError
from recis_core.io.files import files_find, source_open


@dataclass(frozen=True)
class Description:
    """Files alike in schema: column names with Arrow types, and totals over all files.

    `pieces` counts what `unit` says: row groups, stripes or record batches.
    """

    files: tuple[Path, ...]
    columns: tuple[tuple[str, str], ...]
    rows: int
    pieces: int
    unit: str
    nbytes: int


def describe(paths: str | Path | Sequence[str | Path]) -> Description:
    """Describe a file or folder; ColumnError if unreadable or if schemas differ, naming both."""
    files = files_find(paths)
    rows = pieces = 0
    columns: tuple[tuple[str, str], ...] = ()
    units: list[str] = []
    for file in files:
        source = source_open(file)
        found = tuple((f.name, str(f.type)) for f in source.schema)
        if file != files[0] and found != columns:
            differ = sorted({name for name, _ in set(found) ^ set(columns)}) or ["(their order)"]
            raise ColumnError(f"{file}: differs from {files[0]} in columns {', '.join(differ)}")
        columns = found
        rows += sum(source.pieces)
        pieces += len(source.pieces)
        units.append(source.unit)
    unit = units[0] if len(set(units)) == 1 else "piece"
    return Description(
        tuple(files), columns, rows, pieces, unit, sum(f.stat().st_size for f in files)
    )
