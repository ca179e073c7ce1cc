"""The id map of backend cuda: device memory and growth here, probing in id_map.cu."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from backends.cuda.call import Library, pack_tensor
from recis_core.types import index_dtype

# Positions in `struct State` of id_map.cu; used: cells taken since the last rehash.
LIVE, USED, EXTENT, FREE = range(4)
STATE = 10
CELL_WORDS = 2
LOAD = 0.5


class id_map:
    """Pairs to rows in open addressing at most half full; see recis_core/ops/id_map.py.

    The host keeps upper bounds of what the device counts, and waits for the device only when a
    bound says that the map might have to grow or might exceed its limit.
    """

    def __init__(self, capacity: int, limit: int, *, device: torch.device) -> None:
        # A cell has 32 bits for the row, whatever width rows are handed out in.
        self.limit, self.device = min(limit, (1 << 31) - 1), torch.device(device)
        self.dtype = getattr(torch, index_dtype(limit))
        self.library = Library("id_map", self.device)
        self.state = torch.zeros(STATE, dtype=torch.int64, device=self.device)
        self.cells = self._cells(cells_for(capacity))
        self.free_rows = torch.empty(0, dtype=torch.int32, device=self.device)
        self.live_bound = self.used_bound = 0

    def find(self, tables: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
        rows = torch.empty(len(ids), dtype=self.dtype, device=self.device)
        missing = torch.empty(1, dtype=torch.int64, device=self.device)
        self._launch("find", tables, ids, rows, missing)
        return rows, missing

    def insert(self, tables: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
        more = len(ids)
        fresh = torch.empty(more, dtype=torch.bool, device=self.device)
        if self._has_room(more):
            rows = torch.empty(more, dtype=self.dtype, device=self.device)
            holes = torch.empty(more, dtype=torch.int32, device=self.device)
            self._launch("insert", tables, ids, rows, fresh, holes)
        else:
            rows, missing = self.find(tables, ids)
            more = int(missing)
            self._refresh()
            if self.live_bound + more > self.limit:
                raise OverflowError(f"id_map is limited to {self.limit} rows")
            if not self._has_room(more):
                self._rehash(self.live_bound + more)
            self._launch("claim", tables, ids, rows, fresh)
        self.live_bound += more
        self.used_bound += more
        return rows, fresh

    def _has_room(self, more: int) -> bool:
        """Whether `more` new pairs surely stay below the limit and leave half the cells empty."""
        cells = LOAD * len(self.cells)
        return self.live_bound + more <= self.limit and self.used_bound + more <= cells

    def erase(self, tables: Tensor, ids: Tensor) -> Tensor:
        rows = torch.empty(len(ids), dtype=self.dtype, device=self.device)
        free = self._numbers()[FREE]
        if free + len(ids) > len(self.free_rows):
            longer = torch.empty(2 * (free + len(ids)), dtype=torch.int32, device=self.device)
            longer[:free] = self.free_rows[:free]
            self.free_rows = longer
        self._launch("erase", tables, ids, rows)
        return rows

    def items(self) -> tuple[Tensor, Tensor, Tensor]:
        count = len(self)
        tables = torch.empty(count, dtype=torch.int32, device=self.device)
        ids = torch.empty(count, dtype=torch.int64, device=self.device)
        rows = torch.empty(count, dtype=self.dtype, device=self.device)
        taken = torch.zeros(1, dtype=torch.int64, device=self.device)
        self._launch("items", taken, tables, ids, rows)
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

    def _cells(self, count: int) -> Tensor:
        return torch.zeros(count, CELL_WORDS, dtype=torch.int64, device=self.device)

    def _rehash(self, pairs: int) -> None:
        """Move to a map with room for twice `pairs`; the old one stays if memory is short."""
        old = self.cells
        fresh = self._cells(cells_for(2 * pairs))
        self.cells = fresh
        self._launch("rehash", old)
        self.state[USED] = self.state[LIVE]
        self.used_bound = self.live_bound

    def _launch(self, method: str, *tensors: Tensor) -> Any:
        records = map(pack_tensor, (self.cells, self.state, self.free_rows, *tensors))
        self.library.launch(self.library.function(f"id_map_{method}"), b"".join(records))


def cells_for(pairs: int) -> int:
    """A power of two at most half full with `pairs`."""
    cells = 1024
    while cells * LOAD < pairs:
        cells *= 2
    return cells
