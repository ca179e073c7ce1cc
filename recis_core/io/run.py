"""Runs of rows: parts of one decoded piece, in reading order, on their way into a batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa

from recis_core.io.column import Raw, column_raw, piece_raw
from recis_core.io.direct import NOTHING, chosen, direct
from recis_core.io.error import ColumnError
from recis_core.io.extents import Chosen, Cut, Extents
from recis_core.io.missing import RowError
from recis_core.io.stage import Staged, stage
from recis_core.schema import Column


@dataclass(frozen=True)
class Run:
    """Rows of `file`; `numbers` says which, by position in the file.

    It is the rows from `first` on, or those of the numbers `order`, of `table`, of `raws`, columns
    of a whole piece as views, and of `extents`, which say where in the file that piece lies.
    """

    file: Path
    table: pa.Table
    numbers: np.ndarray
    raws: Mapping[str, Raw] = field(default_factory=dict)
    first: int = 0
    extents: Extents | None = None
    order: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.numbers)

    def copy(self) -> Run:
        """The same rows in memory of their own."""
        first, order = self.first, self.order
        rows = np.arange(first, first + len(self)) if order is None else order
        return Run(self.file, self.table.take(pa.array(rows)), self.numbers)

    def column(self, name: str) -> pa.ChunkedArray:
        """A column as Arrow has it."""
        whole = self.table.column(name)
        if self.order is None:
            return whole.slice(self.first, len(self))
        return whole.take(pa.array(self.order))

    def raw(self, name: str) -> Raw | None:
        """A column of `raws`."""
        whole = self.raws.get(name)
        if whole is None:
            return None
        if self.order is not None:
            return whole.pick(self.order)
        return whole.part(self.first, self.first + len(self))


@dataclass(frozen=True)
class Decoded:
    """A whole piece whose first row is row `first` of `file`; `order` permutes its rows.

    `raws`: those of its columns that are views once and for all; `extents` of those that can be
    read from the file again. `mapped`: it holds no memory.
    """

    file: Path
    table: pa.Table
    first: int
    order: np.ndarray | None
    raws: Mapping[str, Raw] = field(default_factory=dict)
    extents: Extents | None = None
    mapped: bool = False

    def part(self, start: int, stop: int) -> Run:
        """Rows `start` to `stop` in reading order, as views or yet to be gathered."""
        if self.order is None:
            numbers = np.arange(self.first + start, self.first + stop)
            return Run(self.file, self.table, numbers, self.raws, start, self.extents)
        own = self.order[start:stop]
        numbers = self.first + own
        return Run(self.file, self.table, numbers, self.raws, extents=self.extents, order=own)


def whole_raws(table: pa.Table, columns: Sequence[Column]) -> dict[str, Raw]:
    """Of a decoded piece, every column that can be taken as it lies."""
    found = {}
    for column in columns:
        chunks = table.column(column.name).chunks
        if len(chunks) == 1 and (raw := piece_raw(chunks[0], column)) is not None:
            found[column.name] = raw
    return found


def runs_stage(runs: Sequence[Run], columns: Sequence[Column], pin: bool = False) -> Staged:
    """Stage the rows of `runs` one after the other; ColumnError names file, column, row, value."""
    own = chosen([run.extents for run in runs])
    straight, others = NOTHING, columns
    if own is not None:
        straight, others = direct(own, [run_cut(run, own) for run in runs]), own.others
    raws = {c.name: [raw for run in runs for raw in run_raws(run, c)] for c in others}
    return stage(columns, raws, sum(map(len, runs)), pin, straight)


def run_cut(run: Run, own: Chosen) -> Cut:
    assert run.extents is not None
    if run.order is not None:
        return run.extents.pick(own.numbers, run.order)
    return run.extents.cut(own.numbers, run.first, run.first + len(run))


def run_raws(run: Run, column: Column) -> list[Raw]:
    """A column of a run, in as many parts as Arrow keeps it."""
    if (found := run.raw(column.name)) is not None:
        return [found]
    raws, at = [], 0
    for chunk in run.column(column.name).chunks:
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
