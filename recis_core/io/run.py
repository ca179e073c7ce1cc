"""Runs of rows: parts of one decoded piece, in reading order, on their way into a batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from recis_core.io.column import Raw, column_raw
from recis_core.io.error import ColumnError
from recis_core.io.missing import RowError
from recis_core.io.stage import Staged, stage
from recis_core.schema import Column


@dataclass(frozen=True)
class Run:
    """Rows of `file`; `numbers` says which, by position in the file."""

    file: Path
    table: pa.Table
    numbers: np.ndarray

    def __len__(self) -> int:
        return len(self.numbers)

    def copy(self) -> Run:
        """The same rows in memory of their own."""
        return Run(self.file, self.table.take(pa.array(np.arange(len(self)))), self.numbers)


@dataclass(frozen=True)
class Decoded:
    """A whole piece whose first row is row `first` of `file`; `order` permutes its rows."""

    file: Path
    table: pa.Table
    first: int
    order: np.ndarray | None

    def part(self, start: int, stop: int) -> Run:
        """Rows `start` to `stop` in reading order: a view, or gathered where permuted."""
        if self.order is None:
            numbers = np.arange(self.first + start, self.first + stop)
            return Run(self.file, self.table.slice(start, stop - start), numbers)
        chosen = self.order[start:stop]
        return Run(self.file, self.table.take(pa.array(chosen)), self.first + chosen)


def runs_stage(runs: Sequence[Run], columns: Sequence[Column], pin: bool = False) -> Staged:
    """Stage the rows of `runs` one after the other; ColumnError names file, column, row, value."""
    raws = {c.name: [raw for run in runs for raw in run_raws(run, c)] for c in columns}
    return stage(columns, raws, sum(map(len, runs)), pin)


def run_raws(run: Run, column: Column) -> list[Raw]:
    """A column of a run, in as many parts as Arrow keeps it."""
    raws, at = [], 0
    for chunk in run.table.column(column.name).chunks:
        if not len(chunk):
            continue
        try:
            raws.append(column_raw(chunk, column))
        except RowError as fault:
            row = run.numbers[at + fault.row]
            raise ColumnError(
                f"{run.file}: column {column.name!r}, row {row}: {fault.why}"
            ) from None
        at += len(chunk)
    return raws
