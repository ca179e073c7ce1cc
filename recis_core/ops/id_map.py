"""Give every (table, id) pair a row: the collision-free dictionary in front of the blocks."""

from __future__ import annotations

import numpy as np

from recis_core import draw
from recis_core.rules import AtLeast
from recis_core.spec import Traffic, expect, machine, nbytes
from recis_core.types import Ids, Index, index_dtype


@machine()
class id_map:
    """A growing dictionary (table, id) -> row; every int64 id is legal; rows never move.

    `capacity`: pairs to make room for at once; `limit`: rows it may ever give out, which fixes
    the dtype of rows, `index_dtype(limit)`. Tables are int32 or int64 [n], >= 0 and < 2^31.
    New pairs take freed rows first, then the next rows never used, in any order.
    """

    def __init__(self, capacity: int, limit: int):
        self.limit = limit
        self.row_of = {}
        self.free = []
        self.extent = 0

    def find(self, tables: Index, ids: Ids):
        """rows [n], -1 where a pair is absent; missing [1] int64, how many are."""
        asked = zip(tables.tolist(), ids.tolist(), strict=True)
        rows = np.array([self.row_of.get(pair, -1) for pair in asked], self._dtype())
        return rows, np.array([(rows < 0).sum()])

    def insert(self, tables: Index, ids: Ids):
        """rows [n] of *distinct* pairs, new ones given a row; fresh [n] bool, which are new.

        OverflowError if that takes more than `limit` rows; the map is then as it was.
        """
        pairs = list(zip(tables.tolist(), ids.tolist(), strict=True))
        fresh = np.array([pair not in self.row_of for pair in pairs], bool)
        if len(self.row_of) + fresh.sum() > self.limit:
            raise OverflowError(f"id_map is limited to {self.limit} rows")
        for pair, new in zip(pairs, fresh, strict=True):
            if new:
                self.row_of[pair] = self.free.pop() if self.free else self.extent
                self.extent = max(self.extent, self.row_of[pair] + 1)
        return np.array([self.row_of[pair] for pair in pairs], self._dtype()), fresh

    def erase(self, tables: Index, ids: Ids):
        """rows [n] that the *distinct* pairs had and no longer have, -1 where one was absent."""
        pairs = zip(tables.tolist(), ids.tolist(), strict=True)
        rows = np.array([self.row_of.pop(pair, -1) for pair in pairs], self._dtype())
        self.free += rows[rows >= 0].tolist()
        return rows

    def items(self):
        """Every pair: tables [m] int32, ids [m], rows [m]; the order is free."""
        pairs = np.array([*self.row_of], np.int64).reshape(-1, 2)
        rows = np.array([*self.row_of.values()], self._dtype())
        return pairs[:, 0].astype(np.int32), pairs[:, 1], rows

    def __len__(self):
        """How many pairs it holds."""
        return len(self.row_of)

    def _dtype(self):
        return index_dtype(self.limit)


# Beside these methods an implementation has the attribute `extent`: one more than the largest row
# ever given out, so how many rows blocks must hold.


