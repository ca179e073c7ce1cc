"""Deduplicate (table, id) pairs and group them by the rank that owns them: before a lookup."""

from __future__ import annotations

import numpy as np

from recis_core import draw
from recis_core.mixing import owner_of, pair_hash, table_salt
from recis_core.rules import AtLeast, Dims, Length, Offsets, Within
from recis_core.spec import Out, Traffic, expect, nbytes, op
from recis_core.types import Ids, Index, index_dtype


@op()
def ids_partition(ids: Ids, splits: Index, tables: Index, salts: Ids, world: int):
    """Distinct pairs, owner by owner, and which of them each value is.

    ids [n], column after column; column f is ids[splits[f]:splits[f+1]] and belongs to table
    tables[f]; salts [T] are the tables' `table_salt`. A pair's owner is
    `owner_of(pair_hash(salt, id), world)`.
    -> unique_ids [U], unique_tables [U] (padded to n), counts [world] pairs of each owner,
    inverse [n] with unique[inverse[i]] = pair i. Order inside an owner's run is free.
    """
    table = np.repeat(tables, np.diff(splits))
    pairs = np.stack([table, ids], 1)
    unique, inverse = np.unique(pairs, axis=0, return_inverse=True)
    owner = owner_of(pair_hash(salts[unique[:, 0]], unique[:, 1]), world)
    order = np.argsort(owner, kind="stable")
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    counts = np.bincount(owner, minlength=world)
    return unique[order, 1], unique[order, 0], counts, place[inverse.reshape(-1)]


@ids_partition.inputs(
    test=[
        dict(n=0, columns=1, tables=1, vocab=10, skew=1.0, world=2),
        dict(n=1, columns=1, tables=1, vocab=10, skew=1.0, world=1),
        dict(n=20, columns=2, tables=2, vocab=10**12, skew=0.0, world=5),
        dict(n=500, columns=3, tables=2, vocab=1, skew=0.0, world=3),
        dict(n=999, columns=4, tables=3, vocab=500, skew=1.0, world=3),
        dict(n=1000, columns=5, tables=5, vocab=10**6, skew=0.0, world=8),
        dict(n=600, columns=2, tables=2, vocab=100, skew=1.05, world=1),
    ],
    bench=[
        dict(n=1 << 20, columns=16, tables=8, vocab=10**8, skew=1.05, world=1),
        dict(n=1 << 20, columns=16, tables=8, vocab=10**8, skew=0.0, world=1),
        dict(n=1 << 20, columns=16, tables=8, vocab=10**8, skew=1.05, world=8),
    ],
)
def _(rng, n, columns, tables, vocab, skew, world):
    ids = draw.ids(rng, n, vocab, skew)
    hostile = rng.random(n) < 0.05
    if vocab > 1:
        ids[hostile] = rng.choice(draw.HOSTILE_IDS, hostile.sum())
    return dict(
        ids=ids,
        splits=draw.splits(n, columns),
        tables=np.arange(columns) % tables,
        salts=np.array([table_salt(f"table {t}") for t in range(tables)]),
        world=world,
    )


@ids_partition.outputs
def _(ids, splits, tables, salts, world):
    n = len(ids)
    return (
        Out("unique_ids", (n,), "int64", valid="counts"),
        Out("unique_tables", (n,), "int32", valid="counts"),
        Out("counts", (world,), "int64"),
        Out("inverse", (n,), index_dtype(n)),
    )


@ids_partition.up_to
def _(args, outputs):
    """Order inside a shard is free: sort each shard by (table, id) and renumber."""
    ids, tables, counts, inverse = outputs
    n, total = len(args["ids"]), len(ids)
    expect(counts.sum() == total, f"counts sum to {counts.sum()}, but {total} pairs came")
    expect(((inverse >= 0) & (inverse < max(total, 1))).all(), "inverse out of bounds")
    expect(len(inverse) == n and (n == 0 or inverse.max() == total - 1), "a pair no value has")
    shard = np.repeat(np.arange(len(counts)), counts)
    order = np.lexsort((ids, tables, shard))
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    return ids[order], tables[order], counts, place[inverse] if n else inverse


@ids_partition.moves
def _(ids, splits, tables, salts, world):
    """Ids once, 12 bytes per distinct pair and the inverse written."""
    n = len(ids)
    width = 4 if index_dtype(n) == "int32" else 8
    unique = 0
    for table in tables.unique().tolist():
        columns = (tables == table).nonzero().flatten().tolist()
        parts = [ids[int(splits[f]) : int(splits[f + 1])] for f in columns]
        joined = parts[0].new_empty(sum(map(len, parts)))
        at = 0
        for part in parts:
            joined[at : at + len(part)] = part
            at += len(part)
        unique += len(joined.unique())
    read = nbytes(ids, splits, tables, salts)
    written = unique * 12 + world * 8 + n * width
    return Traffic(read, written, requested=read + written + n * 12)


ids_partition.requires(
    Dims(ids=1, splits=1, tables=1, salts=1),
    AtLeast("world", 1),
    Length("splits", lambda a: len(a["tables"]) + 1),
    Offsets("splits", lambda a: len(a["ids"])),
    Within("tables", lambda a: len(a["salts"])),
)
