"""ids_partition: one hash table of positions finds each pair's first claimant, then numbers them.

A cell has the position of the value that took it, plus one, below some bits of the hash, so only
likely equals are compared; a cell once written never changes, so an old view of it can be wrong
about an empty one only. Claimants are numbered where they claim, so their order inside an owner's
run varies from call to call. Values go by slices of the hash through the same parts of the table,
so that a part stays in the cache.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from backends.triton.launch import INTERPRETED, cover, launch, power_of_two
from backends.triton.mixing import owner_of, pair_hash
from backends.triton.scan import exclusive_sums
from backends.triton.search import column_of, columns_of, steps_for
from backends.triton.tiles import load_tile, store_tile

# Cells for each value; at most as many values as leave a cell of 32 bits some bits of the hash.
ROOM, NARROW = 2, 1 << 26
BLOCK, WARPS, FINISH, CLEAR = (
    (2048 if INTERPRETED else 512),
    4,
    (2048 if INTERPRETED else 1024),
    4096,
)
# Cells of a slice, 4 bytes each: about half of an H100's second-level cache.
SLICE, MOST_SLICES = 1 << 23, 8
# Owners a program counts by itself.
MOST_OWNERS = 32


@triton.jit(do_not_specialize=["size", "world"])
def _clear(cells, counts, size, world, BLOCK: tl.constexpr):
    begin = tl.program_id(0).to(tl.int64) * BLOCK
    store_tile(cells, begin, size, tl.zeros([BLOCK], cells.dtype.element_ty), BLOCK)
    if begin < world:
        store_tile(counts, begin, world, tl.zeros([BLOCK], tl.int64), BLOCK)


@triton.jit
def _hashes(ids, splits, columns, tables, salts, begin, n, ONE: tl.constexpr, BLOCK: tl.constexpr):
    """Ids of the values [begin, begin + BLOCK), their tables and hashes."""
    id_ = load_tile(ids, begin, n, BLOCK)
    if ONE:
        table = tl.zeros([BLOCK], tl.int32)
        hashed = pair_hash(tl.load(salts), id_)
    else:
        i = begin + tl.arange(0, BLOCK)
        column = columns_of(splits, columns, begin, tl.minimum(begin + BLOCK, n), i)
        table = tl.load(tables + column).to(tl.int32)
        hashed = pair_hash(tl.load(salts + table), id_)
    return id_, table, hashed


@triton.jit
def _numbered(counts, owner, won, world, OWNERS: tl.constexpr):
    """Each winner's number within its owner; OWNERS: a power of two, 0 for very many."""
    if OWNERS == 1:
        taken = won.to(tl.int32)
        base = tl.atomic_add(counts, tl.sum(taken).to(tl.int64), sem="relaxed")
        number = base + tl.cumsum(taken) - 1
    elif OWNERS == 0:
        one = tl.full(owner.shape, 1, tl.int64)
        number = tl.atomic_add(counts + owner, one, mask=won, sem="relaxed")
    else:
        w = tl.arange(0, OWNERS)
        own = won[:, None] & (owner[:, None] == w[None, :])
        ahead = tl.cumsum(own.to(tl.int32), 0)
        total = tl.sum(own.to(tl.int64), 0)
        base = tl.atomic_add(counts + w, total, mask=(w < world) & (total > 0), sem="relaxed")
        number = tl.sum(tl.where(own, base[None, :] + ahead, 0), 1) - 1
    return number


