"""The files of one data set: alike in the columns asked for, read a piece at a time."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from functools import cached_property
from hashlib import sha256
from pathlib import Path

import pyarrow as pa

from recis_core.io.arrow import ArrowSource
from recis_core.io.error import ColumnError, first_line
from recis_core.io.extents import Extents, Plan, plan_of
from recis_core.io.files import files_find, source_open
from recis_core.io.kind import check_declared, check_type, leaf_type
from recis_core.io.order import Piece
from recis_core.io.source import Source
from recis_core.schema import Column

OPEN = 64  # files are kept open whose weights are no more together


class Dataset:
    """Column files checked for `columns` when constructed; a few are kept open, by latest use.

    Raises ColumnError naming file and column: none there, a wrong type, types that differ
    between two files. Not for several threads at once.
    """

    def __init__(self, paths: str | Path | Sequence[str | Path], columns: Sequence[Column]) -> None:
        if not columns:
            raise ColumnError("no column asked for")
        self.files = files_find(paths)
        self.columns = tuple(columns)
        self.names = tuple(c.name for c in columns)
        if len(set(self.names)) < len(self.names):
            twice = next(n for n in self.names if self.names.count(n) > 1)
            raise ColumnError(f"column {twice!r} is asked for twice")
        for column in columns:
            check_declared(column)
        self._plans: dict[int, tuple[pa.Schema, Plan]] = {}
        self._open: OrderedDict[int, Source] = OrderedDict()
        pieces: list[Piece] = []
        first: Source | None = None
        for number in range(len(self.files)):
            source = self._source(number)
            for column in columns:
                check_column(source, column, first)
            first = first or source
            row = 0
            for index, rows in enumerate(source.pieces):
                pieces.append(Piece(number, index, row, rows))
                row += rows
        self.pieces = tuple(pieces)
        self.rows = sum(p.rows for p in pieces)

    @cached_property
    def digest(self) -> str:
        """A hash of the files' names, bytes and rows of their pieces; folders do not count."""
        text = [(f.name, f.stat().st_size) for f in self.files], self.pieces
        return sha256(repr(text).encode()).hexdigest()[:16]

    def read(self, piece: Piece) -> pa.Table:
        """The columns of one piece; ColumnError naming file and rows if it cannot be decoded."""
        source = self._source(piece.file)
        try:
            table = source.read(piece.index, self.names)
        except (pa.ArrowException, OSError) as error:
            raise ColumnError(
                f"{source.path}: {source.unit} {piece.index}, rows {piece.first} to "
                f"{piece.first + piece.rows - 1}, cannot be read: {first_line(error)}"
            ) from error
        if table.num_rows != piece.rows:
            raise ColumnError(
                f"{source.path}: {source.unit} {piece.index} has {table.num_rows} rows, "
                f"the file's index says {piece.rows}"
            )
        return table

    def extents(self, piece: Piece, table: pa.Table) -> Extents | None:
        """Where the columns of a piece, which was read as `table`, lie in its file; None unless
        some lie there as they are."""
        source = self._source(piece.file)
        if not isinstance(source, ArrowSource):
            return None
        if piece.file not in self._plans:
            known = (plan for schema, plan in self._plans.values() if schema.equals(table.schema))
            plan = next(known, None) or plan_of(table.schema, self.columns)
            self._plans[piece.file] = (table.schema, plan)
        return source.extents(table, self._plans[piece.file][1])

    def _source(self, number: int) -> Source:
        if number not in self._open:
            self._open[number] = source_open(self.files[number])
            while len(self._open) > 1 and sum(s.weight for s in self._open.values()) > OPEN:
                self._open.popitem(last=False)
        self._open.move_to_end(number)
        return self._open[number]


def check_column(source: Source, column: Column, first: Source | None) -> None:
    """Raise ColumnError unless `source` has the column, of a fitting type and that of `first`."""
    said = f"{source.path}: column {column.name!r}"
    found = source.schema.get_all_field_indices(column.name)
    if len(found) != 1:
        there = ", ".join(map(repr, source.schema.names)) or "no columns"
        problem = "comes twice" if found else "is missing"
        raise ColumnError(f"{said} {problem}; the file has {there}")
    kind = source.schema.field(found[0]).type
    try:
        check_type(kind, column)
    except ColumnError as error:
        raise ColumnError(f"{said}: {error}") from None
    if first is not None:
        other = first.schema.field(column.name).type
        if leaf_type(other) != leaf_type(kind):
            raise ColumnError(f"{said} has type {kind}, but {other} in {first.path}")
