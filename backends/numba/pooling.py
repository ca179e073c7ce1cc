"""The one loop behind pooling and its gradients: weighted sums of scattered rows."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor

from backends.numba.lanes import address_of, form_of, load, put, scalar, spread, store, width_of
from backends.numba.memory import prefetch, row_at
from backends.numba.threads import inlined, kernel, share

# How far ahead rows are asked for, in bytes of rows: what the lines in flight can hold.
AHEAD = 4096


@inlined
def weight_of(k, named, weights, weight_form, factors, factor_form):
    """The factor of value k, which names row `named`: its weight, the row's factor, or both."""
    w = np.float32(1)
    if weights != 0:
        w = scalar(weights, k, weight_form)
    if factors != 0:
        w *= scalar(factors, named, factor_form)
    return w


@inlined
def inverse_weight(first, stop, weights, weight_form):
    """1 / the sum of a segment's weights; 0 where that is 0."""
    whole = 0.0
    if weights == 0:
        whole = float(stop - first)
    else:
        for k in range(first, stop):
            whole += scalar(weights, k, weight_form)
    return np.float32(1 / whole) if whole > 0 else np.float32(0)


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
    """
    size = width_of(form)
    last = np.int64(offsets[end])
    base = pointers[0] if len(pointers) else 0
    plain = weights == 0 and factors == 0
    for s in range(begin, end):
        first, stop = np.int64(offsets[s]), np.int64(offsets[s + 1])
        mean = np.float32(1)
        if scale != 0:
            mean = inverse_weight(first, stop, weights, weight_form)
            put(scale, s, mean, np.float32(0))
        factor = spread(mean)
        column = 0
        while column < dim:
            left = dim - column
            a = b = c = d = spread(np.float32(0))
            for k in range(first, stop):
                if column == 0 and k + ahead < last:
                    soon = index[k + ahead]
                    if rows is None:
                        prefetch(base + soon * stride, dim * size)
                    elif rows[soon] >= 0:
                        prefetch(row_at(pointers, rows[soon], log2_rows, stride), dim * size)
                named = index[k]
                if rows is None:
                    at = base + named * stride + column * size
                else:
                    if rows[named] < 0:
                        continue
                    at = row_at(pointers, rows[named], log2_rows, stride) + column * size
                if plain and left <= 48:
                    a = a + load(at, left, form)
                    continue
                w = spread(weight_of(k, named, weights, weight_form, factors, factor_form))
                a = a + w * load(at, left, form)
                if left > 48:
                    b = b + w * load(at + 16 * size, left - 16, form)
                    c = c + w * load(at + 32 * size, left - 32, form)
                    d = d + w * load(at + 48 * size, left - 48, form)
            to = out + (s * dim + column) * size
            store(to, left, a * factor, form)
            if left > 48:
                store(to + 16 * size, left - 16, b * factor, form)
                store(to + 32 * size, left - 32, c * factor, form)
                store(to + 48 * size, left - 48, d * factor, form)
                column += 48
            column += 16


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
        address_of(weights),
        form_of(weights),
        address_of(factors),
        form_of(factors),
        dim,
        max(4, AHEAD // max(row_bytes, 1)),
        form_of(out),
        address_of(scale),
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
