"""Values grouped by a key below `distinct`, in order of position: a partition, then sorts.

Keys are cut into buckets of so many keys that most have fewer values than a program sorts in its
registers. `_tiles` sorts tiles and says where buckets end in each, `_columns` makes of that the
place of every run, `_scatter` brings each value, four bytes of {key in the bucket, tag}, to its
bucket, `_pieces` sorts buckets, or pieces of those that are larger, which `_join` puts together.
Tags grow with position, so what is sorted by {key, tag} is stable.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from backends.triton.ascending import LAST, ascending
from backends.triton.chain import chain, linked
from backends.triton.launch import INTERPRETED, cover, launch, power_of_two
from backends.triton.owners import clear, mark_owners, running_maximum

# log2 of the values of a tile and of a piece; FILL of a piece is what a bucket has on average.
TILE, PIECE, FILL = (10, 10, 0.85) if INTERPRETED else (11, 10, 0.85)
# Bits of a tag; a key in its tile has 32 - TILE.
TAG = tl.constexpr(22)
TAGS = tl.constexpr((1 << 22) - 1)
# Values whose position a tag holds.
MOST = (1 << 22) - 1
MOST_TILES_AT_ONCE, COLUMNS, SCATTERED = 512, 8, 1024
TILE_WARPS, PIECE_WARPS = 16, 8
ROWS, BLOCK = 32, 32
# Segments looked at by a program at once.
MARKED = tl.constexpr(512)


class Plan(NamedTuple):
    """How n values of `distinct` keys are cut; `width` keys a bucket."""

    tiles: int
    width: int
    buckets: int
    pieces: int


def plan_of(n: int, distinct: int, segments: int = 0) -> Plan | None:
    """None where a value does not fit four bytes, or a segment's number."""
    if not 0 < n <= MOST or segments >> 30 or distinct >= 1 << (32 - TILE):
        return None
    width = min(max(int(FILL * (distinct << PIECE) / n), 3), 1 << (32 - TAG.value))
    buckets = cover(distinct, width)
    return Plan(cover(n, 1 << TILE), width, buckets, buckets + (n >> PIECE))


@triton.jit
def _bucket_of(key, magic):
    """key // width, by magic = ceil(2^32 / width): exact for keys of 21 bits and widths of 10."""
    return ((key.to(tl.uint64) * magic.to(tl.uint64)) >> 32).to(tl.int32)


@triton.jit(do_not_specialize=["n", "count", "buckets", "magic"])
def _tiles(
    keys, offsets, owner, staged, ends, bases, n, count, buckets, magic,
    TILE: tl.constexpr, BLOCK: tl.constexpr, CHAIN: tl.constexpr,
):  # fmt: skip
    """Of each tile its {key, place in the tile}, sorted, where the run of each bucket ends, and the
    segments of its values."""
    linked(CHAIN)
    size: tl.constexpr = 1 << TILE
    begin = tl.program_id(0) * size
    own = tl.minimum(n - begin, size)
    row = ends + tl.program_id(0).to(tl.int64) * buckets
    if tl.program_id(0) == 0:
        tl.store(bases + buckets + 1, 0)
    clear(row, buckets, BLOCK)
    if owner is not None:
        clear(owner + begin, own, BLOCK)
    place = tl.arange(0, size)
    key = tl.load(keys + begin + place, mask=place < own, other=0).to(tl.uint32)
    packed = tl.where(place < own, (key << TILE) | place.to(tl.uint32), LAST)
    packed = ascending(packed, TILE)
    tl.store(staged + begin + place, packed.to(tl.int32, bitcast=True))
    tl.debug_barrier()
    first = 0
    if owner is not None:
        first = mark_owners(offsets, count, begin, begin + own, owner + begin, MARKED)
    for at in range(0, own, BLOCK):
        j = at + tl.arange(0, BLOCK)
        mine = tl.load(staged + begin + j, mask=j < own, other=0).to(tl.uint32, bitcast=True)
        after = tl.load(staged + begin + j + 1, mask=j + 1 < own, other=0)
        bucket = _bucket_of(mine >> TILE, magic)
        other = _bucket_of(after.to(tl.uint32, bitcast=True) >> TILE, magic)
        last = (j + 1 == own) | ((j < own) & (bucket != other))
        tl.store(row + bucket, j + 1, mask=last)
    tl.debug_barrier()
    running_maximum(row, buckets, tl.full([], 0, tl.int32), BLOCK)
    if owner is not None:
        running_maximum(owner + begin, own, first, BLOCK)


