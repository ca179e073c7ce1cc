"""Sums of rows over segments: what pooling, its gradients and `rows_reduce` are made of.

A program sums a few segments whole, Q rows of each at a time, so that many loads are in flight.
A segment longer than `LONG` would hold its program up: it is cut at fixed positions into pieces of
`LONG` values, summed by programs of their own and added in order, so no result depends on timing.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from backends.triton.fill import fill
from backends.triton.launch import INTERPRETED, WIDEN, below, cover, launch, power_of_two
from backends.triton.rows import DTYPES, Table, addresses_of, slot_of
from backends.triton.search import last_at_most
from backends.triton.tuning import chosen

LONG, SHORT = 1024, 2
MARKED = 1024 * WIDEN
SIZES = ["shift", "stride", "offset", "count", "n", "long"]


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


@triton.jit(do_not_specialize=SIZES)
def _whole(
    values, pointers, shift, stride, offset, rows, index, offsets, weights, factor, out, scale,
    any_long, count, long,
    DTYPE: tl.constexpr, DIM: tl.constexpr, COLUMNS: tl.constexpr, SEGMENTS: tl.constexpr,
    Q: tl.constexpr,
):  # fmt: skip
    """Segments of at most `long` values, SEGMENTS a program."""
    s = tl.program_id(0).to(tl.int64) * SEGMENTS + tl.arange(0, SEGMENTS)
    begin = tl.load(offsets + s, mask=s < count, other=0).to(tl.int64)
    length = tl.load(offsets + s + 1, mask=s < count, other=0).to(tl.int64) - begin
    mine = (s < count) & (length <= long)
    if any_long is not None:  # noqa: SIM102
        # The outer condition is the compiler's, the inner one the device's.
        if tl.max(length) > long:
            tl.store(any_long, 1)
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


@triton.jit(do_not_specialize=["count", "long"])
def _mark(offsets, any_long, count, long, BLOCK: tl.constexpr):
    s = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    begin = tl.load(offsets + s, mask=s < count, other=0)
    if tl.max(tl.load(offsets + s + 1, mask=s < count, other=0) - begin) > long:
        tl.store(any_long, 1)


@triton.jit(do_not_specialize=SIZES)
def _pieces(
    values, pointers, shift, stride, offset, rows, index, offsets, weights, factor,
    any_long, partial, weight_of, begun, count, n, long,
    DTYPE: tl.constexpr, DIM: tl.constexpr, COLUMNS: tl.constexpr, Q: tl.constexpr,
):  # fmt: skip
    """Piece c is the values [c·long, c·long + long). Of the long segments that reach into it one
    at most began before it (part 0), and one at most begins in it (part 1, its number `begun`)."""
    if tl.load(any_long) != 0:
        c = tl.program_id(0).to(tl.int64)
        first = c * long
        end = tl.minimum(first + long, n)
        column = tl.arange(0, COLUMNS)
        starting = tl.full([], -1, tl.int64)
        for part in range(2):
            edge = first if part == 0 else end - 1
            s = last_at_most(offsets, count, edge)
            begin = tl.load(offsets + s).to(tl.int64)
            stop = tl.load(offsets + s + 1).to(tl.int64)
            if part == 0:
                wanted = (stop - begin > long) & (begin < first)
            else:
                wanted = (stop - begin > long) & (begin >= first)
                starting = tl.where(wanted, s, starting)
            low = tl.maximum(begin, first)
            high = tl.where(wanted, tl.minimum(stop, end), low)
            total = tl.zeros([Q], tl.float32)
            sums = tl.zeros([Q, COLUMNS], tl.float32)
            for step in range(low, high, Q):
                k = step + tl.arange(0, Q)
                live = k < high
                row, w = _weights_at(k, live, index, weights, factor)
                read = _rows_at(
                    row, live, values, pointers, shift, stride, offset, rows, DTYPE, DIM, COLUMNS
                )
                sums += read * w[:, None]
                total += w
            slot = c * 2 + part
            tl.store(partial + slot * DIM + column, tl.sum(sums, 0), mask=column < DIM)
            tl.store(weight_of + slot, tl.sum(total))
        tl.store(begun + c, starting)


@triton.jit(do_not_specialize=["long"])
def _join(
    any_long, partial, weight_of, begun, offsets, out, scale, long,
    DIM: tl.constexpr, COLUMNS: tl.constexpr, Q: tl.constexpr,
):  # fmt: skip
    """The long segment that begins in piece c: its part there and those of the pieces after."""
    if tl.load(any_long) != 0:
        c = tl.program_id(0).to(tl.int64)
        s = tl.load(begun + c)
        if s >= 0:
            last = (tl.load(offsets + s + 1).to(tl.int64) - 1) // long
            column = tl.arange(0, COLUMNS)
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
            tl.store(out + s * DIM + column, pooled.to(out.dtype.element_ty), mask=column < DIM)


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
    q = min(at_once, max(below(n // count), 1))
    source = (values, *(table or (None, 0, 0)), slot, rows, index, offsets, weights, factor)
    any_long = flag(n, out.device)
    segments = max(at_once * WIDEN // q, 1)
    launch(
        _whole, cover(count, segments), *source, out, scale, any_long, count, LONG,
        warps=warps, SEGMENTS=segments, Q=q, **shape,
    )  # fmt: skip
    if any_long is not None:
        _pool_long(any_long, source, out, scale, **shape)


def pool_long(
    out: Tensor, index: Tensor, offsets: Tensor, values: Tensor, *factors: Tensor | None
) -> None:
    """`pool` for none but segments of more than LONG values: the rest of `out` stays as it was."""
    count, n, dim = len(offsets) - 1, len(index), out.shape[1]
    any_long = flag(n, out.device)
    if any_long is not None and count:
        launch(_mark, cover(count, MARKED), offsets, any_long, count, LONG, BLOCK=MARKED)
        source = (values, None, 0, 0, 0, None, index, offsets, *factors)
        _pool_long(
            any_long, source, out, None, **shape_of("segment", out.device, dim, out.dtype)[0]
        )


def shape_of(
    kind: str, device: torch.device, dim: int, dtype: torch.dtype
) -> tuple[dict[str, Any], int, int]:
    """Constants of a kernel, rows of `dim` elements that a program sums at once, and its warps; by
    what `tuning` has for a kind."""
    columns = power_of_two(dim)
    choice = chosen(kind, columns, device)
    # Twice the elements where they are half as wide, so that as many bytes are in flight.
    at_once = max(choice.tile * 4 // dtype.itemsize // columns, 1)
    return dict(DTYPE=DTYPES[dtype], DIM=dim, COLUMNS=columns), at_once, choice.warps


def flag(n: int, device: torch.device) -> Tensor | None:
    """A cleared flag for "some segment is long", None if none of n values can be."""
    if n <= LONG:
        return None
    any_long = torch.empty(1, dtype=torch.int32, device=device)
    fill(any_long, 0)
    return any_long


def _pool_long(
    any_long: Tensor, source: tuple[Any, ...], out: Tensor, scale: Tensor | None, **shape: Any
) -> None:
    index, offsets = source[6:8]
    n, count, dim, device = len(index), len(offsets) - 1, out.shape[1], out.device
    pieces = cover(n, LONG)
    partial = torch.empty(pieces * 2, dim, dtype=torch.float32, device=device)
    weight_of = torch.empty(pieces * 2, dtype=torch.float32, device=device)
    begun = torch.empty(pieces, dtype=torch.int64, device=device)
    q = max(2048 * (WIDEN if INTERPRETED else 1) // shape["COLUMNS"], 1)
    q = min(q, LONG)
    warps = min(max(q * shape["COLUMNS"] // 512, 1), 4)
    launch(
        _pieces, pieces, *source, any_long, partial, weight_of, begun, count, n, LONG,
        warps=warps, Q=q, **shape,
    )  # fmt: skip
    launch(
        _join, pieces, any_long, partial, weight_of, begun, offsets, out, scale, LONG,
        warps=warps, Q=q, DIM=dim, COLUMNS=shape["COLUMNS"],
    )  # fmt: skip
