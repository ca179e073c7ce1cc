"""id_map: open addressing with linear probing, every probe one round over all undecided pairs."""

from __future__ import annotations

import torch
from torch import Tensor

from backends.torch.words import signed
from recis_core.types import index_dtype

EMPTY, ERASED = -1, -2
MIX1, MIX2, MIX3 = (
    signed(0x9E3779B97F4A7C15),
    signed(0xD6E8FEB86659FD93),
    signed(0xA0761D6478BD642F),
)


class id_map:
    """Cells hold (table, id) -> row; at most half are in use, erased ones included.

    A cell's table is EMPTY where a probe ends and ERASED where it goes on. Empty cells have row -1.
    """

    def __init__(self, capacity: int, limit: int, *, device: torch.device | str) -> None:
        self.limit, self.device = limit, torch.device(device)
        self.dtype = getattr(torch, index_dtype(limit))
        self.extent = self.held = self.used = self.freed = 0
        self.free = torch.empty(0, dtype=self.dtype, device=self.device)
        self._clear(capacity)

    def find(self, tables: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
        rows = self.rows.index_select(0, self._places(tables, ids))
        return rows, (rows < 0).sum().reshape(1)

    def insert(self, tables: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
        places = self._places(tables, ids)
        rows = self.rows.index_select(0, places)
        fresh = rows < 0
        new = fresh.nonzero().flatten()
        if not len(new):
            return rows, fresh
        if self.held + len(new) > self.limit:
            raise OverflowError(f"id_map is limited to {self.limit} rows")
        tables, ids = tables.index_select(0, new), ids.index_select(0, new)
        if (self.used + len(new)) * 2 > len(self.ids):
            self._rebuild(self.held + len(new))
            places = self._places(tables, ids)
        else:
            places = places.index_select(0, new)
        given = self._take(len(new))
        self._claim(places, tables, ids, given)
        self.used += len(new)
        self.held += len(new)
        return rows.index_copy_(0, new, given), fresh

    def erase(self, tables: Tensor, ids: Tensor) -> Tensor:
        places = self._places(tables, ids)
        rows = self.rows.index_select(0, places)
        held = (rows >= 0).nonzero().flatten()
        places, gone = places.index_select(0, held), rows.index_select(0, held)
        self.tables.index_fill_(0, places, ERASED)
        self.rows.index_fill_(0, places, -1)
        self.free = torch.cat([self.free[: self.freed], gone])
        self.freed = len(self.free)
        self.held -= len(held)
        return rows

    def items(self) -> tuple[Tensor, Tensor, Tensor]:
        """By row, so that the order does not depend on who won a cell."""
        cells = (self.tables >= 0).nonzero().flatten()
        cells = cells.index_select(0, self.rows.index_select(0, cells).argsort())
        tables, ids = self.tables.index_select(0, cells), self.ids.index_select(0, cells)
        return tables, ids, self.rows.index_select(0, cells)

    def __len__(self) -> int:
        return self.held

    def _clear(self, pairs: int) -> None:
        """Empty cells for `pairs` pairs at least; all allocated before any is replaced."""
        cells = 1 << max(2 * pairs - 1, 15).bit_length()
        tables = torch.full((cells,), EMPTY, dtype=torch.int32, device=self.device)
        rows = torch.full((cells,), -1, dtype=self.dtype, device=self.device)
        self.ids = torch.zeros(cells, dtype=torch.int64, device=self.device)
        self.tables, self.rows, self.mask = tables, rows, cells - 1

    def _rebuild(self, pairs: int) -> None:
        """Move to new cells, a third of them in use by `pairs` pairs, so that growth is rare."""
        tables, ids, rows = self.items()
        self._clear(pairs + pairs // 2)
        self._claim(self._home(tables, ids), tables, ids, rows)
        self.used = self.held

    def _home(self, tables: Tensor, ids: Tensor) -> Tensor:
        """The cell a pair's probe begins at."""
        h = (tables.long() * MIX1).bitwise_xor_(ids).mul_(MIX2)
        h.bitwise_xor_(h >> 32).mul_(MIX3)
        return h.bitwise_right_shift_(32).bitwise_and_(self.mask)

    def _places(self, tables: Tensor, ids: Tensor) -> Tensor:
        """For each pair its cell, or the empty one at which its probe ended."""
        places = self._home(tables, ids)
        at, open_ = places, None
        while len(at):
            seen = self.tables.index_select(0, at)
            on = self.ids.index_select(0, at).ne(ids)
            on.logical_or_(seen != tables).logical_and_(seen != EMPTY)
            left = on.nonzero().flatten()
            tables, ids = tables.index_select(0, left), ids.index_select(0, left)
            at = at.index_select(0, left).add_(1).bitwise_and_(self.mask)
            open_ = left if open_ is None else open_.index_select(0, left)
            places.index_copy_(0, open_, at)
        return places

    def _claim(self, at: Tensor, tables: Tensor, ids: Tensor, rows: Tensor) -> None:
        """Store distinct pairs that the map does not hold, from cell `at` on. Of those that want
        one cell, the one whose row is found in it afterwards has it."""
        while len(at):
            vacant = self.tables.index_select(0, at) == EMPTY
            self.rows[at[vacant]] = rows[vacant]
            won = self.rows.index_select(0, at) == rows
            won.logical_and_(vacant)
            cells = at[won]
            self.tables.index_copy_(0, cells, tables[won].int())
            self.ids.index_copy_(0, cells, ids[won])
            left = won.logical_not_().nonzero().flatten()
            tables, ids, rows = (x.index_select(0, left) for x in (tables, ids, rows))
            at = at.index_select(0, left).add_(1).bitwise_and_(self.mask)

    def _take(self, n: int) -> Tensor:
        """n rows: freed ones first, then the next never used."""
        again = min(n, self.freed)
        self.freed -= again
        end = self.extent + n - again
        unused = torch.arange(self.extent, end, dtype=self.dtype, device=self.device)
        self.extent = end
        return torch.cat([self.free[self.freed : self.freed + again], unused])
