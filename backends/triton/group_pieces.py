"""Buckets sorted by key and tag: whole, or in pieces that are put together."""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from backends.triton import group_plan
from backends.triton.ascending import ascending, dealt, gathered
from backends.triton.group_plan import TAG, TAGS, Plan, scratch
from backends.triton.group_tiles import Buckets
from backends.triton.launch import launch
from backends.triton.owners import clear, running_maximum

# Pieces and keys whose counts a program sums at once.
ROWS, COLUMNS = 32, 32
BLOCK = 512


@triton.jit
def _piece_of(bases, buckets, PIECE: tl.constexpr):
    """Of this program: bucket, its first place and values, which of its pieces, and its row among
    all pieces.

    The first programs have the first piece of each bucket; of the others bucket b has those from
    bases[b] / size on: at least as many as it has further pieces."""
    program = tl.program_id(0)
    bucket, piece = program, program * 0
    if program >= buckets:
        low, high = program * 0, program * 0 + buckets
        while high - low > 1:
            stride = (high - low + 127) // 128
            b = low + tl.arange(0, 128) * stride
            inside = b < high
            first = tl.load(bases + b, mask=inside, other=0) >> PIECE
            below = inside & (first <= program - buckets)
            low += tl.maximum(tl.sum(below.to(tl.int32)) - 1, 0) * stride
            high = tl.minimum(low + stride, high)
        bucket = low
        piece = 1 + program - buckets - (tl.load(bases + low) >> PIECE)
    base = tl.load(bases + bucket)
    many = tl.load(bases + bucket + 1) - base
    return bucket, base, many, piece, bucket + (base >> PIECE) + piece


@triton.jit
def _put(place, tag, mask, owner, weights, out, carried):
    """A value at its place: its tag, or what hangs on the position that the tag is."""
    if weights is not None:
        tl.store(carried + place, tl.load(weights + tag, mask=mask), mask=mask)
    if owner is not None:
        tag = tl.load(owner + tag, mask=mask, other=0)
    tl.store(out + place, tag, mask=mask)


@triton.jit
def _own(elements, base, many, piece, PIECE: tl.constexpr):
    """First place of the piece and its values."""
    begin = piece << PIECE
    return base + begin, tl.minimum(tl.maximum(many - begin, 0), 1 << PIECE)