@triton.jit(do_not_specialize=["columns", "n", "size", "world", "steps", "tiles", "bits"])
def _claim(
    ids, splits, columns, tables, salts, cells, counts, words, unique_ids, unique_tables,
    n, size, world, steps, tiles, bits,
    ONE: tl.constexpr, OWNERS: tl.constexpr, SLICES: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """words[i]: the position of the value that claimed the pair of value i, where it is another;
    where it is i, the sign bit and i's number within its owner."""
    kind: tl.constexpr = cells.dtype.element_ty
    sign: tl.constexpr = -(1 << (kind.primitive_bitwidth - 1))
    program = tl.program_id(0)
    begin = (program % tiles).to(kind) * BLOCK
    i = begin + tl.arange(0, BLOCK)
    id_, table, hashed = _hashes(ids, splits, columns, tables, salts, begin, n, ONE, BLOCK)
    mine = i < n
    if SLICES > 1:
        mine &= ((hashed >> 32) * SLICES >> 32).to(tl.int32) == program // tiles
    at = ((hashed >> 32) * size.to(tl.uint64) >> 32).to(kind)
    tag = hashed.to(kind) >> bits << bits
    value = tag | (i + 1) | sign
    low = (tl.full([], 1, kind) << bits) - 1
    won = mine & (i < 0)
    word = i
    active = mine
    seen = tl.load(cells + at, mask=active, other=0)
    while tl.max(active.to(tl.int32)) > 0:
        empty = active & (seen == 0)
        # The sign bit alone claims a cell; what it holds follows.
        old = tl.atomic_or(cells + at, tl.full([BLOCK], sign, kind), mask=empty, sem="relaxed")
        took = empty & (old == 0)
        tl.store(cells + at, value, mask=took)
        won |= took
        active &= took == 0
        seen = tl.where(empty, old, seen)
        known = active & (seen != sign)
        likely = known & (((seen ^ value) >> bits) == 0)
        other = (seen & low) - 1
        same = likely & (tl.load(ids + other, mask=likely, other=0) == id_)
        if not ONE:
            of = column_of(splits, columns, other, same, steps)
            same &= tl.load(tables + of, mask=same, other=0) == table
        word = tl.where(same, other, word)
        active &= same == 0
        onward = at + 1
        onward = tl.where(onward >= size, 0, onward)
        at = tl.where(known, onward, at)
        seen = tl.load(cells + at, mask=active, other=0, volatile=True)
    owner = table * 0
    if OWNERS != 1:
        owner = owner_of(hashed, world)
    number = _numbered(counts, owner, won, world, OWNERS)
    if OWNERS == 1:
        tl.store(unique_ids + number, id_, mask=won)
        tl.store(unique_tables + number, table, mask=won)
    word = tl.where(won, number.to(kind) | sign, word)
    if SLICES > 1:
        tl.store(words + i, word, mask=mine)
    else:
        store_tile(words, begin, n, word, BLOCK)


@triton.jit(do_not_specialize=["columns", "n", "world"])
def _finish(
    ids, splits, columns, tables, salts, begins, words, unique_ids, unique_tables, inverse,
    n, world, ONE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """With `begins`: numbers count from where the owner's run begins; pairs are yet to write."""
    kind: tl.constexpr = words.dtype.element_ty
    highest: tl.constexpr = (1 << (kind.primitive_bitwidth - 1)) - 1
    begin = tl.program_id(0).to(kind) * BLOCK
    word = load_tile(words, begin, n, BLOCK)
    own = word < 0
    number = tl.where(own, word, tl.load(words + word, mask=own == 0, other=0)) & highest
    if begins is not None:
        id_, table, hashed = _hashes(ids, splits, columns, tables, salts, begin, n, ONE, BLOCK)
        number += tl.load(begins + owner_of(hashed, world)).to(kind)
        tl.store(unique_ids + number, id_, mask=own)
        tl.store(unique_tables + number, table, mask=own)
    store_tile(inverse, begin, n, number, BLOCK)


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
    n, columns, device = len(ids), len(tables), ids.device
    kind = torch.int32 if n <= NARROW else torch.int64
    size = ROOM * n
    cells, words = (torch.empty(m, dtype=kind, device=device) for m in (size, n))
    launch(_clear, cover(max(size, world), CLEAR), cells, counts, size, world, BLOCK=CLEAR)
    if n == 0:
        return
    pairs = ids, splits, columns, tables, salts
    unique, one = (unique_ids, unique_tables), len(salts) == 1
    slices = min(power_of_two(size // SLICE), MOST_SLICES)
    tiles = cover(n, BLOCK)
    launch(
        _claim, tiles * slices, *pairs, cells, counts, words, *unique, n, size, world,
        steps_for(columns), tiles, n.bit_length(), warps=WARPS, ONE=one,
        OWNERS=power_of_two(world) if world <= MOST_OWNERS else 0, SLICES=slices, BLOCK=BLOCK,
    )  # fmt: skip
    begins = None
    if world > 1:
        begins = torch.empty(world + 1, dtype=torch.int64, device=device)
        exclusive_sums(counts, begins)
    launch(
        _finish, cover(n, FINISH), *pairs, begins, words, *unique, inverse, n, world, ONE=one,
        BLOCK=FINISH,
    )  # fmt: skip
