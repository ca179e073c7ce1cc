"""Values to the buckets of their keys, in order of position: tiles sorted, then scattered."""

from __future__ import annotations

from typing import NamedTuple

import triton
import triton.language as tl
from torch import Tensor

from backends.triton import group_plan
from backends.triton.ascending import LAST, ascending, dealt, gathered
from backends.triton.group_plan import TAG, TAGS, Plan, scratch
from backends.triton.launch import cover, launch, power_of_two
from backends.triton.owners import clear, mark_owners, running_maximum

# Rows and columns of the matrix of runs that a program sums at once.
ROWS, COLUMNS = 512, 8
SCATTERED, BLOCK = 1024, 512
# Segments that a program looks at, at once.
MARKED = tl.constexpr(512)


@triton.jit
def _bucket_of(key, magic):
    """key // width, by magic = ceil(2^32 / width): exact for keys of 21 bits and widths of 10."""
    return ((key.to(tl.uint64) * magic.to(tl.uint64)) >> 32).to(tl.int32)


@triton.jit(do_not_specialize=["n", "count", "buckets", "magic"])
def _tiles(
    keys, offsets, owner, staged, ends, bases, n, count, buckets, magic,
    TILE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Of each tile its {key, place in the tile}, sorted, where the run of each bucket ends, and the
    segments of its values."""
    size: tl.constexpr = 1 << TILE
    begin = tl.program_id(0) * size
    own = tl.minimum(n - begin, size)
    row = ends + tl.program_id(0).to(tl.int64) * buckets
    if tl.program_id(0) == 0:
        tl.store(bases + buckets + 1, 0)
    clear(row, buckets, BLOCK)
    if owner is not None:
        clear(owner + begin, own, BLOCK)
    place = dealt(size)
    key = tl.load(keys + begin + place, mask=place < own, other=0).to(tl.uint32)
    packed = tl.where(place < own, (key << TILE) | place.to(tl.uint32), LAST)
    packed = ascending(gathered(packed, size), TILE)
    tl.store(staged + begin + tl.arange(0, size), packed.to(tl.int32, bitcast=True))
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
    PIECE: tl.constexpr, COLUMNS: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """bases[b]: first place of bucket b, after the last n, and whether any has more than a piece;
    places[t, b]: what to add to a value's place in tile t."""
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
    TILE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
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


class Buckets(NamedTuple):
    """elements [n]: key in the bucket and tag, by bucket, in order of position; bases: where
    buckets begin, after the last n, and 1 if any has more than a piece; owner [n]: segments of
    values by position, None where they are the tags already."""

    elements: Tensor
    bases: Tensor
    owner: Tensor | None


def bucketed(plan: Plan, keys: Tensor, offsets: Tensor | None, positions: bool) -> Buckets:
    """Tags are positions if asked for, or without `offsets`, or where none holds a segment."""
    n, (tiles, width, buckets, _), log_tile = len(keys), plan, group_plan.TILE
    count = 0 if offsets is None else len(offsets) - 1
    magic = -(-(1 << 32) // width)
    runs = tiles * buckets
    staged, owner, ends, places, bases, elements = scratch(
        keys.device, tiles << log_tile, n, runs, runs, buckets + 2, n
    )
    owner = None if offsets is None else owner
    launch(
        _tiles, tiles, keys, offsets, owner, staged, ends, bases, n, count, buckets, magic,
        warps=1, TILE=log_tile, BLOCK=BLOCK,
    )  # fmt: skip
    rows = min(ROWS, power_of_two(tiles))
    launch(
        _columns, cover(buckets, COLUMNS), ends, places, bases, n, tiles, buckets,
        PIECE=group_plan.PIECE, COLUMNS=COLUMNS, ROWS=rows,
    )  # fmt: skip
    direct = not positions and count <= TAGS.value
    block = min(SCATTERED, 1 << log_tile)
    launch(
        _scatter, cover(n, block), staged, owner if direct else None, places, elements, n, buckets,
        width, magic, TILE=log_tile, BLOCK=block,
    )  # fmt: skip
    return Buckets(elements, bases, None if direct else owner)
