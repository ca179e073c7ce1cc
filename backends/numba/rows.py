"""Rows of blocks as kernels take them: where they lie, and what every row optimizer is given."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from backends.numba.lanes import FORMS, address_of, form_of
from backends.numba.memory import prefetch, row_at
from backends.numba.threads import inlined, share
from recis_core.blocks import Blocks

AHEAD = 4096


def form_of_slot(blocks: Blocks, slot: str) -> Any:
    """The form of a slot's elements; TypeError for a dtype that rows are not kept in."""
    dtype = blocks.dtype(slot)
    if dtype not in FORMS:
        raise TypeError(f"slot {slot!r} has dtype {dtype}, not float32, float16 or bfloat16")
    return FORMS[dtype]


@inlined
def prefetch_row(pointers, log2_rows, stride, rows, i):
    """Ask for the whole line of row rows[i], gradient apart."""
    row = rows[i]
    if row >= 0:
        prefetch(row_at(pointers, row, log2_rows, stride), stride)


def update(
    call: Callable[..., Any],
    blocks: Blocks,
    rows: Tensor,
    grad: Tensor,
    scale: Tensor | None,
    rate: Tensor | None,
    slots: tuple[str, ...],
    *scalars: Any,
) -> None:
    """Run an optimizer's kernel over the rows.

    It takes begin, end, the place of the rows (pointers, log2_rows, stride), rows, the gradient
    (address, form), the rates (address or 0, form), the factor on the gradient, columns, how
    many rows to ask for ahead, then the slots: the byte offset of each and the form of each.
    """
    pointers = blocks.pointers.numpy()
    share(
        call,
        len(rows),
        len(rows) * (2 * blocks.stride + grad.shape[1] * grad.itemsize),
        pointers,
        blocks.log2_rows,
        blocks.stride,
        rows.numpy(),
        address_of(grad),
        form_of(grad),
        address_of(rate),
        form_of(rate),
        1.0 if scale is None else float(scale[0]),
        grad.shape[1],
        max(4, AHEAD // blocks.stride),
        *(blocks.slots[slot].offset for slot in slots),
        *(form_of_slot(blocks, slot) for slot in slots),
        *scalars,
    )
