"""A group of equal tables: one id map and one set of blocks, grown before a batch needs them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from recis_core.access import Access
from recis_core.blocks import Blocks, Slot
from recis_core.kernels import Kernels
from recis_core.mixing import table_salt
from recis_core.readback import Readback
from recis_core.schema import Feature, Table


class TableFullError(RuntimeError):
    """A batch needs more rows than may be had; the tables are as they were."""


@dataclass(frozen=True)
class Found:
    """Rows of distinct pairs, -1 where absent; where that is, and how often; as of a state of
    the map, which the numbers of insertions and erasures before it name."""

    rows: Tensor
    at: Tensor
    missing: int
    inserted: int
    erased: int


class Group:
    """Tables whose dim, dtype, initializer and optimizer slots are equal.

    `salts` [tables] int64 on the device; `rates` the tables' factors on the learning rate.
    """

    def __init__(
        self,
        tables: Sequence[Table],
        slots: Sequence[Slot],
        kernels: Kernels,
        *,
        seed: int,
        log2_rows: int,
        limit: int,
    ) -> None:
        first = tables[0]
        init = first.initializer
        self.name = f"dim{first.dim}-{first.dtype}-{init.kind}-{init.a}-{init.b}"
        self.tables = tuple(tables)
        self.dim, self.initializer = first.dim, init
        self.kernels, self.seed, self.limit = kernels, seed, limit
        weight = Slot("weight", first.dim, getattr(torch, first.dtype))
        self.blocks = Blocks([weight, *slots], log2_rows, kernels.device)
        self.map = kernels.id_map(1 << log2_rows, limit)
        self.salts = torch.tensor([table_salt(t.name) for t in tables], device=kernels.device)
        self.rates = torch.tensor([t.rate for t in tables], device=kernels.device)
        self.access = Access(kernels.device)
        self.inserted = self.erased = 0
        # Rows in use and rows ever given out, where known without asking the device.
        self._held: tuple[int, int] | None = (0, 0)

    @property
    def rows(self) -> int:
        """Rows in use."""
        return len(self.map)

    @property
    def held(self) -> tuple[int, int]:
        """Rows in use and rows ever given out, counted here where a GPU would have to be asked."""
        if self._held is None:
            self._held = len(self.map), self.map.extent
        return self._held

    @property
    def nbytes(self) -> int:
        return self.blocks.nbytes

    def rate_of(self, tables: Tensor) -> tuple[float, Tensor | None]:
        """What the learning rate of each row is multiplied by: for all, and per row [n]."""
        rates = {table.rate for table in self.tables}
        return (rates.pop(), None) if len(rates) == 1 else (1.0, self.rates[tables.long()])

    def look(self, tables: Tensor, ids: Tensor) -> Look:
        """Look distinct pairs up without waiting for how many are missing; see `found_of`."""
        with self.access.reading():
            rows, missing = self.map.find(tables, ids)
            return rows, missing, self.inserted, self.erased

    def find(self, tables: Tensor, ids: Tensor) -> Found:
        """Look distinct pairs up; nothing changes."""
        looked = [self.look(tables, ids)]
        return found_of(looked, missing_of(looked))[0]

    def refresh(self, found: Found, tables: Tensor, ids: Tensor) -> Found:
        """`found` as the map says now: rows stay, what was missing may have come since."""
        if found.erased != self.erased:
            return self.find(tables, ids)
        if not found.missing or found.inserted == self.inserted:
            return found
        at = found.at
        now = self.find(tables[at], ids[at])
        rows = found.rows.index_copy(0, at, now.rows)
        return Found(rows, at[now.at], now.missing, now.inserted, now.erased)

    def insert(self, found: Found, tables: Tensor, ids: Tensor) -> Tensor:
        """Rows [n] of distinct pairs, those that `found` lacks made and initialised.

        TableFullError if that takes more rows than `limit` or than memory allows.
        """
        if not found.missing:
            return found.rows
        self.reserve(found, tables)
        at = found.at
        tables, ids = tables[at], ids[at]
        with self.access.writing():
            rows, fresh = self.map.insert(tables, ids)
            self.inserted += 1
        live, extent = self.held
        # Freed rows are given out before new ones.
        self._held = live + found.missing, max(extent, live + found.missing)
        init = self.initializer
        self.kernels.rows_init(
            self.blocks, rows, fresh, tables, ids, self.salts, self.seed, init.kind, init.a, init.b
        )
        return rows if found.missing == len(found.rows) else found.rows.index_copy(0, at, rows)

    def reserve(self, found: Found, tables: Tensor) -> None:
        """Have blocks for the pairs that `found` lacks, or raise TableFullError.

        No row is given out, and nothing changes where it is refused.
        """
        live, extent = self.held
        rows = max(extent, live + found.missing)
        if rows > self.limit:
            raise self._refusal(rows, found, tables, f"the limit is {self.limit} rows")
        if rows <= self.blocks.capacity:
            return
        try:
            self.blocks.grow(rows)
        except (MemoryError, RuntimeError) as error:
            # torch says that memory ran out by a RuntimeError whose text alone tells.
            if isinstance(error, RuntimeError) and "memory" not in str(error):
                raise
            raise self._refusal(rows, found, tables, "memory ran out") from error

    def _refusal(self, rows: int, found: Found, tables: Tensor, reason: str) -> TableFullError:
        asks = torch.bincount(tables[found.rows < 0].long(), minlength=len(self.tables))
        most = int(asks.argmax())
        stride = self.blocks.stride
        return TableFullError(
            f"table {self.tables[most].name!r} needs {int(asks[most])} new rows; its group "
            f"{self.name} would have {rows} rows of {stride} bytes, {rows * stride} bytes: {reason}"
        )

    def erase(self, tables: Tensor, ids: Tensor) -> Tensor:
        """Forget distinct pairs; the rows [n] they had, -1 where one was absent, are reused."""
        with self.access.writing():
            self.erased += 1
            self._held = None
            return self.map.erase(tables, ids)


Look = tuple[Tensor, Tensor, int, int]


def missing_of(looked: Sequence[Look]) -> Readback | None:
    """How many pairs each of several calls of `Group.look` lacked, on the way to the host."""
    return Readback([missing for _, missing, _, _ in looked]) if looked else None


def found_of(looked: Sequence[Look], missing: Readback | None) -> list[Found]:
    """What several calls of `Group.look` found, after one wait for `missing_of` them."""
    counts = missing.counts() if missing is not None else []
    return [
        Found(rows, absent(rows, count), count, inserted, erased)
        for count, (rows, _, inserted, erased) in zip(counts, looked, strict=True)
    ]


def absent(rows: Tensor, missing: int) -> Tensor:
    """Positions [missing] of the pairs that have no row."""
    if not missing:
        return rows.new_empty(0, dtype=torch.int64)
    if rows.device.type == "cuda":
        # Of known size, so nothing waits.
        return torch.nonzero_static(rows < 0, size=missing).flatten()
    return (rows < 0).nonzero().flatten()


def grouped(features: Sequence[Feature]) -> list[tuple[list[Table], list[Feature]]]:
    """Tables that share blocks and map, each with the features that look them up.

    ValueError for two features, or two different tables, of one name.
    """
    tables: dict[str, Table] = {}
    names: set[str] = set()
    groups: dict[tuple, tuple[list[Table], list[Feature]]] = {}
    for feature in features:
        table = feature.table
        if feature.name in names:
            raise ValueError(f"two features are called {feature.name!r}")
        names.add(feature.name)
        if tables.setdefault(table.name, table) != table:
            raise ValueError(
                f"feature {feature.name!r}: table {table.name!r} is {table}, "
                f"but elsewhere {tables[table.name]}"
            )
        alike = (table.dim, table.dtype, table.initializer)
        own, using = groups.setdefault(alike, ([], []))
        if table not in own:
            own.append(table)
        using.append(feature)
    return list(groups.values())