@triton.jit(do_not_specialize=["n", "tiles", "buckets"])
def _columns(
    ends, places, bases, n, tiles, buckets,
    PIECE: tl.constexpr, COLUMNS: tl.constexpr, ROWS: tl.constexpr, CHAIN: tl.constexpr,
):  # fmt: skip
    """bases[b]: first place of bucket b, after the last n, and whether any has more than a piece;
    places[t, b]: what to add to a value's place in tile t."""
    linked(CHAIN)
    b = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)
    inside = (b < buckets)[None, :]
    base = tl.zeros([COLUMNS], tl.int32)
    for at in range(0, tiles, ROWS):
        t = at + tl.arange(0, ROWS)
        cell = ends + t[:, None].to(tl.int64) * buckets + b[None, :]
        start = tl.load(cell - 1, mask=(t < tiles)[:, None] & inside & (b > 0)[None, :], other=0)
        base += tl.sum(start, 0)
    tl.store(bases + b, base, mask=b < buckets)
    first = base
    tl.store(bases + buckets, n)
    for at in range(0, tiles, ROWS):
        t = at + tl.arange(0, ROWS)
        mask = (t < tiles)[:, None] & inside
        cell = t[:, None].to(tl.int64) * buckets + b[None, :]
        start = tl.load(ends + cell - 1, mask=mask & (b > 0)[None, :], other=0)
        length = tl.load(ends + cell, mask=mask, other=0) - start
        before = tl.cumsum(length, 0) - length + base[None, :]
        tl.store(places + cell, before - start, mask=mask)
        base += tl.sum(length, 0)
    if tl.max(base - first) > (1 << PIECE):
        tl.store(bases + buckets + 1, 1)


@triton.jit(do_not_specialize=["n", "buckets", "width", "magic"])
def _scatter(
    staged, owner, places, elements, n, buckets, width, magic,
    TILE: tl.constexpr, BLOCK: tl.constexpr, CHAIN: tl.constexpr,
):  # fmt: skip
    linked(CHAIN)
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tile = tl.program_id(0) * BLOCK >> TILE
    packed = tl.load(staged + i, mask=i < n, other=0).to(tl.uint32, bitcast=True)
    key = packed >> TILE
    bucket = _bucket_of(key, magic)
    tag = (tile << TILE) + (packed & ((1 << TILE) - 1)).to(tl.int32)
    if owner is not None:
        tag = tl.load(owner + tag, mask=i < n, other=0)
    place = tl.load(places + tile.to(tl.int64) * buckets + bucket, mask=i < n, other=0)
    place += i - (tile << TILE)
    element = ((key.to(tl.int32) - bucket * width) << TAG) | tag
    tl.store(elements + place, element, mask=i < n)


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
    PIECE: tl.constexpr, BLOCK: tl.constexpr, CHAIN: tl.constexpr,
):  # fmt: skip
    """Sort each piece and count its keys; of a bucket of one piece, write all there is to."""
    linked(CHAIN)
    size: tl.constexpr = 1 << PIECE
    bucket, base, many, piece, line = _piece_of(bases, buckets, PIECE)
    begin, own = _own(elements, base, many, piece, PIECE)
    if (own > 0) | (piece == 0):
        row = counts + line.to(tl.int64) * width
        clear(row, width, BLOCK)
        place = tl.arange(0, size)
        packed = tl.load(elements + begin + place, mask=place < own, other=-1)
        packed = ascending(packed.to(tl.uint32, bitcast=True), PIECE)
        tl.store(elements + begin + place, packed.to(tl.int32, bitcast=True), mask=place < own)
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
    PIECE: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr, CHAIN: tl.constexpr,
):  # fmt: skip
    """Of buckets of several pieces: starts of keys, and what to add to a value's place in its
    piece. A program takes some keys, of all pieces."""
    linked(CHAIN)
    if tl.load(bases + buckets + 1) != 0:
        bucket, base, many, piece, line = _piece_of(bases, buckets, PIECE)
        all_ = (many + (1 << PIECE) - 1) >> PIECE
        if (all_ > 1) & (piece < all_):
            first = (line - piece).to(tl.int64) * width
            for at in range(piece * BLOCK, width, all_ * BLOCK):
                k = at + tl.arange(0, BLOCK)
                start = tl.zeros([BLOCK], tl.int32) + base
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
    PIECE: tl.constexpr, CHAIN: tl.constexpr,
):  # fmt: skip
    """Values of buckets of several pieces, to their places."""
    linked(CHAIN)
    if tl.load(bases + buckets + 1) != 0:
        bucket, base, many, piece, line = _piece_of(bases, buckets, PIECE)
        begin, own = _own(elements, base, many, piece, PIECE)
        if (many > (1 << PIECE)) & (own > 0):
            j = tl.arange(0, 1 << PIECE)
            mine = tl.load(elements + begin + j, mask=j < own, other=0).to(tl.uint32, bitcast=True)
            row = moves + line.to(tl.int64) * width
            place = tl.load(row + (mine >> TAG).to(tl.int32), mask=j < own, other=0) + j
            _put(place, (mine & TAGS).to(tl.int32), j < own, owner, weights, out, carried)


