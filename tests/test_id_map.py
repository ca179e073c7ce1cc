"""`id_map` of every backend, driven by Hypothesis against a dict."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from backends import Backend, shipped
from backends.boundary import bind_machine
from recis_core.kernels import find_op
from recis_core.types import index_dtype

pytestmark = pytest.mark.usefixtures("one_torch_thread")

OP = find_op("id_map")
BACKENDS = [b for b in shipped() if b.absent() is None]
HOSTILE = st.sampled_from(
    [-(2**63), -(2**63) + 1, 2**63 - 1, -1, -2, 0, 1, 5, 5 + 2**52, 5 - 2**63, 2**52, 2**32, 2**31]
)
IDS = st.one_of(HOSTILE, st.integers(-(2**63), 2**63 - 1), st.integers(-40, 40))
TABLES = st.one_of(st.integers(0, 3), st.sampled_from([2**31 - 1, 77]))
Pair = tuple[int, int]
PAIRS = st.lists(st.tuples(TABLES, IDS), max_size=40)
DISTINCT = st.lists(st.tuples(TABLES, IDS), max_size=40, unique=True)


def arrays(pairs: list[Pair], dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    tables = torch.tensor([t for t, _ in pairs], dtype=dtype)
    return tables, torch.tensor([i for _, i in pairs], dtype=torch.int64)


class MapMachine(RuleBasedStateMachine):
    make: Any = None

    @initialize(
        capacity=st.sampled_from([0, 1, 2, 100]),
        limit=st.sampled_from([0, 1, 7, 64, 10_000, 2**31 - 1, 2**31, 2**40]),
        dtype=st.sampled_from([torch.int32, torch.int64]),
    )
    def begin(self, capacity: int, limit: int, dtype: torch.dtype) -> None:
        self.map = type(self).make(capacity, limit)
        self.limit, self.dtype = limit, dtype
        self.row_of: dict[Pair, int] = {}
        self.peak = self.extent = 0

    def rows(self, got: torch.Tensor, pairs: list[Pair]) -> list[int]:
        assert got.dtype == getattr(torch, index_dtype(self.limit))
        assert got.shape == (len(pairs),)
        return got.tolist()

    @rule(pairs=DISTINCT, known=st.data())
    def insert(self, pairs: list[Pair], known: Any) -> None:
        held = [p for p in self.row_of if p not in pairs]
        if held:
            pairs = pairs + known.draw(st.lists(st.sampled_from(held), max_size=5, unique=True))
        fresh = [pair not in self.row_of for pair in pairs]
        if len(self.row_of) + sum(fresh) > self.limit:
            with pytest.raises(OverflowError, match=str(self.limit)):
                self.map.insert(*arrays(pairs, self.dtype))
            return
        got, flags = self.map.insert(*arrays(pairs, self.dtype))
        assert flags.dtype == torch.bool
        assert flags.tolist() == fresh
        before = dict(self.row_of)
        self.row_of.update(zip(pairs, self.rows(got, pairs), strict=True))
        assert all(self.row_of[pair] == row for pair, row in before.items())
        assert len(set(self.row_of.values())) == len(self.row_of)
        self.peak = max(self.peak, len(self.row_of))
        assert all(0 <= row < self.peak for row in self.row_of.values())
        self.extent = max([self.extent, *(row + 1 for row in self.row_of.values())])

    @rule(pairs=PAIRS, known=st.data())
    def find(self, pairs: list[Pair], known: Any) -> None:
        if self.row_of:
            pairs = pairs + known.draw(st.lists(st.sampled_from(list(self.row_of)), max_size=9))
        got, missing = self.map.find(*arrays(pairs, self.dtype))
        right = [self.row_of.get(pair, -1) for pair in pairs]
        assert self.rows(got, pairs) == right
        assert missing.dtype == torch.int64
        assert missing.tolist() == [right.count(-1)]

    @precondition(lambda self: self.row_of)
    @rule(pairs=DISTINCT, known=st.data())
    def erase(self, pairs: list[Pair], known: Any) -> None:
        held = [p for p in self.row_of if p not in pairs]
        if held:
            pairs = pairs + known.draw(st.lists(st.sampled_from(held), max_size=20, unique=True))
        got = self.map.erase(*arrays(pairs, self.dtype))
        assert self.rows(got, pairs) == [self.row_of.pop(pair, -1) for pair in pairs]

    @rule()
    def items(self) -> None:
        tables, ids, rows = self.map.items()
        assert (tables.dtype, ids.dtype) == (torch.int32, torch.int64)
        pairs = list(zip(tables.tolist(), ids.tolist(), strict=True))
        assert len(pairs) == len(self.row_of)
        assert dict(zip(pairs, self.rows(rows, pairs), strict=True)) == self.row_of

    @invariant()
    def counts(self) -> None:
        if hasattr(self, "map"):
            assert len(self.map) == len(self.row_of)
            assert self.map.extent == self.extent


@pytest.mark.parametrize("backend", BACKENDS, ids=lambda b: b.name)
def test_against_a_dict(backend: Backend) -> None:
    make = backend.implementation(OP)
    if make is None:
        pytest.fail(f"backend {backend.name!r} has no id_map")
    driven = type("Driven", (MapMachine,), {})
    driven.make = staticmethod(bind_machine(OP, make, backend.name, "cpu", True))
    driven.make(1, 10).insert(*arrays([(0, 1)], torch.int32))
    run_state_machine_as_test(driven, settings=settings(max_examples=40, stateful_step_count=20))


@pytest.mark.parametrize("backend", BACKENDS, ids=lambda b: b.name)
def test_grows_from_one_to_many(backend: Backend) -> None:
    """20,000 pairs in uneven batches; every row survives every growth, and erasure frees rows."""
    make = backend.implementation(OP)
    assert make is not None
    table = bind_machine(OP, make, backend.name, "cpu", False)(1, 1 << 20)
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(-(2**63), 2**63 - 1, (20_000,), generator=generator)
    tables = torch.randint(0, 5, (len(ids),), generator=generator, dtype=torch.int32)
    at, size, rows = 0, 1, []
    while at < len(ids):
        part = slice(at, at + size)
        rows.append(table.insert(tables[part], ids[part])[0])
        at, size = at + size, size * 3
    given = torch.cat(rows)
    assert torch.equal(table.find(tables, ids)[0], given)
    assert sorted(given.tolist()) == list(range(len(ids)))
    assert torch.equal(table.erase(tables[::2].contiguous(), ids[::2].contiguous()), given[::2])
    assert int(table.find(tables, ids)[1]) == len(ids) // 2
    again = table.insert(tables[::2].contiguous(), ids[::2].contiguous() ^ 1)[0]
    assert sorted(again.tolist()) == sorted(given[::2].tolist())
    assert table.extent == len(ids) == len(table)
