"""ids_partition: one hash table of positions finds each pair's first claimant, then numbers them.

A cell has the position of the value that took it, plus one, below some bits of the hash, so only
likely equals are compared; a cell once taken never changes, so an old view of it can be wrong about
an empty one only. Claimants are numbered where they claim: their order inside an owner's run varies
from call to call.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from backends.triton.launch import INTERPRETED, cover, launch, power_of_two
from backends.triton.mixing import owner_of, pair_hash
from backends.triton.scan import exclusive_sums
from backends.triton.search import column_of, columns_of, steps_for
from backends.triton.swap import take
from backends.triton.tiles import load_tile, store_tile

# Cells for each value. At most as many values as leave a cell of 32 bits some bits of the hash, and
# a word of 32 bits some for the owner: no more than so many owners are counted by a program.
ROOM, NARROW, MOST_OWNERS = 2, 1 << 26, 32
CLEAR, FINISH = 4096, 2048 if INTERPRETED else 1024


class Shape(NamedTuple):
    """Values of a program that claims, and its warps: few, as one that probes for long holds up
    the others, and fewer where they are counted by owner."""

    block: int
    warps: int


ONE_OWNER, MORE_OWNERS = (Shape(2048, 4),) * 2 if INTERPRETED else (Shape(256, 2), Shape(64, 1))


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


@triton.jit(do_not_specialize=["columns", "n", "size", "world", "steps", "bits"])
def _claim(
    ids, splits, columns, tables, salts, cells, counts, words, unique_ids, unique_tables,
    n, size, world, steps, bits,
    ONE: tl.constexpr, OWNERS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """words[i]: the position of the value that claimed the pair of value i, where it is another;
    where it is i, the sign bit, the owner and i's number within it."""
    kind: tl.constexpr = cells.dtype.element_ty
    begin = tl.program_id(0).to(kind) * BLOCK
    i = begin + tl.arange(0, BLOCK)
    id_, table, hashed = _hashes(ids, splits, columns, tables, salts, begin, n, ONE, BLOCK)
    at = ((hashed >> 32) * size.to(tl.uint64) >> 32).to(kind)
    value = (hashed.to(kind) >> bits << bits) | (i + 1)
    low = (tl.full([], 1, kind) << bits) - 1
    word = i
    active = i < n
    won = active & (i < 0)
    while tl.max(active.to(tl.int32)) > 0:
        seen = tl.load(cells + at, mask=active, other=0)
        empty = active & (seen == 0)
        held = take(cells + at, value, empty)
        took = empty & (held == 0)
        won |= took
        active &= took == 0
        seen = tl.where(empty, held, seen)
        likely = active & (((seen ^ value) >> bits) == 0)
        other = (seen & low) - 1
        same = likely & (tl.load(ids + other, mask=likely, other=0) == id_)
        if not ONE:
            of = column_of(splits, columns, other, same, steps)
            same &= tl.load(tables + of, mask=same, other=0) == table
        word = tl.where(same, other, word)
        active &= same == 0
        at = tl.where(at + 1 >= size, 0, at + 1)
    owner = table * 0
    if OWNERS != 1:
        owner = owner_of(hashed, world)
    number = _numbered(counts, owner, won, world, OWNERS).to(kind)
    if OWNERS == 1:
        tl.store(unique_ids + number, id_, mask=won)
        tl.store(unique_tables + number, table, mask=won)
    sign: tl.constexpr = -(1 << (kind.primitive_bitwidth - 1))
    # Bits of a word for the number; the owner is above them.
    shift: tl.constexpr = 26 if kind.primitive_bitwidth == 32 else 40
    number |= (owner.to(kind) << shift) | sign
    store_tile(words, begin, n, tl.where(won, number, word), BLOCK)


@triton.jit(do_not_specialize=["columns", "n", "world"])
def _finish(
    ids, splits, columns, tables, counts, begins, words, unique_ids, unique_tables, inverse,
    n, world,
    ONE: tl.constexpr, OWNERS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Where there are several owners, numbers count on from where the owner's run begins, which is
    in `begins` if they are very many, and the pairs are yet to write."""
    kind: tl.constexpr = words.dtype.element_ty
    shift: tl.constexpr = 26 if kind.primitive_bitwidth == 32 else 40
    begin = tl.program_id(0).to(kind) * BLOCK
    word = load_tile(words, begin, n, BLOCK)
    own = word < 0
    word = tl.where(own, word, tl.load(words + word, mask=own == 0, other=0))
    number = word & ((1 << shift) - 1)
    if OWNERS != 1:
        owner = (word >> shift) & ((1 << (kind.primitive_bitwidth - 1 - shift)) - 1)
        if OWNERS == 0:
            number += tl.load(begins + owner).to(kind)
        else:
            w = tl.arange(0, OWNERS)
            count = tl.load(counts + w, mask=w < world, other=0).to(kind)
            number += tl.gather(tl.cumsum(count) - count, owner.to(tl.int32), 0)
        i = begin + tl.arange(0, BLOCK)
        table = tl.zeros([BLOCK], tl.int32)
        if not ONE:
            column = columns_of(splits, columns, begin, tl.minimum(begin + BLOCK, n), i)
            table = tl.load(tables + column).to(tl.int32)
        tl.store(unique_ids + number, tl.load(ids + i, mask=own), mask=own)
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
    n, columns, device, many = len(ids), len(tables), ids.device, world > MOST_OWNERS
    kind = torch.int64 if many or n > NARROW else torch.int32
    size = ROOM * n
    cells, words = (torch.empty(m, dtype=kind, device=device) for m in (size, n))
    launch(_clear, cover(max(size, world), CLEAR), cells, counts, size, world, BLOCK=CLEAR)
    pairs, unique = (ids, splits, columns, tables), (unique_ids, unique_tables)
    shape = dict(ONE=len(salts) == 1, OWNERS=0 if many else power_of_two(world))
    block, warps = ONE_OWNER if world == 1 else MORE_OWNERS
    launch(
        _claim, cover(n, block), *pairs, salts, cells, counts, words, *unique, n, size, world,
        steps_for(columns), n.bit_length(), warps=warps, **shape, BLOCK=block,
    )  # fmt: skip
    begins = None
    if many:
        begins = torch.empty(world + 1, dtype=torch.int64, device=device)
        exclusive_sums(counts, begins)
    launch(
        _finish, cover(n, FINISH), *pairs, counts, begins, words, *unique, inverse, n, world,
        **shape, BLOCK=FINISH,
    )  # fmt: skip
