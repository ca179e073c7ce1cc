"""ids_partition: an ordered hash table of 64-bit keys, numbered in the order of its cells.

A table's key of an id is its `pair_hash`, a bijection, so equal keys are equal ids; every owner and
table has a region of cells of its own, so other pairs never meet and cells are grouped by owner.
The cells of a probe sequence hold falling keys: a key that meets a smaller one takes its cell, and
the smaller one moves on. One atomic maximum does that, and the table's content depends on nothing
but the set of keys (Amble & Knuth 1974; Shun & Blelloch, SPAA 2014): every call's result is the
same.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from backends.triton.fill import fill
from backends.triton.launch import WIDEN, cover, launch
from backends.triton.mixing import unmix64
from backends.triton.regions import EMPTY, LOWEST, bin_of, hashed_values, regions
from backends.triton.scan import exclusive_sums
from backends.triton.search import columns_of

# A warp a program: a value that probes for long then holds up few others.
BLOCK, WARPS, CELLS = 64 * WIDEN, 1, 2048 * WIDEN


@triton.jit
def _place(ids, splits, columns, tables, salts, starts, n, world, groups, BLOCK: tl.constexpr):
    """Of this program's values: positions, which there are, keys, home cells, and the region
    [start, start + size) in which probing goes round."""
    begin = tl.program_id(0).to(tl.int64) * BLOCK
    i = begin + tl.arange(0, BLOCK)
    end = tl.minimum(begin + BLOCK, n)
    hashed, table = hashed_values(ids, splits, columns, tables, salts, n, i, begin, end)
    bin_ = bin_of(hashed, table, world, groups)
    start = tl.load(starts + bin_)
    size = tl.load(starts + bin_ + 1) - start - 1
    key = hashed.to(tl.int64)
    at = (((hashed >> 32) * size.to(tl.uint64)) >> 32).to(tl.int64)
    # The one key that is no key has the region's last cell to itself.
    at = tl.where(key == EMPTY, size, at)
    key = tl.where(key == EMPTY, EMPTY + 1, key)
    return i, i < n, key, at, start, size


SIZES = ["columns", "n", "world", "groups"]


@triton.jit(do_not_specialize=SIZES)
def _insert(
    ids, splits, columns, tables, salts, starts, cells, n, world, groups, BLOCK: tl.constexpr
):
    _, active, key, at, start, size = _place(
        ids, splits, columns, tables, salts, starts, n, world, groups, BLOCK
    )
    while tl.max(active.to(tl.int32)) > 0:
        cell = cells + start + at
        seen = tl.load(cell, mask=active, other=0)
        # A cell's key only ever rises, so an old view of it can only ask for a needless attempt.
        smaller = active & (seen < key)
        old = tl.atomic_max(cell, key, mask=smaller, sem="relaxed")
        seen = tl.where(smaller, old, seen)
        active = active & (seen != key) & (seen != EMPTY)
        key = tl.where(active & (seen < key), seen, key)
        at = tl.where(at + 1 >= size, 0, at + 1)


@triton.jit(do_not_specialize=SIZES)
def _invert(
    ids, splits, columns, tables, salts, starts, cells, numbers, inverse, n, world, groups,
    BLOCK: tl.constexpr,
):  # fmt: skip
    i, live, key, at, start, size = _place(
        ids, splits, columns, tables, salts, starts, n, world, groups, BLOCK
    )
    found = start + at
    active = live
    while tl.max(active.to(tl.int32)) > 0:
        # Two cells a step, most often of one sector.
        beside = tl.where(at + 1 >= size, 0, at + 1)
        first = tl.load(cells + start + at, mask=active, other=0) == key
        second = tl.load(cells + start + beside, mask=active & (size > 0), other=0) == key
        found = tl.where(active & second, start + beside, found)
        found = tl.where(active & first, start + at, found)
        active = active & (first == 0) & (second == 0)
        at = tl.where(beside + 1 >= size, 0, beside + 1)
    number = tl.load(numbers + found, mask=live, other=0)
    tl.store(inverse + i, number.to(inverse.dtype.element_ty), mask=live)


@triton.jit(do_not_specialize=["size"])
def _count(cells, counts, size, CELLS: tl.constexpr):
    c = tl.program_id(0).to(tl.int64) * CELLS + tl.arange(0, CELLS)
    taken = tl.load(cells + c, mask=c < size, other=EMPTY) != EMPTY
    tl.store(counts + tl.program_id(0), tl.sum(taken.to(tl.int32)))


@triton.jit(do_not_specialize=["size", "bins", "groups"])
def _number(
    cells, before, starts, salts, numbers, unique_ids, unique_tables, edges, size, bins, groups,
    CELLS: tl.constexpr,
):  # fmt: skip
    """edges[w] = keys before the first cell of owner w."""
    first = tl.program_id(0).to(tl.int64) * CELLS
    c = first + tl.arange(0, CELLS)
    key = tl.load(cells + c, mask=c < size, other=EMPTY)
    taken = key != EMPTY
    # 32 bits: a 64-bit remainder for every cell would cost more than all else here.
    bin_ = columns_of(starts, bins, first, tl.minimum(first + CELLS, size), c).to(tl.int32)
    owner = bin_ // groups
    table = bin_ - owner * groups
    ahead = tl.cumsum(taken.to(tl.int32)) - taken.to(tl.int32)
    place = tl.load(before + tl.program_id(0)) + ahead
    # A region's last cell stands for the key EMPTY.
    last = taken & (c + 1 == tl.load(starts + bin_ + 1))
    hashed = tl.where(last, tl.zeros_like(key) + EMPTY, key).to(tl.uint64)
    pair = unmix64(hashed).to(tl.int64) ^ tl.load(salts + table)
    tl.store(numbers + c, place.to(numbers.dtype.element_ty), mask=taken)
    tl.store(unique_ids + place, pair, mask=taken)
    tl.store(unique_tables + place, table, mask=taken)
    opens = (c < size) & (table == 0) & (c == tl.load(starts + bin_))
    tl.store(edges + owner, place, mask=opens)


@triton.jit(do_not_specialize=["world"])
def _lengths(edges, total, counts, world, BLOCK: tl.constexpr):
    w = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    stop = tl.load(edges + w + 1, mask=w + 1 < world, other=0)
    stop = tl.where(w + 1 == world, tl.load(total), stop)
    tl.store(counts + w, stop - tl.load(edges + w, mask=w < world, other=0), mask=w < world)


def ids_partition(
    ids: Tensor,
    splits: Tensor,
    tables: Tensor,
    salts: Tensor,
    world: int,
    unique_ids: Tensor,
    unique_tables: Tensor,
    counts: Tensor,
    inverse: Tensor,
) -> None:
    n, groups, device = len(ids), len(salts), ids.device
    if n == 0:
        fill(counts, 0)
        return
    starts, size = regions(ids, splits, tables, salts, world)
    cells = torch.empty(size, dtype=torch.int64, device=device)
    fill(cells, LOWEST)
    place = (ids, splits, len(tables), tables, salts, starts, cells)
    programs, shape = cover(n, BLOCK), dict(warps=WARPS, BLOCK=BLOCK)
    launch(_insert, programs, *place, n, world, groups, **shape)
    parts = torch.empty(cover(size, CELLS), dtype=torch.int32, device=device)
    before = torch.empty(len(parts) + 1, dtype=torch.int64, device=device)
    numbers = torch.empty(size, dtype=inverse.dtype, device=device)
    edges = torch.empty(world, dtype=torch.int64, device=device)
    launch(_count, len(parts), cells, parts, size, CELLS=CELLS)
    exclusive_sums(parts, before)
    launch(
        _number, len(parts), cells, before, starts, salts, numbers, unique_ids, unique_tables,
        edges, size, world * groups, groups, CELLS=CELLS,
    )  # fmt: skip
    launch(_lengths, cover(world, 128), edges, before[-1:], counts, world, BLOCK=128)
    launch(_invert, programs, *place, numbers, inverse, n, world, groups, **shape)