@triton.jit(do_not_specialize=["distinct", "buckets", "width"])
def _pieces(
    elements, bases, counts, owner, weights, starts, out, carried, distinct, buckets, width,
    PIECE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Sort each piece and count its keys; of a bucket of one piece, write all there is to."""
    size: tl.constexpr = 1 << PIECE
    bucket, base, many, piece, line = _piece_of(bases, buckets, PIECE)
    begin, own = _own(elements, base, many, piece, PIECE)
    if (own > 0) | (piece == 0):
        row = counts + line.to(tl.int64) * width
        clear(row, width, BLOCK)
        place = dealt(size)
        packed = tl.load(elements + begin + place, mask=place < own, other=-1)
        packed = ascending(gathered(packed.to(tl.uint32, bitcast=True), size), PIECE)
        i = tl.arange(0, size)
        tl.store(elements + begin + i, packed.to(tl.int32, bitcast=True), mask=i < own)
        tl.debug_barrier()
        for at in range(0, own, BLOCK):
            j = at + tl.arange(0, BLOCK)
            mine = tl.load(elements + begin + j, mask=j < own, other=0)
            mine = mine.to(tl.uint32, bitcast=True)
            after = tl.load(elements + begin + j + 1, mask=j + 1 < own, other=0)
            key = (mine >> TAG).to(tl.int32)
            other = (after.to(tl.uint32, bitcast=True) >> TAG).to(tl.int32)
            tl.store(row + key, j + 1, mask=(j + 1 == own) | ((j < own) & (key != other)))
            if many <= size:
                tag = (mine & TAGS).to(tl.int32)
                _put(begin + j, tag, j < own, owner, weights, out, carried)
        tl.debug_barrier()
        running_maximum(row, width, tl.full([], 0, tl.int32), BLOCK)
        if bucket + 1 == buckets:
            tl.store(starts + distinct, base + many)
        if many <= size:
            tl.debug_barrier()
            for at in range(0, width, BLOCK):
                k = at + tl.arange(0, BLOCK)
                there = (k < width) & (bucket * width + k < distinct)
                start = tl.load(row + k - 1, mask=there & (k > 0), other=0)
                tl.store(starts + bucket * width + k, base + start, mask=there)


@triton.jit(do_not_specialize=["distinct", "buckets", "width"])
def _moves(
    bases, counts, moves, starts, distinct, buckets, width,
    PIECE: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """Of buckets of several pieces: starts of keys, and what to add to a value's place in its
    piece. A program takes some keys, of all pieces."""
    if tl.load(bases + buckets + 1) != 0:
        bucket, base, many, piece, line = _piece_of(bases, buckets, PIECE)
        all_ = (many + (1 << PIECE) - 1) >> PIECE
        if (all_ > 1) & (piece < all_):
            first = (line - piece).to(tl.int64) * width
            for at in range(piece * COLUMNS, width, all_ * COLUMNS):
                k = at + tl.arange(0, COLUMNS)
                start = tl.zeros([COLUMNS], tl.int32) + base
                for above in range(0, all_, ROWS):
                    r = above + tl.arange(0, ROWS)
                    mask = (r < all_)[:, None] & ((k > 0) & (k < width))[None, :]
                    cell = counts + first + r[:, None].to(tl.int64) * width + k[None, :]
                    start += tl.sum(tl.load(cell - 1, mask=mask, other=0), 0)
                there = (k < width) & (bucket * width + k < distinct)
                tl.store(starts + bucket * width + k, start, mask=there)
                for above in range(0, all_, ROWS):
                    r = above + tl.arange(0, ROWS)
                    mask = (r < all_)[:, None] & (k < width)[None, :]
                    cell = first + r[:, None].to(tl.int64) * width + k[None, :]
                    smaller = tl.load(counts + cell - 1, mask=mask & (k > 0)[None, :], other=0)
                    own = tl.load(counts + cell, mask=mask, other=0) - smaller
                    ahead = tl.cumsum(own, 0) - own
                    tl.store(moves + cell, start[None, :] + ahead - smaller, mask=mask)
                    start += tl.sum(own, 0)


@triton.jit(do_not_specialize=["buckets", "width"])
def _join(
    elements, bases, moves, owner, weights, out, carried, buckets, width,
    PIECE: tl.constexpr,
):  # fmt: skip
    """Values of buckets of several pieces, to their places."""
    if tl.load(bases + buckets + 1) != 0:
        _, base, many, piece, line = _piece_of(bases, buckets, PIECE)
        begin, own = _own(elements, base, many, piece, PIECE)
        if (many > (1 << PIECE)) & (own > 0):
            j = tl.arange(0, 1 << PIECE)
            mine = tl.load(elements + begin + j, mask=j < own, other=0).to(tl.uint32, bitcast=True)
            row = moves + line.to(tl.int64) * width
            place = tl.load(row + (mine >> TAG).to(tl.int32), mask=j < own, other=0) + j
            _put(place, (mine & TAGS).to(tl.int32), j < own, owner, weights, out, carried)


def put(
    plan: Plan,
    given: Buckets,
    distinct: int,
    starts: Tensor,
    out: Tensor,
    weights: Tensor | None,
    carried: Tensor | None,
) -> None:
    """Each value's tag, or what hangs on it, to its place in `out`; first places to `starts`."""
    elements, bases, owner = given
    _, width, buckets, pieces = plan
    n, log_piece = len(out), group_plan.PIECE
    counts, moves = scratch(out.device, *(pieces * width,) * 2)
    launch(
        _pieces, pieces, elements, bases, counts, owner, weights, starts, out, carried, distinct,
        buckets, width, warps=1, PIECE=log_piece, BLOCK=BLOCK,
    )  # fmt: skip
    if n > 1 << log_piece:
        launch(
            _moves, pieces, bases, counts, moves, starts, distinct, buckets, width,
            PIECE=log_piece, ROWS=ROWS, COLUMNS=COLUMNS,
        )  # fmt: skip
        launch(
            _join, pieces, elements, bases, moves, owner, weights, out, carried, buckets, width,
            PIECE=log_piece,
        )  # fmt: skip
