"""id_map: open addressing at most half full, a 16-byte cell found by one load a probe.

A cell is {id, table + 1 (32 bits), row (32 bits)}; the second word is 0 where empty, ERASED where
a pair was. Inserting looks first: what it then claims cells for are new pairs, all different, so
claiming compares nothing, and takes table and row in one atomic.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from backends.cupy.device import DEVICE
from backends.cupy.hashes import hashes
from backends.cupy.queue import Queue, Source, blocks_for, code
from recis_core.types import index_dtype

# Positions in `struct State`; used: cells taken since the last rehash.
LIVE, USED, EXTENT, FREE = range(4)
STATE = 6
LOAD = 0.5

SOURCE = Source(
    "id_map",
    DEVICE
    + hashes()
    + r"""
constexpr u64 ERASED = 0xFFFFFFFFull;

struct alignas(16) Cell { i64 id; u64 word; };
struct State { u64 live, used, extent, free_count, fresh, reused; };

INLINE u64 word_of(i64 table, i64 row) { return u64(row) << 32 | u64(u32(table + 1)); }
INLINE i64 row_of(u64 word) { return i64(word >> 32); }
INLINE bool held(u64 word) { return word && word != ERASED; }

INLINE u64 home(u64 table, i64 id) { return mix64(u64(id) ^ mix64(table + GOLDEN)) >> 8; }

INLINE Cell read(const Cell* cells, i64 at) {
    longlong2 raw = __ldcg(reinterpret_cast<const longlong2*>(cells) + at);
    return Cell{raw.x, u64(raw.y)};
}

// The pair's cell, or -1.
INLINE i64 look(const Cell* cells, i64 mask, i64 table, i64 id, i64* row) {
    for (i64 at = i64(home(u64(table), id)) & mask;; at = (at + 1) & mask) {
        Cell cell = read(cells, at);
        if (u32(cell.word) == u32(table + 1) && cell.id == id) {
            *row = row_of(cell.word);
            return at;
        }
        if (cell.word == 0) {
            *row = -1;
            return -1;
        }
    }
}

KERNEL find(const Cell* cells, i64 mask, const void* tables, i64 tables_code, const i64* ids, i64 n,
            i64 code, void* rows, u64* missing) {
    i64 i = THIS_THREAD, row = 0;
    if (i < n) {
        look(cells, mask, Index(tables, tables_code)[i], __ldg(ids + i), &row);
        put(rows, code, i, row);
    }
    int absent = __syncthreads_count(row < 0);
    if (threadIdx.x == 0 && absent) atomicAdd(missing, u64(absent));
}

// New pairs are numbered a block at a time: freed rows first, then those never used.
KERNEL claim(Cell* cells, i64 mask, const void* tables, i64 tables_code, const i64* ids, i64 n,
             i64 code, void* rows, bool* fresh, State* state, const int* free_rows) {
    __shared__ unsigned warps[8];
    __shared__ u64 base;
    i64 i = THIS_THREAD;
    bool is_new = i < n && (code == INT64 ? static_cast<i64*>(rows)[i]
                                          : i64(static_cast<int*>(rows)[i])) < 0;
    unsigned found = __ballot_sync(~0u, is_new), lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    if (lane == 0) warps[warp] = __popc(found);
    __syncthreads();
    if (threadIdx.x == 0) {
        unsigned total = 0;
        for (int w = 0; w < 8; ++w) {
            unsigned own = warps[w];
            warps[w] = total;
            total += own;
        }
        if (total) base = atomicAdd(&state->fresh, u64(total));
    }
    __syncthreads();
    if (i < n) fresh[i] = is_new;
    if (!is_new) return;
    u64 k = base + warps[warp] + __popc(found & ((1u << lane) - 1)), freed = state->free_count;
    i64 row = k < freed ? free_rows[freed - 1 - k] : i64(state->extent + (k - freed));
    put(rows, code, i, row);
    i64 table = Index(tables, tables_code)[i], id = ids[i];
    u64 mine = word_of(table, row);
    for (i64 at = i64(home(u64(table), id)) & mask;; at = (at + 1) & mask) {
        u64 seen = __ldcg(&cells[at].word);
        // A cell that another pair takes meanwhile is passed: the next one is as good.
        if (held(seen) || atomicCAS(&cells[at].word, seen, mine) != seen) continue;
        cells[at].id = id;
        if (seen == ERASED) atomicAdd(&state->reused, u64(1));
        break;
    }
}

KERNEL settle(State* s) {
    u64 k = s->fresh, freed = s->free_count;
    s->live += k;
    s->free_count = k < freed ? freed - k : 0;
    if (k > freed) s->extent += k - freed;
    s->used += k - s->reused;
    s->fresh = s->reused = 0;
}

KERNEL erase(Cell* cells, i64 mask, const void* tables, i64 tables_code, const i64* ids, i64 n,
             i64 code, void* rows, State* state, int* free_rows) {
    i64 i = THIS_THREAD, row;
    if (i >= n) return;
    i64 at = look(cells, mask, Index(tables, tables_code)[i], ids[i], &row);
    put(rows, code, i, row);
    if (at < 0) return;
    cells[at].word = ERASED;
    free_rows[atomicAdd(&state->free_count, u64(1))] = int(row);
    atomicAdd(&state->live, ~u64(0));
}

