"""Sums of rows over segments: what pooling, its gradients and `rows_reduce` are made of.

A program sums a few segments whole, Q rows of each at a time, so that many loads are in flight.
A segment far longer than the mean would hold its program up: it is cut at fixed positions into
pieces, summed by programs of their own and added in order, so no result depends on timing.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from backends.triton.fill import fill
from backends.triton.launch import INTERPRETED, WIDEN, cover, launch, log2
from backends.triton.rows import Table, addresses_of, slot_of
from backends.triton.segment_shapes import abreast, long_of, shape_of

# Values of a segment, on average, up to which it is a short one.
SHORT = 2
# Elements of a piece that are read at once; slots that are marked at once.
PIECE, ACROSS = 1024, tl.constexpr(4)
# Pieces of a program.
GROUP = 4
MARKED = 256 * WIDEN
SIZES = ["shift", "stride", "offset", "count", "n", "log_long"]


@triton.jit
def _weights_at(k, live, index, weights, factor):
    """int64 rows and float32 weights of the values k."""
    row = tl.load(index + k, mask=live, other=0).to(tl.int64)
    w = live.to(tl.float32)
    if weights is not None:
        w = tl.load(weights + k, mask=live, other=0).to(tl.float32)
    if factor is not None:
        w *= tl.load(factor + row, mask=live, other=0).to(tl.float32)
    return row, w


@triton.jit
def _rows_at(
    row, live, values, pointers, shift, stride, offset, rows,
    DTYPE: tl.constexpr, DIM: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """float32 [..., COLUMNS]: of an array `values` [U, DIM], or of `rows` in the blocks."""
    column = tl.arange(0, COLUMNS)
    if pointers is None:
        line = values + row * DIM
    else:
        place = tl.load(rows + row, mask=live, other=-1).to(tl.int64)
        live = place >= 0
        line = slot_of(addresses_of(pointers, shift, stride, place, live), offset, DTYPE)
    at = tl.expand_dims(line, -1) + column
    mask = tl.expand_dims(live, -1) & (column < DIM)
    return tl.load(at, mask=mask, other=0).to(tl.float32)


@triton.jit
def sums_of(
    begin, length, values, pointers, shift, stride, offset, rows, index, weights, factor,
    DTYPE: tl.constexpr, DIM: tl.constexpr, COLUMNS: tl.constexpr, SEGMENTS: tl.constexpr,
    Q: tl.constexpr,
):  # fmt: skip
    """float32 sums [SEGMENTS, COLUMNS] of the values [begin, begin + length) of each segment, and
    of their weights [SEGMENTS]."""
    most = tl.max(length).to(tl.int32)
    q = tl.arange(0, Q)
    total = tl.zeros([SEGMENTS, Q], tl.float32)
    sums = tl.zeros([SEGMENTS, Q, COLUMNS], tl.float32)
    for step in range(0, most, Q):
        at = step + q
        live = at[None, :] < length[:, None]
        row, w = _weights_at(begin[:, None] + at[None, :], live, index, weights, factor)
        part = _rows_at(
            row, live, values, pointers, shift, stride, offset, rows, DTYPE, DIM, COLUMNS
        )
        if weights is None and factor is None:
            sums += part
        else:
            sums += part * w[:, :, None]
        total += w
    return tl.sum(sums, 1), tl.sum(total, 1)


@triton.jit
def _mark(slots, s, begin, length, log_long):
    """Piece c is the values [c·long, c·long + long), long = 2^log_long. Of the long segments that
    reach into it one at most began before it (slots[2c]), and one at most begins in it
    (slots[2c + 1])."""
    far = length > 1 << log_long
    if tl.max(length) > 1 << log_long:
        first, last = begin >> log_long, (begin + length - 1) >> log_long
        tl.store(slots + first * 2 + 1, s, mask=far)
        for step in range(1, tl.max(tl.where(far, last - first, 0)) + 1, ACROSS):
            piece = (first + step)[:, None] + tl.arange(0, ACROSS)[None, :]
            mask = far[:, None] & (piece <= last[:, None])
            tl.store(slots + piece * 2, s[:, None] + tl.zeros_like(piece), mask=mask)


@triton.jit(do_not_specialize=SIZES)
def _whole(
    values, pointers, shift, stride, offset, rows, index, offsets, weights, factor, out, scale,
    slots, count, log_long,
    DTYPE: tl.constexpr, DIM: tl.constexpr, COLUMNS: tl.constexpr, SEGMENTS: tl.constexpr,
    Q: tl.constexpr,
):  # fmt: skip
    """Segments of at most 2^log_long values, SEGMENTS a program."""
    s = tl.program_id(0).to(tl.int64) * SEGMENTS + tl.arange(0, SEGMENTS)
    begin = tl.load(offsets + s, mask=s < count, other=0).to(tl.int64)
    length = tl.load(offsets + s + 1, mask=s < count, other=0).to(tl.int64) - begin
    mine = (s < count) & (length <= 1 << log_long)
    if slots is not None:
        _mark(slots, s, begin, length, log_long)
    pooled, weight = sums_of(
        begin, tl.where(mine, length, 0), values, pointers, shift, stride, offset, rows, index,
        weights, factor, DTYPE, DIM, COLUMNS, SEGMENTS, Q,
    )  # fmt: skip
    if scale is not None:
        inverse = tl.where(weight > 0, 1.0 / weight, 0.0)
        pooled *= inverse[:, None]
        tl.store(scale + s, inverse, mask=mine)
    column = tl.arange(0, COLUMNS)
    target = out + s[:, None] * DIM + column[None, :]
    mask = mine[:, None] & (column < DIM)[None, :]
    tl.store(target, pooled.to(out.dtype.element_ty), mask=mask)


@triton.jit(do_not_specialize=["count", "log_long"])
def _mark_long(offsets, slots, count, log_long, BLOCK: tl.constexpr):
    s = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    begin = tl.load(offsets + s, mask=s < count, other=0).to(tl.int64)
    end = tl.load(offsets + s + 1, mask=s < count, other=0).to(tl.int64)
    _mark(slots, s, begin, end - begin, log_long)


@triton.jit(do_not_specialize=SIZES)
def _pieces(
    values, pointers, shift, stride, offset, rows, index, offsets, weights, factor,
    slots, partial, weight_of, n, log_long,
    DTYPE: tl.constexpr, DIM: tl.constexpr, COLUMNS: tl.constexpr, Q: tl.constexpr,
    GROUP: tl.constexpr,
):  # fmt: skip
    """Sums of what lies in a piece of the segment of each of its slots; GROUP pieces a program, as
    most often there is nothing to do."""
    begin = tl.program_id(0).to(tl.int64) * 2 * GROUP
    column = tl.arange(0, COLUMNS)
    if tl.max(tl.load(slots + begin + tl.arange(0, 2 * GROUP))) >= 0:
        for slot in range(begin, begin + 2 * GROUP):
            s = tl.load(slots + slot)
            if s >= 0:
                first = (slot >> 1) << log_long
                low = tl.maximum(tl.load(offsets + s).to(tl.int64), first)
                end = tl.minimum(first + (1 << log_long), n)
                high = tl.minimum(tl.load(offsets + s + 1).to(tl.int64), end)
                total = tl.zeros([Q], tl.float32)
                sums = tl.zeros([Q, COLUMNS], tl.float32)
                for step in range(low, high, Q):
                    k = step + tl.arange(0, Q)
                    live = k < high
                    row, w = _weights_at(k, live, index, weights, factor)
                    sums += w[:, None] * _rows_at(
                        row, live, values, pointers, shift, stride, offset, rows,
                        DTYPE, DIM, COLUMNS,
                    )  # fmt: skip
                    total += w
                tl.store(partial + slot * DIM + column, tl.sum(sums, 0), mask=column < DIM)
                tl.store(weight_of + slot, tl.sum(total))


@triton.jit(do_not_specialize=["log_long"])
def _join(
    slots, partial, weight_of, offsets, out, scale, log_long,
    DIM: tl.constexpr, COLUMNS: tl.constexpr, Q: tl.constexpr, GROUP: tl.constexpr,
):  # fmt: skip
    """The long segments that begin in some pieces: their part there and those of pieces after."""
    begin = tl.program_id(0).to(tl.int64) * GROUP
    column = tl.arange(0, COLUMNS)
    if tl.max(tl.load(slots + (begin + tl.arange(0, GROUP)) * 2 + 1)) >= 0:
        for c in range(begin, begin + GROUP):
            s = tl.load(slots + c * 2 + 1)
            if s >= 0:
                last = (tl.load(offsets + s + 1).to(tl.int64) - 1) >> log_long
                total = tl.zeros([Q], tl.float32)
                sums = tl.zeros([Q, COLUMNS], tl.float32)
                for step in range(c, last + 1, Q):
                    piece = step + tl.arange(0, Q)
                    slot = piece * 2 + (piece == c).to(tl.int64)
                    live = piece <= last
                    mask = live[:, None] & (column < DIM)[None, :]
                    at = partial + slot[:, None] * DIM + column[None, :]
                    sums += tl.load(at, mask=mask, other=0)
                    total += tl.load(weight_of + slot, mask=live, other=0)
                pooled = tl.sum(sums, 0)
                if scale is not None:
                    weight = tl.sum(total)
                    inverse = tl.where(weight > 0, 1.0 / weight, 0.0)
                    pooled *= inverse
                    tl.store(scale + s, inverse)
                pooled = pooled.to(out.dtype.element_ty)
                tl.store(out + s * DIM + column, pooled, mask=column < DIM)


def pool(
    out: Tensor,
    index: Tensor,
    offsets: Tensor,
    *,
    values: Tensor | None = None,
    table: Table | None = None,
    slot: int = 0,
    rows: Tensor | None = None,
    weights: Tensor | None = None,
    factor: Tensor | None = None,
    scale: Tensor | None = None,
) -> None:
    """out[s] = Σ weights[k]·factor[index[k]]·source[index[k]] over k of segment s, in float32.

    The source is `values` [U, D], or byte offset `slot` of `rows` in the blocks of `table`, whose
    slot has the dtype of `out`. With `scale` [S] the mean is formed, and scale becomes 1 / Σw.
    """
    count, n, dim = len(offsets) - 1, len(index), out.shape[1]
    if count == 0:
        return
    kind = "short" if n // count <= SHORT else "segment"
    shape, at_once, warps = shape_of(kind, out.device, dim, out.dtype)
    q = abreast(at_once, n, count, shape["COLUMNS"])
    source = (values, *(table or (None, 0, 0)), slot, rows, index, offsets, weights, factor)
    long = long_of(n, count)
    slots = slots_of(n, long, out.device)
    segments = max(at_once * WIDEN // q, 1)
    launch(
        _whole, cover(count, segments), *source, out, scale, slots, count, log2(long),
        warps=warps, SEGMENTS=segments, Q=q, **shape,
    )  # fmt: skip
    if slots is not None:
        _pool_long(slots, long, source, out, scale, **shape)


def pool_long(
    out: Tensor, index: Tensor, offsets: Tensor, values: Tensor, *factors: Tensor | None
) -> None:
    """`pool` for none but segments longer than `long_of`: the rest of `out` stays as it was."""
    count, n, dim = len(offsets) - 1, len(index), out.shape[1]
    long = long_of(n, count)
    slots = slots_of(n, long, out.device)
    if slots is not None and count:
        launch(_mark_long, cover(count, MARKED), offsets, slots, count, log2(long), BLOCK=MARKED)
        source = (values, None, 0, 0, 0, None, index, offsets, *factors)
        shape = shape_of("segment", out.device, dim, out.dtype)[0]
        _pool_long(slots, long, source, out, None, **shape)


def slots_of(n: int, long: int, device: torch.device) -> Tensor | None:
    """Slots of the pieces of n values, all empty; None if no segment can be long."""
    if n <= long:
        return None
    slots = torch.empty(2 * GROUP * cover(n, long * GROUP), dtype=torch.int64, device=device)
    fill(slots, -1)
    return slots


def _pool_long(
    slots: Tensor, long: int, source: Any, out: Tensor, scale: Tensor | None, **shape: Any
) -> None:
    index, offsets = source[6:8]
    n, dim, pieces = len(index), out.shape[1], len(slots) // 2
    partial = torch.empty(pieces * 2, dim, dtype=torch.float32, device=out.device)
    weight_of = torch.empty(pieces * 2, dtype=torch.float32, device=out.device)
    # Interpreted, a program costs more than what it does.
    q = max(PIECE * (WIDEN if INTERPRETED else 1) // shape["COLUMNS"], 1)
    warps = max(min(q, long) * shape["COLUMNS"] // 512, 1)
    launch(
        _pieces, pieces // GROUP, *source, slots, partial, weight_of, n, log2(long),
        warps=min(warps, 4), Q=min(q, long), GROUP=GROUP, **shape,
    )  # fmt: skip
    launch(
        _join, pieces // GROUP, slots, partial, weight_of, offsets, out, scale, log2(long),
        warps=min(warps, 4), Q=q, GROUP=GROUP, DIM=dim, COLUMNS=shape["COLUMNS"],
    )  # fmt: skip
