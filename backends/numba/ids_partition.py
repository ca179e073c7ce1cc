"""Distinct pairs by partitioned hashing: buckets small enough for cache, each with its own table.

A bucket holds the pairs of one owner whose hash begins alike, in order of position; ranges place
their values by counting, then buckets are made distinct side by side. Values find their pair by
counting again, in order of position, so that nothing but placing writes at random. Nothing
depends on which thread did what, so neither does the order of the distinct pairs.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from torch import Tensor

from backends.numba.mixing import hash_pair
from backends.numba.search import last_not_above
from backends.numba.threads import cuts, inlined, kernel, run
from recis_core.mixing import SLICES, owner_of

# Values per bucket, more or less: their records and table stay in a core's own cache.
BUCKET = 4096
_SLICE, _TOP, _FOLD = np.uint64(SLICES - 1), np.uint64(40), np.uint64(20)


@lru_cache(maxsize=8)
def owners(world: int) -> np.ndarray:
    """Owner of each slice, int32 [SLICES]."""
    return owner_of(np.arange(SLICES, dtype=np.uint64), world).astype(np.int32)


@inlined
def bucket_of(hashed, owner, log2_parts):
    """Owner first, then the top bits of the hash, which ownership does not look at."""
    part = np.int64(hashed >> _TOP) >> (24 - log2_parts)
    if owner is None:
        return part
    return (np.int64(owner[np.int64(hashed & _SLICE)]) << log2_parts) + part


@kernel
def count(begin, end, bounds, ids, splits, tables, salts, owner, log2_parts, codes, counts):
    """The bucket of every value of ranges [begin, end), and how many of each range it gets."""
    for part in range(begin, end):
        own = counts[part]
        own[:] = 0
        at, stop = bounds[part], bounds[part + 1]
        column = last_not_above(splits, at)
        while at < stop:
            while splits[column + 1] <= at:
                column += 1
            salt = salts[tables[column]]
            last = min(stop, np.int64(splits[column + 1]))
            for i in range(at, last):
                bucket = bucket_of(hash_pair(salt, ids[i]), owner, log2_parts)
                codes[i] = bucket
                own[bucket] += 1
            at = last


@kernel
def begin_buckets(counts, starts):
    """Turn counts into the place of every range's first record in each bucket."""
    at = 0
    for bucket in range(counts.shape[1]):
        starts[bucket] = at
        for part in range(counts.shape[0]):
            own = counts[part, bucket]
            counts[part, bucket] = at
            at += own
    starts[counts.shape[1]] = at


@kernel
def place(begin, end, bounds, ids, splits, tables, codes, firsts, moved, moved_tables):
    """Move every pair into its bucket."""
    for part in range(begin, end):
        own = firsts[part].copy()
        at, stop = bounds[part], bounds[part + 1]
        column = last_not_above(splits, at)
        while at < stop:
            while splits[column + 1] <= at:
                column += 1
            table = tables[column]
            last = min(stop, np.int64(splits[column + 1]))
            for i in range(at, last):
                bucket = codes[i]
                to = own[bucket]
                own[bucket] = to + 1
                moved[to] = ids[i]
                moved_tables[to] = table
            at = last


@inlined
def cells_for(n):
    """A power of two, at least twice n."""
    size = 2
    while size < 2 * n:
        size *= 2
    return size


@kernel
def unite(begin, end, starts, salts, moved, moved_tables, local, found):
    """Make buckets [begin, end) distinct: found[bucket] counts its pairs, which are moved to its
    front; local[j] is which of them the bucket's value j is."""
    longest = 1
    for bucket in range(begin, end):
        longest = max(longest, starts[bucket + 1] - starts[bucket])
    cells = np.empty(cells_for(longest), np.int32)
    for bucket in range(begin, end):
        first = starts[bucket]
        n = starts[bucket + 1] - first
        size = cells_for(n)
        cells[:size] = 0
        distinct = 0
        for j in range(first, first + n):
            number, table = moved[j], moved_tables[j]
            cell = np.int64(hash_pair(salts[table], number) >> _FOLD) & (size - 1)
            while True:
                which = np.int64(cells[cell]) - 1
                if which < 0:
                    cells[cell] = distinct + 1
                    local[j] = distinct
                    moved[first + distinct] = number
                    moved_tables[first + distinct] = table
                    distinct += 1
                    break
                if moved[first + which] == number and moved_tables[first + which] == table:
                    local[j] = which
                    break
                cell = (cell + 1) & (size - 1)
        found[bucket] = distinct


@kernel
def hand_out(begin, end, starts, bases, moved, moved_tables, unique_ids, unique_tables):
    """Write the distinct pairs of buckets [begin, end) from bases[bucket] on."""
    for bucket in range(begin, end):
        first, to = starts[bucket], bases[bucket]
        for j in range(bases[bucket + 1] - to):
            unique_ids[to + j] = moved[first + j]
            unique_tables[to + j] = moved_tables[first + j]


@kernel
def invert(begin, end, bounds, codes, firsts, bases, local, inverse):
    """Which distinct pair the values of ranges [begin, end) are: they lie in their buckets in the
    order in which they were placed."""
    for part in range(begin, end):
        own = firsts[part].copy()
        for i in range(bounds[part], bounds[part + 1]):
            bucket = codes[i]
            at = own[bucket]
            own[bucket] = at + 1
            inverse[i] = bases[bucket] + local[at]


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
    n = len(ids)
    if n >= 1 << 30:
        raise ValueError(f"ids_partition of backend numba takes fewer than 2^30 ids, not {n}")
    # World times 2^log2_parts buckets of about BUCKET values.
    log2_parts = max(0, (n // (BUCKET * world)).bit_length())
    buckets = world << log2_parts
    bounds = np.array(cuts(n, 24 * n))
    ranges = [*range(len(bounds))]
    firsts = np.empty((len(bounds) - 1, buckets), np.int64)
    columns = (ids.numpy(), splits.numpy(), tables.numpy())
    hashes = salts.numpy()
    codes = np.empty(n, np.uint16 if buckets <= 1 << 16 else np.int32)
    run(
        count,
        ranges,
        bounds,
        *columns,
        hashes,
        owners(world) if world > 1 else None,
        log2_parts,
        codes,
        firsts,
    )
    starts = np.empty(buckets + 1, np.int64)
    begin_buckets(firsts, starts)
    moved, moved_tables = np.empty(n, np.int64), np.empty(n, unique_tables.numpy().dtype)
    run(place, ranges, bounds, *columns, codes, firsts, moved, moved_tables)
    local, found = np.empty(n, np.int32), np.empty(buckets, np.int64)
    # Buckets that together hold equal numbers of values.
    groups = np.searchsorted(starts, bounds).tolist()
    groups[-1] = buckets
    run(unite, groups, starts, hashes, moved, moved_tables, local, found)
    bases = np.append(0, np.cumsum(found))
    outputs = unique_ids.numpy(), unique_tables.numpy()
    run(hand_out, groups, starts, bases, moved, moved_tables, *outputs)
    run(invert, ranges, bounds, codes, firsts, bases, local, inverse.numpy())
    counts.numpy()[:] = found.reshape(world, -1).sum(1)
