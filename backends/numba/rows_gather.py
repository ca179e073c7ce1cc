"""Copy rows out of the blocks, asking for rows ahead of time."""

from __future__ import annotations

from torch import Tensor

from backends.numba.memory import clear, copy, prefetch, row_at
from backends.numba.threads import kernel, share
from recis_core.blocks import Blocks

AHEAD = 4096


@kernel
def gather(begin, end, pointers, log2_rows, stride, rows, row_bytes, ahead, out):
    for i in range(begin, end):
        if i + ahead < end:
            soon = rows[i + ahead]
            if soon >= 0:
                prefetch(row_at(pointers, soon, log2_rows, stride), row_bytes)
        row = rows[i]
        to = out + i * row_bytes
        if row >= 0:
            copy(to, row_at(pointers, row, log2_rows, stride), row_bytes)
        else:
            clear(to, row_bytes)


def rows_gather(blocks: Blocks, slot: str, rows: Tensor, out: Tensor) -> None:
    row_bytes = blocks.row_bytes(slot)
    share(
        gather,
        len(rows),
        2 * out.nbytes,
        blocks.pointers.numpy() + blocks.slots[slot].offset,
        blocks.log2_rows,
        blocks.stride,
        rows.numpy(),
        row_bytes,
        max(4, AHEAD // row_bytes),
        out.data_ptr(),
    )
