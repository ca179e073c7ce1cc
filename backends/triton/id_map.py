"""id_map: open addressing, growth decided on the host from bounds of what the device counts."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from backends.triton.cells import claim_pairs, find_pairs, look_up, take_pairs
from backends.triton.fill import fill
from backends.triton.launch import WIDEN, cover, launch
from backends.triton.swap import takes_cells
from recis_core.types import index_dtype

# Positions in the state: pairs held, cells taken since the last rehash, rows ever given out, freed
# rows, new pairs of the insertion under way; apart, aligned, the pairs it did not find.
LIVE, USED, EXTENT, FREE, FRESH = (tl.constexpr(k) for k in range(5))
MISSING, STATE = 6, 7
LOAD = 0.5
LEAST_CELLS = 1024
# A warp a program: a pair that probes for long then holds up few others.
BLOCK = 64 * WIDEN
# More where pairs are numbered: all programs add to one counter, which takes some nanoseconds each.
CLAIM, INSERT = (256 * WIDEN, 2), (512 * WIDEN, 8)


@triton.jit(do_not_specialize=["mask", "n"])
def _find(cells, mask, tables, ids, rows, missing, n, BLOCK: tl.constexpr):
    i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    live = i < n
    table = tl.load(tables + i, mask=live, other=0).to(tl.int64)
    _, row = find_pairs(cells, mask, table, tl.load(ids + i, mask=live, other=0), live)
    tl.store(rows + i, row.to(rows.dtype.element_ty), mask=live)
    if missing is not None:
        absent = tl.sum((live & (row < 0)).to(tl.int64))
        if absent > 0:
            tl.atomic_add(missing, absent, sem="relaxed")


@triton.jit
def _numbered(state, free_rows, new, count):
    """Rows of new pairs, numbered a program at a time: freed ones first, then the next."""
    base = tl.atomic_add(state + FRESH, count.to(tl.int64), sem="relaxed")
    k = base + tl.cumsum(new.to(tl.int32)) - 1
    freed = tl.load(state + FREE)
    reused = new & (k < freed)
    row = tl.load(free_rows + (freed - 1 - k), mask=reused, other=0).to(tl.int64)
    return tl.where(reused, row, tl.load(state + EXTENT) + k - freed)


@triton.jit(do_not_specialize=["mask", "n"])
def _insert(cells, mask, state, free_rows, tables, ids, rows, fresh, n, BLOCK: tl.constexpr):
    """Looks for pairs and gives cells to those that are absent; for whole cells at once."""
    i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    live = i < n
    table = tl.load(tables + i, mask=live, other=0).to(tl.int64)
    pair = tl.load(ids + i, mask=live, other=0)
    at, row = look_up(cells, mask, table, pair, live)
    new = live & (row < 0)
    tl.store(fresh + i, new, mask=live)
    count = tl.sum(new.to(tl.int32))
    if count > 0:
        row = tl.where(new, _numbered(state, free_rows, new, count), row)
        take_pairs(cells, mask, at, table, pair, row, new)
    tl.store(rows + i, row.to(rows.dtype.element_ty), mask=live)


@triton.jit(do_not_specialize=["mask", "n"])
def _claim(cells, mask, state, free_rows, tables, ids, rows, fresh, n, BLOCK: tl.constexpr):
    """The same for pairs that were looked for, and have no row, one word of a cell at a time."""
    i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    live = i < n
    new = live & (tl.load(rows + i, mask=live, other=0) < 0)
    tl.store(fresh + i, new, mask=live)
    count = tl.sum(new.to(tl.int32))
    if count > 0:
        row = _numbered(state, free_rows, new, count)
        tl.store(rows + i, row.to(rows.dtype.element_ty), mask=new)
        table = tl.load(tables + i, mask=new, other=0).to(tl.int64)
        claim_pairs(cells, mask, table, tl.load(ids + i, mask=new, other=0), row, new)


@triton.jit
def _settle(state):
    new, freed = tl.load(state + FRESH), tl.load(state + FREE)
    tl.store(state + LIVE, tl.load(state + LIVE) + new)
    tl.store(state + USED, tl.load(state + USED) + new)
    tl.store(state + EXTENT, tl.load(state + EXTENT) + tl.maximum(new - freed, 0))
    tl.store(state + FREE, tl.maximum(freed - new, 0))
    tl.store(state + FRESH, new * 0)


@triton.jit(do_not_specialize=["mask", "n"])
def _erase(cells, mask, state, free_rows, tables, ids, rows, n, BLOCK: tl.constexpr):
    i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    live = i < n
    table = tl.load(tables + i, mask=live, other=0).to(tl.int64)
    place, row = find_pairs(cells, mask, table, tl.load(ids + i, mask=live, other=0), live)
    tl.store(rows + i, row.to(rows.dtype.element_ty), mask=live)
    held = live & (row >= 0)
    count = tl.sum(held.to(tl.int64))
    if count > 0:
        row_words = cells.to(tl.pointer_type(tl.int32)) + place * 4 + 3
        tl.store(row_words, tl.zeros_like(place).to(tl.int32) - 1, mask=held)
        base = tl.atomic_add(state + FREE, count, sem="relaxed")
        k = base + tl.cumsum(held.to(tl.int64)) - 1
        tl.store(free_rows + k, row.to(tl.int32), mask=held)
        tl.atomic_add(state + LIVE, -count, sem="relaxed")


@triton.jit
def _held(cells, c, n):
    """Pair, table and row of the cells c, and which of them hold one."""
    pair = tl.load(cells + c * 2, mask=c < n, other=0)
    word = tl.load(cells + c * 2 + 1, mask=c < n, other=0)
    return pair, word & 0x7FFFFFFF, word >> 32, (word != 0) & (word >= 0)


@triton.jit(do_not_specialize=["mask", "n"])
def _rehash(old, cells, mask, n, BLOCK: tl.constexpr):
    c = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    pair, table, row, held = _held(old, c, n)
    claim_pairs(cells, mask, table, pair, row, held)


@triton.jit(do_not_specialize=["n"])
def _items(cells, written, tables, ids, rows, n, BLOCK: tl.constexpr):
    c = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    pair, table, row, held = _held(cells, c, n)
    count = tl.sum(held.to(tl.int64))
    if count > 0:
        base = tl.atomic_add(written, count, sem="relaxed")
        k = base + tl.cumsum(held.to(tl.int64)) - 1
        tl.store(tables + k, table.to(tl.int32), mask=held)
        tl.store(ids + k, pair, mask=held)
        tl.store(rows + k, row.to(rows.dtype.element_ty), mask=held)


class id_map:
    """Pairs to rows, at most half full; see recis_core/ops/id_map.py.

    Upper bounds of what the device counts are kept on the host, which waits for the device only
    when a bound says that the map might have to grow or might pass its limit.
    """

    def __init__(self, capacity: int, limit: int, *, device: torch.device) -> None:
        # A cell has 32 bits for the row, whatever the width rows are handed out in.
        self.limit, self.device = min(limit, (1 << 31) - 1), torch.device(device)
        self.dtype = getattr(torch, index_dtype(limit))
        self.state = self._zeros(STATE)
        self.cells = self._zeros(2 * cells_for(capacity))
        self.free_rows = torch.empty(0, dtype=torch.int32, device=self.device)
        self.live_bound = self.used_bound = 0

    def find(self, tables: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
        missing = self._zeros(1)
        return self._find(tables, ids, missing), missing

    def insert(self, tables: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
        more, fresh = len(ids), self._empty(len(ids), torch.bool)
        at_once = takes_cells(self.device) and not self._over(more)
        if at_once:
            rows = self._empty(more, self.dtype)
        else:
            rows, more = self._look(tables, ids)
        kernel, block, warps = (_insert, *INSERT) if at_once else (_claim, *CLAIM)
        launch(
            kernel, cover(len(ids), block), self.cells, self._mask(), self.state, self.free_rows,
            tables, ids, rows, fresh, len(ids), warps=warps, BLOCK=block,
        )  # fmt: skip
        launch(_settle, 1, self.state, warps=1)
        self.live_bound += more
        self.used_bound += more
        return rows, fresh

    def _look(self, tables: Tensor, ids: Tensor) -> tuple[Tensor, int]:
        """Rows, and a bound of how many are missing; there is room for those afterwards."""
        if not self._over(len(ids)):
            return self._find(tables, ids, None), len(ids)
        missing = self.state[MISSING:]
        fill(missing, 0)
        rows = self._find(tables, ids, missing)
        numbers = self._numbers()
        more = numbers[MISSING]
        self.live_bound, self.used_bound = numbers[LIVE.value], numbers[USED.value]
        if self.live_bound + more > self.limit:
            raise OverflowError(f"id_map is limited to {self.limit} rows")
        if self._over(more):
            self._rehash(self.live_bound + more)
        return rows, more

    def erase(self, tables: Tensor, ids: Tensor) -> Tensor:
        n, rows = len(ids), self._empty(len(ids), self.dtype)
        free = self._numbers()[FREE.value]
        if free + n > len(self.free_rows):
            longer = self._empty(2 * (free + n), torch.int32)
            longer[:free] = self.free_rows[:free]
            self.free_rows = longer
        where = (self.cells, self._mask(), self.state, self.free_rows)
        self._launch(_erase, n, *where, tables, ids, rows)
        return rows

    def items(self) -> tuple[Tensor, Tensor, Tensor]:
        count = len(self)
        tables, ids = self._empty(count, torch.int32), self._empty(count, torch.int64)
        rows = self._empty(count, self.dtype)
        cells = len(self.cells) // 2
        self._launch(_items, cells, self.cells, self._zeros(1), tables, ids, rows)
        return tables, ids, rows

    def __len__(self) -> int:
        return self._numbers()[LIVE.value]

    @property
    def extent(self) -> int:
        return self._numbers()[EXTENT.value]

    def _find(self, tables: Tensor, ids: Tensor, missing: Tensor | None) -> Tensor:
        """Rows, -1 where a pair is absent; how many are is added to `missing`."""
        rows = self._empty(len(ids), self.dtype)
        self._launch(_find, len(ids), self.cells, self._mask(), tables, ids, rows, missing)
        return rows

    def _over(self, more: int) -> bool:
        """Whether `more` new pairs might pass the limit or fill the cells too far."""
        room = LOAD * (len(self.cells) // 2)
        return self.live_bound + more > self.limit or self.used_bound + more > room

    def _rehash(self, pairs: int) -> None:
        """Move to a map with room for twice `pairs`; the old one stays if memory is short."""
        old = self.cells
        self.cells = self._zeros(2 * cells_for(2 * pairs))
        self._launch(_rehash, len(old) // 2, old, self.cells, self._mask())
        self.state[USED.value] = self.state[LIVE.value]
        self.used_bound = self.live_bound

    def _numbers(self) -> list[int]:
        """What the device has counted; waits for it."""
        return self.state.tolist()

    def _mask(self) -> int:
        return len(self.cells) // 2 - 1

    def _empty(self, count: int, dtype: torch.dtype) -> Tensor:
        return torch.empty(count, dtype=dtype, device=self.device)

    def _zeros(self, count: int) -> Tensor:
        made = self._empty(count, torch.int64)
        fill(made, 0)
        return made

    def _launch(self, kernel: triton.JITFunction, n: int, *args: Tensor | int | None) -> None:
        launch(kernel, cover(n, BLOCK), *args, n, warps=1, BLOCK=BLOCK)


def cells_for(pairs: int) -> int:
    """A power of two at most half full with `pairs`."""
    cells = LEAST_CELLS
    while cells * LOAD < pairs:
        cells *= 2
    return cells
