"""The one loop behind pooling and its gradients: weighted sums of scattered rows."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor

from backends.numba.arithmetic import spread
from backends.numba.lanes import address_of, form_of, load, load_all, put, scalar, store, width_of
from backends.numba.memory import prefetch, row_at
from backends.numba.threads import inlined, kernel, share

# How far ahead rows are asked for, in bytes of rows: what the lines in flight can hold.
AHEAD = 4096


@inlined
def weight_of(k, named, weights, weight_form, factors, factor_form):
    """The factor of value k, which names row `named`: its weight, the row's factor, or both."""
    w = np.float32(1)
    if weights is not None:
        w = scalar(weights, k, weight_form)
    if factors is not None:
        w *= scalar(factors, named, factor_form)
    return w


@inlined
def inverse_weight(first, stop, weights, weight_form):
    """1 / the sum of a segment's weights; 0 where that is 0."""
    sum_of_weights = 0.0
    if weights is None:
        sum_of_weights = float(stop - first)
    else:
        for k in range(first, stop):
            sum_of_weights += scalar(weights, k, weight_form)
    return np.float32(1 / sum_of_weights) if sum_of_weights > 0 else np.float32(0)


@inlined
def place_of(named, pointers, log2_rows, stride, rows):
    """Address of the row that `named` names; 0 where there is none."""
    if rows is None:
        return pointers[0] + named * stride
    row = rows[named]
    return row_at(pointers, row, log2_rows, stride) if row >= 0 else 0


@kernel
def pool(
    begin,
    end,
    pointers,
    log2_rows,
    stride,
    rows,
    index,
    offsets,
    weights,
    weight_form,
    factors,
    factor_form,
    dim,
    ahead,
    form,
    scale,
    out,
):
    """Segments [begin, end) of out[s] = Σ weights·factors·row, times 1 / Σ weights if `scale`.

    `rows` None: `index` names the rows themselves. Columns go in fours of lanes that stay in
    registers while a segment's rows pass by, in their order whatever the number of threads.
    What is None is compiled away, a factor of 1 too.
    """
    size = width_of(form)
    far = np.int64(offsets[end]) - ahead
    first = np.int64(offsets[begin])
    for s in range(begin, end):
        stop = np.int64(offsets[s + 1])
        mean = np.float32(1)
        if scale is not None:
            mean = inverse_weight(first, stop, weights, weight_form)
            put(scale, s, mean, np.float32(0))
        factor = spread(mean)
        column = 0
        while column < dim:
            left = dim - column
            at = column * size
            to = out + s * dim * size + at
            a = b = c = d = spread(np.float32(0))
            for k in range(first, stop):
                if column == 0 and k < far:
                    soon = place_of(index[k + ahead], pointers, log2_rows, stride, rows)
                    prefetch(soon, dim * size)
                named = index[k]
                row = place_of(named, pointers, log2_rows, stride, rows)
                if rows is not None and row == 0:
                    continue
                w = spread(weight_of(k, named, weights, weight_form, factors, factor_form))
                if left >= 64:
                    a = a + w * load_all(row + at, form)
                    b = b + w * load_all(row + at + 16 * size, form)
                    c = c + w * load_all(row + at + 32 * size, form)
                    d = d + w * load_all(row + at + 48 * size, form)
                elif left >= 16:
                    a = a + w * load_all(row + at, form)
                else:
                    a = a + w * load(row + at, left, form)
            store(to, left, a * factor, form)
            if left >= 64:
                store(to + 16 * size, left - 16, b * factor, form)
                store(to + 32 * size, left - 32, c * factor, form)
                store(to + 48 * size, left - 48, d * factor, form)
                column += 48
            column += 16
        first = stop


def place_or_none(tensor: Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()


def pool_rows(
    values: Tensor,
    index: Tensor,
    offsets: Tensor,
    weights: Tensor | None,
    out: Tensor,
    factors: Tensor | None = None,
    scale: Tensor | None = None,
) -> None:
    """`pool` over the rows of one matrix: a block that holds all of them."""
    stride = values.shape[1] * values.itemsize
    pointers = np.array([values.data_ptr()])
    pool_blocks(pointers, 62, stride, None, index, offsets, weights, out, factors, scale)


def pool_blocks(
    pointers: np.ndarray,
    log2_rows: int,
    stride: int,
    rows: np.ndarray | None,
    index: Tensor,
    offsets: Tensor,
    weights: Tensor | None,
    out: Tensor,
    factors: Tensor | None = None,
    scale: Tensor | None = None,
) -> None:
    """`pool` over rows of blocks whose pointers already point at the slot."""
    segments, dim = out.shape
    row_bytes = dim * out.itemsize
    moved = (len(index) + segments) * (row_bytes + 8)
    fixed: tuple[Any, ...] = (
        place_or_none(weights),
        form_of(weights),
        place_or_none(factors),
        form_of(factors),
        dim,
        max(4, AHEAD // max(row_bytes, 1)),
        form_of(out),
        place_or_none(scale),
        address_of(out),
    )
    share(
        pool,
        segments,
        moved,
        pointers,
        log2_rows,
        stride,
        rows,
        index.numpy(),
        offsets.numpy(),
        *fixed,
    )
