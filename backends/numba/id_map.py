"""An open-addressing dictionary in cells of 16 bytes, searched and filled side by side.

A cell is two words: the id, and table + 1 in the upper half over the row in the lower. A mark of
0 is an empty cell, 1 one that was erased; so every id is legal. Cells are probed in order from
the pair's hash. Inserting finds first, which writes nothing and says which pairs are new; gives
these rows by their position, so rows do not depend on threads; then cells are claimed by
compare-and-swap, where pairs known to be distinct and absent need only an unused cell.
"""

from __future__ import annotations

import mmap
from contextlib import suppress

import numpy as np
import torch
from torch import Tensor

from backends.numba.memory import claim, prefetch_line, set_word
from backends.numba.mixing import STEP, mix64
from backends.numba.threads import cuts, inlined, kernel, run, share
from recis_core.types import index_dtype

AHEAD = 16
# Cells are doubled when more than this share of them is used.
FULL = 0.5
ROWS = 1 << 32
HUGE = 2 << 20
_HALF, _LOW, _GONE = np.uint64(32), np.uint64(0xFFFFFFFF), np.uint64(1)


@inlined
def home(table, number, mask):
    """The first cell to look at for a pair."""
    hashed = mix64(np.uint64(number) + np.uint64(table) * STEP)
    return np.int64(hashed >> np.uint64(8)) & mask


@inlined
def cell_of(cells, mask, table, number):
    """The cell that holds a pair, or -1."""
    want = np.uint64(table + 1)
    at = home(table, number, mask)
    while True:
        mark = np.uint64(cells[at, 1])
        if mark == 0:
            return -1
        if cells[at, 0] == number and mark >> _HALF == want:
            return at
        at = (at + 1) & mask


@kernel
def find_rows(begin, end, bounds, cells, tables, ids, rows, absent):
    """Rows of the pairs in ranges [begin, end), -1 where absent, which absent[range] counts."""
    mask = len(cells) - 1
    base = cells.ctypes.data
    for part in range(begin, end):
        missing = 0
        first, stop = bounds[part], bounds[part + 1]
        for i in range(first, min(stop, first + AHEAD)):
            prefetch_line(base + 16 * home(np.int64(tables[i]), ids[i], mask))
        for i in range(first, stop):
            j = i + AHEAD
            if j < stop:
                prefetch_line(base + 16 * home(np.int64(tables[j]), ids[j], mask))
            at = cell_of(cells, mask, np.int64(tables[i]), ids[i])
            if at < 0:
                missing += 1
                rows[i] = -1
            else:
                rows[i] = np.int64(np.uint64(cells[at, 1]) & _LOW)
        absent[part] = missing


@inlined
def settle(base, mask, table, number, row):
    """Put a pair known to be absent into an unused cell; 1 if that cell had been erased."""
    at = home(table, number, mask)
    mark = np.uint64(table + 1) << _HALF | np.uint64(row)
    while True:
        place = base + 16 * at
        for old in (np.uint64(0), _GONE):
            if claim(place + 8, old, mark):
                set_word(place, number)
                return np.int64(old)
        at = (at + 1) & mask


@kernel
def insert_rows(
    begin, end, bounds, cells, tables, ids, rows, fresh, first_of, free, extent, reused
):
    """Rows by rank for the absent pairs of ranges [begin, end): freed ones, then new ones."""
    mask = len(cells) - 1
    base = cells.ctypes.data
    for part in range(begin, end):
        rank = first_of[part]
        again = 0
        first, stop = bounds[part], bounds[part + 1]
        for i in range(first, min(stop, first + AHEAD)):
            prefetch_line(base + 16 * home(np.int64(tables[i]), ids[i], mask))
        for i in range(first, stop):
            j = i + AHEAD
            if j < stop:
                prefetch_line(base + 16 * home(np.int64(tables[j]), ids[j], mask))
            fresh[i] = rows[i] < 0
            if fresh[i]:
                row = extent + rank - len(free)
                if rank < len(free):
                    row = free[len(free) - 1 - rank]
                rank += 1
                rows[i] = row
                again += settle(base, mask, np.int64(tables[i]), ids[i], row)
        reused[part] = again


@kernel
def move_cells(begin, end, old, cells):
    """Put what the old cells [begin, end) hold into new ones."""
    mask = len(cells) - 1
    base = cells.ctypes.data
    for at in range(begin, end):
        mark = np.uint64(old[at, 1])
        if mark > _GONE:
            table, row = np.int64(mark >> _HALF) - 1, np.int64(mark & _LOW)
            settle(base, mask, table, old[at, 0], row)


@kernel
def erase_rows(begin, end, cells, tables, ids, rows):
    """Mark the cells of the distinct pairs [begin, end) erased; rows they had, -1 where absent."""
    mask = len(cells) - 1
    for i in range(begin, end):
        at = cell_of(cells, mask, np.int64(tables[i]), ids[i])
        rows[i] = -1
        if at >= 0:
            rows[i] = np.int64(np.uint64(cells[at, 1]) & _LOW)
            cells[at, 1] = 1