@id_map.inputs(
    test=[
        dict(n=0, vocab=9, tables=1, skew=0.0, last="insert"),
        dict(n=1, vocab=9, tables=1, skew=0.0, last="find"),
        dict(n=300, vocab=200, tables=3, skew=1.0, last="find"),
        dict(n=300, vocab=10**6, tables=2, skew=0.0, last="insert"),
        dict(n=300, vocab=500, tables=2, skew=0.5, last="erase"),
        dict(n=60, vocab=10**6, tables=2, skew=0.0, last="insert", limit=90),
        dict(n=60, vocab=10**6, tables=1, skew=0.0, last="find", limit=1 << 40),
        dict(n=200, vocab=400, tables=4, skew=0.5, last="erase"),
        dict(n=200, vocab=400, tables=4, skew=0.5, last="items"),
    ],
    bench=[
        dict(n=1 << 20, vocab=1 << 22, tables=4, skew=0.0, last="find"),
        dict(n=1 << 20, vocab=1 << 30, tables=4, skew=0.0, last="insert"),
    ],
)
def _(rng, n, vocab, tables, skew, last, limit=None):
    def pairs():
        ids = draw.ids(rng, n, vocab, skew)
        if n > 1:
            at = rng.integers(0, n, min(n, 12))
            ids[at] = rng.choice(draw.HOSTILE_IDS, len(at))
        ids = rng.permutation(np.unique(ids)) if n >= 1 << 16 else ids
        both = np.stack([rng.integers(0, tables, len(ids)), ids], 1)
        if n < 1 << 16:
            both = rng.permutation(np.unique(both, axis=0))
        return both[:, 0], both[:, 1]

    first, second, third = pairs(), pairs(), pairs()
    half = tuple(part[: len(part) // 2] for part in first)
    trace = [("insert", *first), ("find", *second), ("erase", *half), ("insert", *second)]
    trace += [("erase", *third), ("insert", *first), ("items",), ("find", *first)]
    if n >= 1 << 16:
        # At bench size only what the last step needs: a full map, or an empty one.
        trace = [("insert", *first)] if last == "find" else []
        third = first
    return dict(
        capacity=n if n >= 1 << 16 else max(n // 8, 1),
        limit=limit or 4 * n + 8,
        trace=[*trace, (last, *(third if last != "items" else ()))],
    )


@id_map.up_to
def _(args, steps):
    """Which row a pair gets is free. Fixed: rows lie below the most pairs ever held at once, no
    two pairs share one, a pair keeps its own, and an insertion is refused only past the limit."""
    row_of, peak, seen = {}, 0, []
    for step in steps:
        if step.method == "items":
            tables, ids, rows = step.outputs
            got = dict(
                zip(zip(tables.tolist(), ids.tolist(), strict=True), rows.tolist(), strict=True)
            )
            expect(len(rows) == len(row_of) and got == row_of, "items are not what was inserted")
            continue
        tables, ids = step.args
        pairs = list(zip(tables.tolist(), ids.tolist(), strict=True))
        if not step.outputs:
            fits = step.method != "insert" or len(row_of.keys() | set(pairs)) <= args["limit"]
            expect(not fits, f"{step.method} of {len(pairs)} pairs was refused")
            continue
        rows = step.outputs[0].tolist()
        if step.method == "insert":
            live = set(row_of.values())
            for pair, row, fresh in zip(pairs, rows, step.outputs[1].tolist(), strict=True):
                expect(fresh == (pair not in row_of), f"pair {pair} is flagged fresh={fresh}")
                expect(row_of.get(pair, row) == row, f"the row of {pair} moved to {row}")
                if fresh:
                    expect(row not in live, f"row {row} given to {pair} belongs to another pair")
                    live.add(row)
                row_of[pair] = row
            peak = max(peak, len(row_of))
            expect(all(0 <= r < peak for r in rows), f"a row outside [0, {peak}) was given")
            seen.append(step.outputs[1])
        else:
            right = [row_of.get(pair, -1) for pair in pairs]
            expect(rows == right, f"{step.method} returned rows that the pairs do not have")
            if step.method == "find":
                seen.append(step.outputs[1])
            else:
                for pair in pairs:
                    row_of.pop(pair, None)
    return tuple(seen)


@id_map.moves
def _(method, arguments, limit):
    """Pairs asked for, a 16-byte cell of each, and the answers; a new pair's cell is written."""
    width = 4 if index_dtype(limit) == "int32" else 8
    n = len(arguments[1]) if arguments else 0
    answer = {"find": width * n + 8, "insert": (width + 1) * n, "erase": width * n, "items": 0}[
        method
    ]
    cells = 16 * n
    written = answer + (0 if method == "find" else cells)
    read = nbytes(*arguments) + cells
    return Traffic(read, written, requested=read + written)


id_map.requires(AtLeast("capacity", 0), AtLeast("limit", 0))
