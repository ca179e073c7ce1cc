"""Blocks: the memory of embedding rows, the slots of a row side by side.

A block is uint8 [2^k, stride]; row r lives in block r >> k at line r & (2^k - 1). Each slot
starts at its offset in the line, aligned to 16 bytes, so that vector loads of a row are legal.
Tables grow by whole blocks; rows never move. Kernels reach blocks through a table of pointers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from recis_core.readback import to_device

ALIGN = 16


@dataclass(frozen=True)
class Slot:
    """One quantity kept for every row: `dim` values of `dtype`, `fill` where nothing was written.

    `offset` is its first byte within the row.
    """

    name: str
    dim: int
    dtype: torch.dtype = torch.float32
    fill: float = 0.0
    offset: int = 0

    @property
    def nbytes(self) -> int:
        return self.dim * self.dtype.itemsize


def lay_out(slots: Sequence[Slot]) -> tuple[tuple[Slot, ...], int]:
    """Slots with their offsets, in order, and the stride of a row, all multiples of 16 bytes."""
    placed, at = [], 0
    for slot in slots:
        placed.append(Slot(slot.name, slot.dim, slot.dtype, slot.fill, at))
        at += -(-slot.nbytes // ALIGN) * ALIGN
    return tuple(placed), at


class Blocks:
    """Rows of a group of tables: block tensors, their pointer table, and the layout of a row."""

    def __init__(
        self, slots: Sequence[Slot], log2_rows: int = 16, device: torch.device | str = "cpu"
    ) -> None:
        placed, self.stride = lay_out(slots)
        self.slots = {slot.name: slot for slot in placed}
        self.log2_rows = log2_rows
        self.device = torch.device(device)
        self.tensors: list[Tensor] = []
        self.pointers = torch.empty(0, dtype=torch.int64, device=self.device)

    def __contains__(self, slot: str) -> bool:
        return slot in self.slots

    @property
    def capacity(self) -> int:
        """Rows the present blocks hold."""
        return len(self.tensors) << self.log2_rows

    @property
    def nbytes(self) -> int:
        return self.capacity * self.stride

    def dim(self, slot: str) -> int:
        return self.slots[slot].dim

    def dtype(self, slot: str) -> torch.dtype:
        return self.slots[slot].dtype

    def row_bytes(self, slot: str) -> int:
        return self.slots[slot].nbytes

    def grow(self, rows: int) -> None:
        """Hold at least `rows` rows, every slot of a new one at its fill. All or nothing."""
        missing = -(-rows // (1 << self.log2_rows)) - len(self.tensors)
        fresh = [self._block() for _ in range(missing)]
        if fresh:
            self.tensors += fresh
            pointers = torch.tensor([t.data_ptr() for t in self.tensors], dtype=torch.int64)
            self.pointers = to_device(pointers, self.device)

    def _block(self) -> Tensor:
        shape = 1 << self.log2_rows, self.stride
        if self.device.type == "cpu":
            # NumPy asks the kernel for huge pages, torch does not; with small ones random rows of
            # a large table cost a quarter to a third more time (page-table misses).
            block = torch.from_numpy(np.zeros(shape, np.uint8))
        else:
            block = torch.zeros(shape, dtype=torch.uint8, device=self.device)
        for slot in self.slots.values():
            if slot.fill:
                self._typed(block, slot).fill_(slot.fill)
        return block

    def views(self, slot: str) -> list[Tensor]:
        """The slot of every row, block by block: views [2^k, dim] with the stride of a row."""
        return [self._typed(t, self.slots[slot]) for t in self.tensors]

    def _typed(self, block: Tensor, slot: Slot) -> Tensor:
        return block[:, slot.offset : slot.offset + slot.nbytes].view(slot.dtype)
