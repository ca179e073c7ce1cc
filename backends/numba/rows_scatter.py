"""Copy rows into the blocks, asking for their lines ahead of time; rounded to the slot's type."""

from __future__ import annotations

from torch import Tensor

from backends.numba.lanes import form_of, load, store, width_of
from backends.numba.memory import STREAMED, prefetch, row_at, stream, whole_lines
from backends.numba.rows import form_of_slot
from backends.numba.threads import kernel, share
from recis_core.blocks import Blocks

AHEAD = 4096
# Rows of so many bytes are written around the caches; shorter ones take longer that way.
WHOLE = 256


@kernel
def scatter(
    begin, end, pointers, log2_rows, stride, rows, dim, ahead, values, form, slot_form, same
):
    size, slot_size = width_of(form), width_of(slot_form)
    for i in range(begin, end):
        if i + ahead < end and not same:
            soon = rows[i + ahead]
            if soon >= 0:
                prefetch(row_at(pointers, soon, log2_rows, stride), dim * slot_size)
        row = rows[i]
        if row < 0:
            continue
        to = row_at(pointers, row, log2_rows, stride)
        source = values + i * dim * size
        if same and whole_lines(to, dim * size):
            stream(to, source, dim * size)
            continue
        for column in range(0, dim, 16):
            left = dim - column
            store(
                to + column * slot_size, left, load(source + column * size, left, form), slot_form
            )


def rows_scatter(blocks: Blocks, slot: str, rows: Tensor, values: Tensor) -> None:
    dim = blocks.dim(slot)
    share(
        scatter,
        len(rows),
        2 * values.nbytes,
        blocks.pointers.numpy() + blocks.slots[slot].offset,
        blocks.log2_rows,
        blocks.stride,
        rows.numpy(),
        dim,
        max(4, AHEAD // blocks.row_bytes(slot)),
        values.data_ptr(),
        form_of(values),
        form_of_slot(blocks, slot),
        values.dtype == blocks.dtype(slot)
        and values.nbytes >= STREAMED
        and blocks.row_bytes(slot) >= WHOLE,
    )
