"""Checking an id map on traces of millions of pairs: a ledger in arrays, where the reference is a
dictionary that takes minutes.

All pairs of a trace are numbered once by sorting; a map is then an array from number to row.
What is demanded is what the declaration demands, and small traces must get the same verdict.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from recis_core.spec import Step
from recis_core.tolerance import Disagreement
from recis_core.types import index_dtype


def expect(holds: Any, said: str) -> None:
    if not holds:
        raise Disagreement(said)


def numbered(steps: Sequence[Step]) -> list[np.ndarray]:
    """Which of the trace's distinct pairs, in ascending order, each pair of each step is."""
    # What `items` lists are pairs too, perhaps some that nobody inserted.
    pairs = [s.outputs[:2] if s.method == "items" else s.args for s in steps]
    tables = np.concatenate([np.zeros(0, np.int64), *(t.astype(np.int64) for t, _ in pairs)])
    ids = np.concatenate([np.zeros(0, np.int64), *(i for _, i in pairs)])
    order = np.lexsort((ids, tables))
    tables, ids = tables[order], ids[order]
    new = np.ones(len(order), bool)
    new[1:] = (tables[1:] != tables[:-1]) | (ids[1:] != ids[:-1])
    number = np.empty(len(order), np.int64)
    number[order] = np.cumsum(new) - 1
    ends = np.cumsum([len(i) for _, i in pairs])
    return np.split(number, ends[:-1])


class Ledger:
    """The row of every numbered pair, -1 where it has none."""

    def __init__(self, pairs: int, limit: int) -> None:
        self.limit, self.dtype = limit, np.dtype(index_dtype(limit))
        self.row_of = np.full(pairs, -1, np.int64)
        self.held = self.peak = self.extent = 0

    def insert(self, pairs: np.ndarray, outputs: Sequence[np.ndarray]) -> None:
        known = self.row_of[pairs]
        new = known < 0
        if self.held + int(new.sum()) > self.limit:
            expect(not outputs, f"more than {self.limit} rows were given out")
            return
        rows, fresh = self._typed("insert", outputs, (len(pairs),) * 2, (self.dtype, bool))
        expect((fresh == new).all(), "a pair is flagged fresh that is not, or the other way round")
        expect((rows[~new] == known[~new]).all(), "the row of a held pair moved")
        self.row_of[pairs] = rows
        self.held += int(new.sum())
        self.peak = max(self.peak, self.held)
        expect(((rows >= 0) & (rows < self.peak)).all(), f"a row outside [0, {self.peak}) is given")
        live = np.bincount(self.row_of[self.row_of >= 0], minlength=self.peak)
        expect((live <= 1).all(), "two pairs share a row")
        self.extent = max(self.extent, int(rows.max(initial=-1)) + 1)

    def find(self, pairs: np.ndarray, outputs: Sequence[np.ndarray]) -> None:
        rows, missing = self._typed("find", outputs, (len(pairs), 1), (self.dtype, np.int64))
        expect((rows == self.row_of[pairs]).all(), "find returned rows the pairs do not have")
        expect(missing[0] == (self.row_of[pairs] < 0).sum(), "find counted the missing wrongly")

    def erase(self, pairs: np.ndarray, outputs: Sequence[np.ndarray]) -> None:
        (rows,) = self._typed("erase", outputs, (len(pairs),), (self.dtype,))
        expect((rows == self.row_of[pairs]).all(), "erase returned rows the pairs do not have")
        self.row_of[pairs] = -1
        self.held -= int((rows >= 0).sum())

    def items(self, pairs: np.ndarray, outputs: Sequence[np.ndarray]) -> None:
        types = (np.int32, np.int64, self.dtype)
        *_, rows = self._typed("items", outputs, (self.held,) * 3, types)
        # As many as are held, no pair twice, each with its row.
        expect(len(np.unique(pairs)) == len(pairs), "items list a pair twice")
        expect((rows == self.row_of[pairs]).all(), "items are not what was inserted")

    def _typed(
        self, method: str, outputs: Sequence[np.ndarray], lengths: Sequence[int], types: Any
    ) -> Sequence[np.ndarray]:
        """The outputs, each a vector of its length and type."""
        got = [(o.dtype, o.shape) for o in outputs]
        want = [(np.dtype(t), (n,)) for t, n in zip(types, lengths, strict=True)]
        expect(got == want, f"{method} returned {got}, expected {want} (a refusal returns nothing)")
        return outputs


# How many pairs are tried beyond the timed trace, where that is long.
PROBES = 1 << 16


def continued(trace: Sequence[Sequence[Any]]) -> list[Sequence[Any]]:
    """`trace`, and what a trace of one or two long steps leaves untried: pairs that are absent,
    erased, inserted into freed rows, and a list of all. At most 2 PROBES rows more are held."""
    tables, ids = next(step[1:] for step in reversed(trace) if step[1:])
    known = tables[-PROBES:], ids[-PROBES:]
    other = known[0], known[1] ^ (1 << 60)
    half = tuple(part[::2] for part in known)
    steps = [("find", *other), ("erase", *half), ("find", *known), ("insert", *other)]
    steps += [("insert", *known), ("erase", *other), ("find", *other), ("items",)]
    return [*trace, *steps, ("find", *known), ("erase", *known)]


def check_steps(state: Any, limit: int, steps: Sequence[Step]) -> None:
    """Raise Disagreement unless what `state`, an id map of `limit` rows, answered in `steps` is
    what the declaration of `id_map` allows, and its `len` and `extent` are right afterwards."""
    pairs = numbered(steps)
    ledger = Ledger(max((int(p.max(initial=-1)) for p in pairs), default=-1) + 1, limit)
    for step, own in zip(steps, pairs, strict=True):
        entry: Callable[..., None] = getattr(ledger, step.method)
        entry(own, step.outputs)
    expect(len(state) == ledger.held, f"len is {len(state)}, but {ledger.held} pairs are held")
    expect(
        state.extent == ledger.extent,
        f"extent is {state.extent}, but the rows given out end at {ledger.extent}",
    )