def _scratch(device: torch.device, *sizes: int) -> tuple[Tensor, ...]:
    """int32 arrays of one allocation, each aligned as an allocation is."""
    padded = [-(-size // 128) * 128 for size in sizes]
    return torch.empty(sum(padded), dtype=torch.int32, device=device).split(padded)


def group(
    plan: Plan,
    keys: Tensor,
    distinct: int,
    starts: Tensor,
    out: Tensor,
    *,
    offsets: Tensor | None = None,
    weights: Tensor | None = None,
    carried: Tensor | None = None,
) -> None:
    """out [n]: positions in the stable order of `keys`, or with `offsets` [S+1] the segments in
    which they lie; key u has those from starts[u] up to starts[u + 1]. carried: weights likewise.
    """
    n, device = len(keys), keys.device
    tiles, width, buckets, pieces = plan
    magic = -(-(1 << 32) // width)
    count = 0 if offsets is None else len(offsets) - 1
    runs = tiles * buckets
    leads, follows = chain(device)
    staged, owner, ends, places, bases, elements, counts, moves = _scratch(
        device, tiles << TILE, n, runs, runs, buckets + 2, n, *(pieces * width,) * 2
    )
    owner = None if offsets is None else owner
    launch(
        _tiles, tiles, keys, offsets, owner, staged, ends, bases, n, count, buckets, magic,
        warps=TILE_WARPS, TILE=TILE, BLOCK=1 << TILE, CHAIN=leads,
    )  # fmt: skip
    rows = min(MOST_TILES_AT_ONCE, power_of_two(tiles))
    launch(
        _columns, cover(buckets, COLUMNS), ends, places, bases, n, tiles, buckets,
        PIECE=PIECE, COLUMNS=COLUMNS, ROWS=rows, CHAIN=follows,
    )  # fmt: skip
    # Tags are segments unless a position is asked for, by weights or by segments past a tag.
    direct = weights is None and count < 1 << TAG.value
    tagged, looked_up = (owner, None) if direct else (None, owner)
    block = min(SCATTERED, 1 << TILE)
    launch(
        _scatter, cover(n, block), staged, tagged, places, elements, n, buckets, width, magic,
        TILE=TILE, BLOCK=block, CHAIN=follows,
    )  # fmt: skip
    rest = looked_up, weights, starts, out, carried if weights is not None else None
    launch(
        _pieces, pieces, elements, bases, counts, *rest, distinct, buckets, width,
        warps=PIECE_WARPS, PIECE=PIECE, BLOCK=1 << PIECE, CHAIN=follows,
    )  # fmt: skip
    if n > 1 << PIECE:
        cut = distinct, buckets, width
        launch(
            _moves, pieces, bases, counts, moves, starts, *cut,
            PIECE=PIECE, ROWS=ROWS, BLOCK=BLOCK, CHAIN=follows,
        )  # fmt: skip
        launch(
            _join, pieces, elements, bases, moves, looked_up, weights, out, rest[-1], buckets,
            width, PIECE=PIECE, CHAIN=follows,
        )  # fmt: skip