KERNEL rehash(const Cell* from, i64 count, Cell* cells, i64 mask) {
    i64 i = THIS_THREAD;
    if (i >= count) return;
    Cell cell = from[i];
    if (!held(cell.word)) return;
    for (i64 at = i64(home(u64(u32(cell.word)) - 1, cell.id)) & mask;; at = (at + 1) & mask)
        if (__ldcg(&cells[at].word) == 0 && atomicCAS(&cells[at].word, u64(0), cell.word) == 0) {
            cells[at].id = cell.id;
            return;
        }
}

KERNEL items(const Cell* cells, i64 count, u64* next, int* tables, i64* ids, i64 code, void* rows) {
    i64 i = THIS_THREAD;
    if (i >= count) return;
    Cell cell = cells[i];
    if (!held(cell.word)) return;
    i64 at = i64(atomicAdd(next, u64(1)));
    tables[at] = int(u32(cell.word) - 1);
    ids[at] = cell.id;
    put(rows, code, at, row_of(cell.word));
}
""",
)


class id_map:
    """Pairs to rows; see recis_core/ops/id_map.py.

    The host keeps upper bounds of what the device counts, and waits for the device only when a
    bound says that the map might have to grow or might pass its limit.
    """

    def __init__(self, capacity: int, limit: int, *, device: torch.device | str) -> None:
        # A cell has 31 bits for the row, whatever the width that rows are handed out in.
        self.limit, self.device = min(limit, (1 << 31) - 1), torch.device(device)
        self.dtype = getattr(torch, index_dtype(limit))
        self.state = torch.zeros(STATE, dtype=torch.int64, device=self.device)
        self.cells = self._cells(capacity)
        self.free_rows = self._new(0, torch.int32)
        self.live_bound = self.used_bound = self.free_bound = 0

    def find(self, tables: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
        rows, missing = self._new(len(ids), self.dtype), self._new(1, torch.int64)
        with Queue(self.device) as queue:
            queue.clear(missing)
            self._launch(queue, "find", tables, ids, rows, missing)
        return rows, missing

    def insert(self, tables: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
        rows, missing = self.find(tables, ids)
        more, room = len(ids), LOAD * len(self.cells)
        if self.live_bound + more > self.limit or self.used_bound + more > room:
            more = int(missing)
            self._refresh()
            if self.live_bound + more > self.limit:
                raise OverflowError(f"id_map is limited to {self.limit} rows")
            if self.used_bound + more > room:
                self._rehash(self.live_bound + more)
        fresh = self._new(len(ids), torch.bool)
        with Queue(self.device) as queue:
            self._launch(queue, "claim", tables, ids, rows, fresh, self.state, self.free_rows)
            queue.launch(SOURCE, "settle", 1, self.state, block=1)
        self.live_bound += more
        self.used_bound += more
        return rows, fresh

    def erase(self, tables: Tensor, ids: Tensor) -> Tensor:
        rows = self._new(len(ids), self.dtype)
        if self.free_bound + len(ids) > len(self.free_rows):
            self._refresh()
            longer = self._new(2 * (self.free_bound + len(ids)), torch.int32)
            longer[: self.free_bound] = self.free_rows[: self.free_bound]
            self.free_rows = longer
        with Queue(self.device) as queue:
            self._launch(queue, "erase", tables, ids, rows, self.state, self.free_rows)
        self.free_bound += len(ids)
        return rows

    def items(self) -> tuple[Tensor, Tensor, Tensor]:
        count = len(self)
        tables, ids = self._new(count, torch.int32), self._new(count, torch.int64)
        rows, next_one = self._new(count, self.dtype), self._new(1, torch.int64)
        cells = len(self.cells)
        with Queue(self.device) as queue:
            queue.clear(next_one)
            queue.launch(
                SOURCE, "items", blocks_for(cells),
                self.cells, cells, next_one, tables, ids, code(rows), rows,
            )  # fmt: skip
        return tables, ids, rows

    def __len__(self) -> int:
        return self._numbers()[LIVE]

    @property
    def extent(self) -> int:
        return self._numbers()[EXTENT]

    def _numbers(self) -> list[int]:
        """What the device has counted; waits for it."""
        return self.state.tolist()

    def _refresh(self) -> None:
        numbers = self._numbers()
        self.live_bound, self.used_bound = numbers[LIVE], numbers[USED]
        self.free_bound = numbers[FREE]

    def _new(self, count: int, dtype: torch.dtype) -> Tensor:
        return torch.empty(count, dtype=dtype, device=self.device)

    def _cells(self, pairs: int) -> Tensor:
        """Empty cells, a power of two, at most half full with `pairs`."""
        count = max(1024, 1 << (int(pairs / LOAD) - 1).bit_length()) if pairs else 1024
        return torch.zeros(count, 2, dtype=torch.int64, device=self.device)

    def _rehash(self, pairs: int) -> None:
        """Move to cells with room for twice `pairs`; the old ones stay if memory is short."""
        old, self.cells = self.cells, self._cells(2 * pairs)
        with Queue(self.device) as queue:
            queue.launch(
                SOURCE, "rehash", blocks_for(len(old)),
                old, len(old), self.cells, len(self.cells) - 1,
            )  # fmt: skip
        self.state[USED] = self.state[LIVE]
        self.used_bound = self.live_bound

    def _launch(self, queue: Queue, method: str, tables: Tensor, ids: Tensor, *more: Any) -> None:
        """Run a method's kernel over the pairs; `more` begins with the rows."""
        if len(ids):
            queue.launch(
                SOURCE, method, blocks_for(len(ids)), self.cells, len(self.cells) - 1,
                tables, code(tables), ids, len(ids), code(more[0]), *more,
            )  # fmt: skip