@kernel
def list_cells(begin, end, cells, tables, ids, held):
    """The pair of every row, by row; held[row] says whether it has one."""
    for at in range(begin, end):
        mark = np.uint64(cells[at, 1])
        if mark > _GONE:
            row = np.int64(mark & _LOW)
            tables[row] = np.int64(mark >> _HALF) - 1
            ids[row] = cells[at, 0]
            held[row] = True


class id_map:
    """See the declaration. Memory: 16 bytes a cell, 32 to 64 a pair."""

    def __init__(self, capacity: int, limit: int, *, device: torch.device | str = "cpu") -> None:
        self.limit = limit
        self.dtype = getattr(torch, index_dtype(limit))
        self.extent = 0
        self.free = np.empty(0, np.int64)
        self.pairs = self.erased = 0
        self.cells = unused(capacity)

    def __len__(self) -> int:
        return self.pairs

    def find(self, tables: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
        rows = torch.empty(len(ids), dtype=self.dtype)
        _, absent = self._find(tables, ids, rows)
        return rows, torch.tensor([int(absent.sum())])

    def insert(self, tables: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
        rows = torch.empty(len(ids), dtype=self.dtype)
        fresh = torch.empty(len(ids), dtype=torch.bool)
        bounds, absent = self._find(tables, ids, rows)
        new = int(absent.sum())
        if self.pairs + new > min(self.limit, ROWS):
            raise OverflowError(f"id_map is limited to {min(self.limit, ROWS)} rows")
        self._make_room(new)
        again = np.zeros(len(absent), np.int64)
        run(
            insert_rows,
            [*range(len(bounds))],
            bounds,
            self.cells,
            tables.numpy(),
            ids.numpy(),
            rows.numpy(),
            fresh.numpy(),
            np.cumsum(absent) - absent,
            self.free,
            self.extent,
            again,
        )
        taken = min(new, len(self.free))
        self.free = self.free[: len(self.free) - taken].copy()
        self.extent += new - taken
        self.pairs += new
        self.erased -= int(again.sum())
        return rows, fresh

    def erase(self, tables: Tensor, ids: Tensor) -> Tensor:
        rows = torch.empty(len(ids), dtype=self.dtype)
        moved = 64 * len(ids)
        share(erase_rows, len(ids), moved, self.cells, tables.numpy(), ids.numpy(), rows.numpy())
        gone = rows.numpy()
        self.free = np.concatenate([self.free, gone[gone >= 0]])
        self.erased += int((gone >= 0).sum())
        self.pairs -= int((gone >= 0).sum())
        return rows

    def items(self) -> tuple[Tensor, Tensor, Tensor]:
        """In order of rows, so the same whatever way the map came to its content."""
        tables, ids = np.empty(self.extent, np.int32), np.empty(self.extent, np.int64)
        held = np.zeros(self.extent, bool)
        share(list_cells, len(self.cells), self.cells.nbytes, self.cells, tables, ids, held)
        rows = torch.from_numpy(np.flatnonzero(held)).to(self.dtype)
        return torch.from_numpy(tables[held]), torch.from_numpy(ids[held]), rows

    def _find(self, tables: Tensor, ids: Tensor, rows: Tensor) -> tuple[np.ndarray, np.ndarray]:
        """Fill rows; bounds of ranges and how many pairs of each are absent."""
        bounds = np.array(cuts(len(ids), 64 * len(ids)))
        absent = np.empty(len(bounds) - 1, np.int64)
        arrays = (self.cells, tables.numpy(), ids.numpy(), rows.numpy())
        run(find_rows, [*range(len(bounds))], bounds, *arrays, absent)
        return bounds, absent

    def _make_room(self, new: int) -> None:
        """Have cells for `new` pairs more; erased cells are left behind when cells are moved."""
        if self.pairs + self.erased + new <= FULL * len(self.cells):
            return
        cells = unused(max(2 * self.pairs, self.pairs + new))
        share(move_cells, len(self.cells), self.cells.nbytes, self.cells, cells)
        self.cells, self.erased = cells, 0


def unused(pairs: int) -> np.ndarray:
    """Empty cells for so many pairs, int64 [2^k, 2]; written now, so no page is first met later."""
    size = 1 << max(4, (int(pairs / FULL) - 1).bit_length())
    cells = large_pages(16 * size).view(np.int64).reshape(size, 2)
    cells.fill(0)
    return cells


def large_pages(nbytes: int) -> np.ndarray:
    """Bytes; in pages of 2 MiB where the system lends them, as cells are met at random and each
    would first cost a walk through the page table."""
    if nbytes < HUGE or not hasattr(mmap, "MADV_HUGEPAGE"):
        return np.empty(nbytes, np.uint8)
    held = mmap.mmap(-1, nbytes + HUGE)
    with suppress(OSError):
        held.madvise(mmap.MADV_HUGEPAGE)
    start = -np.frombuffer(held, np.uint8).ctypes.data % HUGE
    return np.frombuffer(held, np.uint8, nbytes, start)
