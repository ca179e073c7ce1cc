"""Values in the stable order of their keys: a radix sort of elements {key, payload}.

A pass orders a tile by one digit and sends each of its runs to where the counts of all tiles say;
passes take no more bits than the largest key has. An element is an int64, the key above 32 bits of
payload.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from backends.triton.launch import INTERPRETED, cover, launch
from backends.triton.search import columns_of
from backends.triton.tiles import load_tile, store_tile

BLOCK, WARPS = 512 if INTERPRETED else 4096, 8
BY_RANK = tl.constexpr(INTERPRETED)
# Bits of a digit at most and at least, and the counts a program adds up at once.
MOST_BITS, LEAST_BITS = 10, 5
ROWS, COLUMNS = 128, 1024 if INTERPRETED else 32


@triton.jit
def _tally(counts, digit, live, BINS: tl.constexpr):
    """The program's row of counts: values of each digit."""
    found = tl.histogram(digit.to(tl.int32), BINS, mask=live)
    tl.store(counts + tl.program_id(0).to(tl.int64) * BINS + tl.arange(0, BINS), found)


@triton.jit(do_not_specialize=["segments", "n"])
def _pack(keys, offsets, elements, counts, segments, n, BINS: tl.constexpr, BLOCK: tl.constexpr):
    """Elements of the keys with the values' positions, or their segments, and the first counts."""
    begin = tl.program_id(0).to(tl.int64) * BLOCK
    i = begin + tl.arange(0, BLOCK)
    key = load_tile(keys, begin, n, BLOCK).to(tl.int64)
    payload = i
    if offsets is not None:
        payload = columns_of(offsets, segments, begin, tl.minimum(begin + BLOCK, n), i)
    store_tile(elements, begin, n, key << 32 | payload, BLOCK)
    _tally(counts, key & (BINS - 1), i < n, BINS)


@triton.jit(do_not_specialize=["shift", "n"])
def _count(elements, counts, shift, n, BINS: tl.constexpr, BLOCK: tl.constexpr):
    begin = tl.program_id(0).to(tl.int64) * BLOCK
    live = begin + tl.arange(0, BLOCK) < n
    digit = load_tile(elements, begin, n, BLOCK) >> (32 + shift)
    _tally(counts, digit & (BINS - 1), live, BINS)


@triton.jit(do_not_specialize=["tiles"])
def _add_up(
    counts, before, totals, tiles,
    BINS: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """before[t, b] = sum of counts[:t, b], totals[b] of all; a program has COLUMNS of the bins."""
    b = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)
    total = tl.zeros([COLUMNS], tl.int32)
    for at in range(0, tiles, ROWS):
        t = at + tl.arange(0, ROWS).to(tl.int64)
        cell, inside = t[:, None] * BINS + b[None, :], (t < tiles)[:, None]
        own = tl.load(counts + cell, mask=inside, other=0)
        tl.store(before + cell, tl.cumsum(own, 0) - own + total[None, :], mask=inside)
        total += tl.sum(own, 0)
    tl.store(totals + b, total)


@triton.jit
def sorted_tile(x, BLOCK: tl.constexpr):
    """A tile of different int32 in ascending order."""
    if BY_RANK:
        # What `tl.sort` does takes the interpreter seconds.
        rank = tl.sum((x[None, :] < x[:, None]).to(tl.int32), 1)
        here = rank[None, :] == tl.arange(0, BLOCK)[:, None]
        ascending = tl.sum(tl.where(here, x[None, :], 0), 1)
    else:
        ascending = tl.sort(x)
    return ascending


@triton.jit(do_not_specialize=["shift", "n"])
def _move(
    elements, moved, counts, before, totals, shift, n, BINS: tl.constexpr, BLOCK: tl.constexpr
):
    """Elements to their places by one digit."""
    row, b = tl.program_id(0).to(tl.int64) * BINS, tl.arange(0, BINS)
    own, total = tl.load(counts + row + b), tl.load(totals + b)
    # An element's place, less its place in the tile once that is in order.
    ahead = tl.cumsum(total) - total + tl.load(before + row + b) - (tl.cumsum(own) - own)
    begin, a = tl.program_id(0).to(tl.int64) * BLOCK, tl.arange(0, BLOCK)
    digit = (load_tile(elements, begin, n, BLOCK) >> (32 + shift)).to(tl.int32) & (BINS - 1)
    ordered = sorted_tile(tl.where(begin + a < n, digit, BINS) * BLOCK + a, BLOCK)
    digit = ordered // BLOCK
    live = digit < BINS
    element = tl.load(elements + begin + ordered % BLOCK, mask=live)
    to = tl.gather(ahead, tl.minimum(digit, BINS - 1), 0) + a
    tl.store(moved + to, element, mask=live)


def ordered(keys: Tensor, distinct: int, offsets: Tensor | None = None) -> Tensor:
    """Elements int64 [n] in the stable order of keys below `distinct`; payloads are positions, or
    with `offsets` the segments the positions lie in.

    ValueError for 2^31 values or more, which 32 bits cannot tell apart.
    """
    n, device = len(keys), keys.device
    if n >> 31 or distinct >> 31:
        raise ValueError(f"backend triton sorts less than 2^31 values, not {max(n, distinct)}")
    bits = max((distinct - 1).bit_length(), 1)
    passes = cover(bits, MOST_BITS)
    width = max(cover(bits, passes), LEAST_BITS)
    bins, tiles = 1 << width, cover(n, BLOCK)
    elements, moved = (torch.empty(n, dtype=torch.int64, device=device) for _ in range(2))
    counts, before = (torch.empty(tiles * bins, dtype=torch.int32, device=device) for _ in range(2))
    totals = torch.empty(bins, dtype=torch.int32, device=device)
    shape = dict(warps=WARPS, BINS=bins, BLOCK=BLOCK)
    segments = 0 if offsets is None else len(offsets) - 1
    for turn in range(passes):
        shift = turn * width
        if turn == 0:
            launch(_pack, tiles, keys, offsets, elements, counts, segments, n, **shape)
        else:
            launch(_count, tiles, elements, counts, shift, n, **shape)
        columns = min(COLUMNS, bins)
        launch(
            _add_up, bins // columns, counts, before, totals, tiles,
            BINS=bins, ROWS=ROWS, COLUMNS=columns,
        )  # fmt: skip
        launch(_move, tiles, elements, moved, counts, before, totals, shift, n, **shape)
        elements, moved = moved, elements
    return elements
