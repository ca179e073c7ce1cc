"""Where the cells of each (owner, table) lie in the hash table of `ids_partition`.

A bin is owner · tables + table. Its region has ROOM cells for each of its values, so it never
fills, and one more; regions follow each other by bin, so cells in order are grouped by owner.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from backends.triton.fill import fill
from backends.triton.launch import WIDEN, cover, launch, power_of_two
from backends.triton.mixing import owner_of, pair_hash
from backends.triton.scan import exclusive_sums
from backends.triton.search import columns_of

LOWEST = -(1 << 63)
EMPTY = tl.constexpr(LOWEST)
ROOM = 2
TABLES, COLUMNS = 16, 128
BLOCK = 4096 * WIDEN
# More bins than this are counted by one atomic a value instead of a histogram a program.
MOST_BINS = 4096


@triton.jit(do_not_specialize=["columns", "count"])
def _by_columns(
    splits, tables, starts, columns, count,
    ROOM: tl.constexpr, TABLES: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """starts[t] of one owner, from the lengths of the columns."""
    t = tl.program_id(0).to(tl.int64) * TABLES + tl.arange(0, TABLES)
    before = tl.zeros([TABLES], tl.int64)
    for at in range(0, columns, COLUMNS):
        f = at + tl.arange(0, COLUMNS)
        inside = f < columns
        table = tl.load(tables + f, mask=inside, other=0).to(tl.int64)
        size = tl.load(splits + f + 1, mask=inside, other=0).to(tl.int64)
        size -= tl.load(splits + f, mask=inside, other=0).to(tl.int64)
        lower = table[None, :] < t[:, None]
        before += tl.sum(tl.where(lower, size[None, :], 0), 1)
    tl.store(starts + t, before * ROOM + t, mask=t <= count)


@triton.jit
def hashed_values(ids, splits, columns, tables, salts, n, i, begin, end):
    """Hash and table of the values i, which lie in [begin, end)."""
    column = columns_of(splits, columns, begin, end, i)
    table = tl.load(tables + column).to(tl.int64)
    return pair_hash(tl.load(salts + table), tl.load(ids + i, mask=i < n, other=0)), table


@triton.jit
def bin_of(hashed, table, world, tables):
    bin_ = table
    if world > 1:
        bin_ += owner_of(hashed, world).to(tl.int64) * tables
    return bin_


@triton.jit(do_not_specialize=["columns", "n", "world", "groups", "bins"])
def _by_owner(
    ids, splits, columns, tables, salts, counts, n, world, groups, bins,
    BINS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """counts[b] = values of bin b; BINS: a power of two, or 0 for an atomic a value."""
    begin = tl.program_id(0).to(tl.int64) * BLOCK
    i = begin + tl.arange(0, BLOCK)
    end = tl.minimum(begin + BLOCK, n)
    hashed, table = hashed_values(ids, splits, columns, tables, salts, n, i, begin, end)
    bin_ = bin_of(hashed, table, world, groups)
    if BINS == 0:
        tl.atomic_add(counts + bin_, tl.zeros_like(bin_) + 1, mask=i < n, sem="relaxed")
    else:
        found = tl.histogram(bin_.to(tl.int32), BINS, mask=i < n).to(tl.int64)
        b = tl.arange(0, BINS)
        tl.atomic_add(counts + b, found, mask=(b < bins) & (found > 0), sem="relaxed")


def regions(
    ids: Tensor, splits: Tensor, tables: Tensor, salts: Tensor, world: int
) -> tuple[Tensor, int]:
    """starts int64 [bins + 1]: first cell of each bin; and how many cells there are in all."""
    n, columns, groups, device = len(ids), len(tables), len(salts), ids.device
    bins = world * groups
    starts = torch.empty(bins + 1, dtype=torch.int64, device=device)
    if world == 1:
        launch(
            _by_columns, cover(groups + 1, TABLES), splits, tables, starts, columns, groups,
            ROOM=ROOM, TABLES=TABLES, COLUMNS=COLUMNS,
        )  # fmt: skip
    else:
        counts = torch.empty(bins, dtype=torch.int64, device=device)
        fill(counts, 0)
        wide = power_of_two(max(bins, 32)) if bins <= MOST_BINS else 0
        launch(
            _by_owner, cover(n, BLOCK), ids, splits, columns, tables, salts, counts, n, world,
            groups, bins, BINS=wide, BLOCK=BLOCK,
        )  # fmt: skip
        exclusive_sums(counts, starts, ROOM, 1)
    return starts, ROOM * n + bins
