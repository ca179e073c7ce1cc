"""Distinct pairs by partitioned hashing: buckets small enough for cache, each with its own table.

A bucket holds the pairs of one owner whose hash begins alike, in order of position; ranges place
their values by counting, then buckets are made distinct side by side. Nothing depends on which
thread did what, so neither does the order of the distinct pairs.
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
FIRST = 1 << 30
_SLICE, _TOP, _FOLD = np.uint64(SLICES - 1), np.uint64(40), np.uint64(20)


@lru_cache(maxsize=8)
def owners(world: int) -> np.ndarray:
    """Owner of each slice, int32 [SLICES]."""
    return owner_of(np.arange(SLICES, dtype=np.uint64), world).astype(np.int32)


@inlined
def bucket_of(hashed, owner, log2_parts):
    """Owner first, then the top bits of the hash, which ownership does not look at."""
    part = np.int64(hashed >> _TOP) >> (24 - log2_parts)
    return (np.int64(owner[np.int64(hashed & _SLICE)]) << log2_parts) + part


@kernel
def count(begin, end, bounds, ids, splits, tables, salts, owner, log2_parts, counts):
    """How many values of ranges [begin, end) fall into each bucket."""
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
                own[bucket_of(hash_pair(salt, ids[i]), owner, log2_parts)] += 1
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
def place(begin, end, bounds, ids, splits, tables, salts, owner, log2_parts, counts, records):
    """Write the record (id, table << 32 | position) of every value into its bucket."""
    for part in range(begin, end):
        own = counts[part]
        at, stop = bounds[part], bounds[part + 1]
        column = last_not_above(splits, at)
        while at < stop:
            while splits[column + 1] <= at:
                column += 1
            table = np.int64(tables[column])
            salt = salts[table]
            last = min(stop, np.int64(splits[column + 1]))
            for i in range(at, last):
                bucket = bucket_of(hash_pair(salt, ids[i]), owner, log2_parts)
                to = own[bucket]
                own[bucket] = to + 1
                records[to, 0] = ids[i]
                records[to, 1] = table << 32 | i
            at = last


@inlined
def cells_for(n):
    """A power of two, at least twice n."""
    size = 2
    while size < 2 * n:
        size *= 2
    return size


@kernel
def unite(begin, end, starts, salts, records, local, found):
    """Make buckets [begin, end) distinct: found[bucket] counts its pairs; local[j] is which of
    them record j is, with FIRST added where it is the first to name it."""
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
        for j in range(n):
            number, table = records[first + j, 0], records[first + j, 1] >> 32
            cell = np.int64(hash_pair(salts[table], number) >> _FOLD) & (size - 1)
            while True:
                seen = first + cells[cell] - 1
                if seen < first:
                    cells[cell] = j + 1
                    local[first + j] = distinct + FIRST
                    distinct += 1
                    break
                if records[seen, 0] == number and records[seen, 1] >> 32 == table:
                    local[first + j] = local[seen] - FIRST
                    break
                cell = (cell + 1) & (size - 1)
        found[bucket] = distinct


@kernel
def hand_out(begin, end, starts, bases, records, local, unique_ids, unique_tables, inverse):
    """Write the distinct pairs of buckets [begin, end) from bases[bucket] on, and the inverse."""
    for bucket in range(begin, end):
        base = bases[bucket]
        for j in range(starts[bucket], starts[bucket + 1]):
            which = np.int64(local[j])
            if which >= FIRST:
                which -= FIRST
                unique_ids[base + which] = records[j, 0]
                unique_tables[base + which] = records[j, 1] >> 32
            inverse[records[j, 1] & 0xFFFFFFFF] = base + which


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
    places = np.empty((len(bounds) - 1, buckets), np.int64)
    columns = (ids.numpy(), splits.numpy(), tables.numpy(), salts.numpy())
    run(count, ranges, bounds, *columns, owners(world), log2_parts, places)
    starts = np.empty(buckets + 1, np.int64)
    begin_buckets(places, starts)
    records, local = np.empty((n, 2), np.int64), np.empty(n, np.int32)
    run(place, ranges, bounds, *columns, owners(world), log2_parts, places, records)
    found = np.empty(buckets, np.int64)
    # Buckets that together hold equal numbers of values.
    groups = np.searchsorted(starts, bounds).tolist()
    groups[-1] = buckets
    run(unite, groups, starts, columns[3], records, local, found)
    bases = np.cumsum(found) - found
    outputs = (unique_ids.numpy(), unique_tables.numpy(), inverse.numpy())
    run(hand_out, groups, starts, bases, records, local, *outputs)
    counts.numpy()[:] = found.reshape(world, -1).sum(1)
