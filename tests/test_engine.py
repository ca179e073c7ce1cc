"""The embedding engine against a plain torch model: leaves, gradients, accumulation."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from recis_core.data import Batch, Ragged
from recis_core.embedding import Embedding
from recis_core.kernels import Kernels
from recis_core.optim import AdamW, RowOptimizer, Sgd
from recis_core.schema import Feature, Initializer, Table
from recis_core.table import TableFullError
from tests.twin import (
    BACKENDS,
    VOCAB,
    Twin,
    first_weights,
    kernels_of,
    loss_of,
    ragged,
    rows_of,
    weights_of,
)

WIDE = Initializer("uniform", -1.0, 1.0)
A, B = Table("a", 4, WIDE), Table("b", 4, WIDE, rate=0.25)
C = Table("c", 7, Initializer("normal", 0.1, 0.5))
# Two tables of equal ids in one group, one table under several features and poolings, weights.
FEATURES = (
    Feature("sum", "x", A),
    Feature("same ids", "x", B),
    Feature("weighted", "y", A, weights="yw"),
    Feature("mean", "x", A, "mean"),
    Feature("weighted mean", "y", B, "mean", weights="yw"),
    Feature("tile", "y", A, "tile", 3),
    Feature("long tile", "x", C, "tile", 5),
    Feature("weighted tile", "y", C, "tile", 2, weights="yw"),
    Feature("other dim", "x", C),
)


@pytest.fixture(params=BACKENDS)
def kernels(request: pytest.FixtureRequest) -> Kernels:
    return kernels_of(request.param)


def batch_of(rng: np.random.Generator, rows: int = 9) -> Batch:
    x, y = ragged(rng, rows), ragged(rng, rows)
    return Batch({"x": x, "y": y, "yw": weights_of(rng, y)}, rows)


def table_weights(engine: Embedding, table: Table) -> dict[int, torch.Tensor]:
    """id -> weight of every row `table` has."""
    group = next(g for g in engine.groups if table in g.tables)
    tables, ids, rows = group.map.items()
    own = tables == group.tables.index(table)
    weights = engine.kernels.rows_gather(group.blocks, "weight", rows[own].contiguous())
    return dict(zip(ids[own].tolist(), weights, strict=True))


def test_leaves_equal_those_of_plain_torch(kernels: Kernels) -> None:
    rng = np.random.default_rng(0)
    engine = Embedding(FEATURES, kernels, Sgd(), seed=3, log2_rows=4)
    twin = Twin(FEATURES, lambda p, rate: torch.optim.SGD([p]), seed=3)
    for _ in range(3):
        batch = batch_of(rng)
        got, want = engine.lookup(batch, train=True), twin.leaves(batch)
        assert list(got) == [f.name for f in FEATURES]
        for name, leaf in got.items():
            assert leaf.requires_grad
            torch.testing.assert_close(leaf, want[name].float(), msg=lambda m, n=name: f"{n}: {m}")


def test_gradients_equal_autograd(kernels: Kernels) -> None:
    batch = batch_of(np.random.default_rng(1), rows=30)
    engine = Embedding(FEATURES, kernels, Sgd(), log2_rows=4)
    twin = Twin(FEATURES, lambda p, rate: torch.optim.SGD([p]))
    loss_of(engine.lookup(batch, train=True)).backward()
    loss_of(twin.leaves(batch)).backward()
    engine.accumulate()
    for group in engine.groups:
        held = engine.accumulated[group.name]
        number, ids, rows = group.map.items()
        where = dict(
            zip(rows.tolist(), zip(number.tolist(), ids.tolist(), strict=True), strict=True)
        )
        assert len(set(held.rows.tolist())) == len(held.rows) == group.rows
        for row, table, grad in zip(
            held.rows.tolist(), held.tables.tolist(), held.grad, strict=True
        ):
            assert where[row][0] == table
            at = int((where[row][1] == VOCAB).nonzero())
            full = twin.params[group.tables[table].name].grad
            assert full is not None
            torch.testing.assert_close(grad, full[at].float())


def test_norm_is_that_of_all_gradients(kernels: Kernels) -> None:
    batch = batch_of(np.random.default_rng(2))
    engine = Embedding(FEATURES, kernels, Sgd(), log2_rows=4)
    twin = Twin(FEATURES, lambda p, rate: torch.optim.SGD([p]))
    assert float(engine.gradient_norm()) == 0.0
    loss_of(engine.lookup(batch, train=True)).backward()
    loss_of(twin.leaves(batch)).backward()
    engine.accumulate()
    want = torch.nn.utils.get_total_norm(
        [p.grad for p in twin.params.values() if p.grad is not None]
    )
    assert engine.gradient_norm().dtype == torch.float64
    torch.testing.assert_close(engine.gradient_norm()[0], want, rtol=1e-5, atol=0)


def test_four_micro_batches_give_what_one_batch_gives(kernels: Kernels) -> None:
    rng = np.random.default_rng(3)
    one = Embedding(FEATURES, kernels, AdamW(), log2_rows=4)
    four = Embedding(FEATURES, kernels, AdamW(), log2_rows=4)
    optimizers = [RowOptimizer(e, AdamW(lr=0.05)) for e in (one, four)]
    for _ in range(4):
        batch = batch_of(rng, rows=12)
        loss_of(one.lookup(batch, train=True)).backward()
        one.accumulate()
        for begin in (0, 3, 6, 9):
            loss_of(four.lookup(rows_of(batch, begin, begin + 3), train=True)).backward()
            four.accumulate()
        torch.testing.assert_close(one.gradient_norm(), four.gradient_norm(), rtol=1e-5, atol=0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
    for table in (A, B, C):
        got, want = table_weights(four, table), table_weights(one, table)
        assert got.keys() == want.keys()
        for key, weight in want.items():
            torch.testing.assert_close(got[key], weight, rtol=1e-4, atol=1e-5)


def test_evaluation_inserts_nothing_and_gives_unknown_ids_zeros(kernels: Kernels) -> None:
    rng = np.random.default_rng(4)
    engine = Embedding(FEATURES, kernels, Sgd(), log2_rows=4)
    unknown = engine.lookup(batch_of(rng), train=False)
    assert engine.rows == 0
    assert engine.nbytes == 0
    for leaf in unknown.values():
        assert not leaf.requires_grad
        assert not leaf.any()
    batch = batch_of(rng)
    trained = engine.lookup(batch, train=True)
    rows = engine.rows
    for name, leaf in engine.lookup(batch, train=False).items():
        assert torch.equal(leaf, trained[name])
    engine.lookup(batch_of(rng, rows=40), train=False)
    assert engine.rows == rows


def test_known_and_unknown_ids_in_one_bag(kernels: Kernels) -> None:
    engine = Embedding([Feature("f", "x", A)], kernels, Sgd(), log2_rows=4)
    offsets = torch.tensor([0, 1], dtype=torch.int32)
    known = engine.lookup(Batch({"x": Ragged(torch.tensor([5]), offsets)}, 1), train=True)["f"]
    both = Ragged(torch.tensor([5, 6]), offsets * 2)
    torch.testing.assert_close(
        engine.lookup(Batch({"x": both}, 1), train=False)["f"], known.detach()
    )


@pytest.mark.parametrize("rows", [0, 1, 5])
def test_batches_without_any_id(kernels: Kernels, rows: int) -> None:
    nothing = Ragged(torch.empty(0, dtype=torch.int64), torch.zeros(rows + 1, dtype=torch.int32))
    none = Ragged(torch.empty(0), nothing.offsets)
    batch = Batch({"x": nothing, "y": nothing, "yw": none}, rows)
    engine = Embedding(FEATURES, kernels, AdamW(), log2_rows=4)
    optimizer = RowOptimizer(engine, AdamW())
    for train in (True, False):
        leaves = engine.lookup(batch, train)
        for f in FEATURES:
            shape = (rows, f.table.dim) if f.length is None else (rows, f.length, f.table.dim)
            assert leaves[f.name].shape == shape
            assert not leaves[f.name].any()
        if train:
            loss_of(leaves).backward()
            engine.accumulate()
            optimizer.step()
    assert engine.rows == 0


def test_absent_feature_beside_present_ones(kernels: Kernels) -> None:
    batch = batch_of(np.random.default_rng(5))
    empty = torch.zeros(batch.rows + 1, dtype=torch.int32)
    columns = {
        "y": Ragged(torch.empty(0, dtype=torch.int64), empty),
        "yw": Ragged(torch.empty(0), empty),
    }
    batch = Batch({**batch.columns, **columns}, batch.rows)
    engine = Embedding(FEATURES, kernels, Sgd(), log2_rows=4)
    twin = Twin(FEATURES, lambda p, rate: torch.optim.SGD([p]))
    got, want = engine.lookup(batch, train=True), twin.leaves(batch)
    for name, leaf in got.items():
        torch.testing.assert_close(leaf, want[name].float())
    loss_of(got).backward()
    engine.accumulate()


def test_a_single_id_and_all_values_equal(kernels: Kernels) -> None:
    engine = Embedding([Feature("f", "x", A)], kernels, Sgd(), log2_rows=4)
    column = Ragged(torch.full((50,), -1), torch.arange(0, 51, 10, dtype=torch.int32))
    leaf = engine.lookup(Batch({"x": column}, 5), train=True)["f"]
    assert engine.rows == 1
    at = int((VOCAB == -1).nonzero())
    torch.testing.assert_close(leaf, 10 * first_weights(A, 0)[at].float().expand(5, -1))
    leaf.sum().backward()
    engine.accumulate()
    assert torch.equal(engine.accumulated[engine.groups[0].name].grad, torch.full((1, 4), 50.0))


def test_leaves_without_gradient_count_as_zeros(kernels: Kernels) -> None:
    batch = batch_of(np.random.default_rng(6))
    engine = Embedding(FEATURES, kernels, Sgd(), log2_rows=4)
    twin = Twin(FEATURES, lambda p, rate: torch.optim.SGD([p]))
    used = "weighted mean"
    loss_of({used: engine.lookup(batch, train=True)[used]}).backward()
    loss_of({used: twin.leaves(batch)[used]}).backward()
    engine.accumulate()
    # The group of table c had no gradient at all.
    assert list(engine.accumulated) == [engine.groups[0].name]
    held = twin.params["b"].grad
    assert held is not None
    torch.testing.assert_close(engine.gradient_norm()[0], held.norm(), rtol=1e-5, atol=0)


def test_backward_twice_adds(kernels: Kernels) -> None:
    batch = batch_of(np.random.default_rng(7))
    engine = Embedding(FEATURES, kernels, Sgd(), log2_rows=4)
    loss = loss_of(engine.lookup(batch, train=True))
    loss.backward(retain_graph=True)
    loss.backward()
    engine.accumulate()
    twice = engine.gradient_norm()
    engine.clear()
    loss_of(engine.lookup(batch, train=True)).backward()
    engine.accumulate()
    torch.testing.assert_close(twice, 2 * engine.gradient_norm(), rtol=1e-6, atol=0)


def test_a_prepared_batch_sees_rows_made_since(kernels: Kernels) -> None:
    rng = np.random.default_rng(8)
    batches = [batch_of(rng) for _ in range(4)]
    ahead, plain = (Embedding(FEATURES, kernels, Sgd(), log2_rows=4) for _ in range(2))
    prepared = [ahead.prepare(batch, train=True) for batch in batches]
    for at, batch in enumerate(batches):
        got, want = ahead.lookup(prepared[at], train=True), plain.lookup(batch, train=True)
        for name, leaf in got.items():
            assert torch.equal(leaf, want[name]), name
    assert ahead.rows == plain.rows
    stale = ahead.prepare(batches[0], train=True)
    for engine in (ahead, plain):
        for group in engine.groups:
            tables, ids, _ = group.map.items()
            gone = torch.isin(ids, VOCAB[:5])
            group.erase(tables[gone], ids[gone])
    got, want = ahead.lookup(stale, train=True), plain.lookup(batches[0], train=True)
    for name, leaf in got.items():
        torch.testing.assert_close(leaf, want[name])
    assert ahead.rows == plain.rows
    with pytest.raises(ValueError, match="train=True"):
        ahead.lookup(stale, train=False)


def test_rows_begin_alike_in_any_order_and_after_erasure(kernels: Kernels) -> None:
    feature = Feature("f", "x", C, "tile", 1)
    rng = np.random.default_rng(9)
    offsets = torch.arange(len(VOCAB) + 1, dtype=torch.int32)
    want = first_weights(C, 11).float()
    for _ in range(3):
        engine = Embedding([feature], kernels, AdamW(), seed=11, log2_rows=3)
        order = torch.from_numpy(rng.permutation(len(VOCAB)))
        for half in order.split(20):
            column = Ragged(VOCAB[half], offsets[: len(half) + 1])
            engine.lookup(Batch({"x": column}, len(half)), train=True)
        group = engine.groups[0]
        for view in group.blocks.views("weight"):
            view.mul_(-2.0)
        gone = VOCAB[order[:10]]
        rows = group.erase(torch.zeros(10, dtype=torch.int32), gone)
        for slot in ("mean", "square"):
            for view in group.blocks.views(slot):
                view.fill_(9.0)
        column = Ragged(gone, offsets[:11])
        engine.lookup(Batch({"x": column}, 10), train=True)
        weights = table_weights(engine, C)
        assert set(rows.tolist()) == set(
            group.find(torch.zeros(10, dtype=torch.int32), gone).rows.tolist()
        )
        for i in order[:10].tolist():
            torch.testing.assert_close(weights[int(VOCAB[i])], want[i], rtol=2e-6, atol=1e-7)
        for i in order[10:].tolist():
            torch.testing.assert_close(weights[int(VOCAB[i])], -2 * want[i], rtol=2e-6, atol=1e-7)
        # A row that is used again keeps nothing of its past.
        for slot in ("mean", "square"):
            assert not kernels.rows_gather(group.blocks, slot, rows).any()


def test_equal_ids_of_two_tables_are_two_rows(kernels: Kernels) -> None:
    features = [Feature("f", "x", A), Feature("g", "x", B)]
    engine = Embedding(features, kernels, Sgd(), log2_rows=4)
    column = Ragged(torch.tensor([7]), torch.tensor([0, 1], dtype=torch.int32))
    leaves = engine.lookup(Batch({"x": column}, 1), train=True)
    assert len(engine.groups) == 1
    assert engine.rows == 2
    assert not torch.equal(leaves["f"], leaves["g"])


def test_ids_that_agree_in_52_bits_are_different(kernels: Kernels) -> None:
    engine = Embedding([Feature("f", "x", A)], kernels, Sgd(), log2_rows=4)
    ids = torch.tensor([5, 5 + 2**52, 5 - 2**63, -1, -2, -(2**63), 2**63 - 1])
    column = Ragged(ids, torch.arange(8, dtype=torch.int32))
    leaf = engine.lookup(Batch({"x": column}, 7), train=True)["f"]
    assert engine.rows == 7
    assert len(leaf.unique(dim=0)) == 7


def test_a_full_table_is_an_error_that_changes_nothing(kernels: Kernels) -> None:
    engine = Embedding(
        [Feature("f", "x", A), Feature("g", "y", C)], kernels, Sgd(), log2_rows=2, limit=6
    )
    offsets = torch.arange(6, dtype=torch.int32)
    small = Batch({n: Ragged(VOCAB[:5], offsets) for n in "xy"}, 5)
    engine.lookup(small, train=True)
    before = table_weights(engine, A), table_weights(engine, C)
    big = Batch({"x": Ragged(VOCAB[4:9], offsets), "y": Ragged(VOCAB[:5], offsets)}, 5)
    with pytest.raises(
        TableFullError, match=r"table 'a' needs 4 new rows.* 9 rows of 16 bytes, 144 bytes"
    ):
        engine.lookup(big, train=True)
    late = Batch({"x": Ragged(VOCAB[5:10] * 0 + 3, offsets), "y": Ragged(VOCAB[5:10], offsets)}, 5)
    with pytest.raises(TableFullError, match="table 'c' needs 5 new rows"):
        engine.lookup(late, train=True)
    after = table_weights(engine, A), table_weights(engine, C)
    for old, new in zip(before, after, strict=True):
        assert old.keys() == new.keys()
        assert all(torch.equal(old[key], new[key]) for key in old)
    loss_of(engine.lookup(small, train=True)).backward()


def test_memory_that_runs_out_is_an_error_that_changes_nothing(
    kernels: Kernels, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Embedding([Feature("f", "x", A)], kernels, Sgd(), log2_rows=2)
    offsets = torch.arange(6, dtype=torch.int32)
    engine.lookup(Batch({"x": Ragged(VOCAB[:5], offsets)}, 5), train=True)

    def refuse() -> torch.Tensor:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried 1 byte")

    monkeypatch.setattr(engine.groups[0].blocks, "_block", refuse)
    with pytest.raises(TableFullError, match=r"table 'a' needs 5 new rows.*memory ran out"):
        engine.lookup(Batch({"x": Ragged(VOCAB[5:10], offsets)}, 5), train=True)
    assert engine.rows == 5


def test_sixteen_bit_tables(kernels: Kernels) -> None:
    for dtype in ("float16", "bfloat16"):
        table = Table("half", 8, Initializer("uniform", -1.0, 1.0), dtype)
        features = [Feature("f", "x", table), Feature("m", "x", table, "mean")]
        engine = Embedding(features, kernels, Sgd(lr=0.5), log2_rows=4)
        column = Ragged(torch.tensor([3, 3, 4]), torch.tensor([0, 3], dtype=torch.int32))
        batch = Batch({"x": column}, 1)
        leaves = engine.lookup(batch, train=True)
        assert {leaf.dtype for leaf in leaves.values()} == {getattr(torch, dtype)}
        sum(leaf.float().sum() for leaf in leaves.values()).backward()
        engine.accumulate()
        held = engine.accumulated[engine.groups[0].name]
        assert held.grad.dtype == torch.float32
        assert held.grad.sum(1).sort().values.tolist() == pytest.approx(
            [8 * 4 / 3, 16 * 4 / 3], rel=1e-2
        )


def test_what_cannot_be_declared() -> None:
    kernels = kernels_of("reference")
    with pytest.raises(ValueError, match="two features are called 'f'"):
        Embedding([Feature("f", "x", A), Feature("f", "y", B)], kernels, Sgd())
    other = Table("a", 4, Initializer("constant", 0.5))
    with pytest.raises(ValueError, match="feature 'g': table 'a' is"):
        Embedding([Feature("f", "x", A), Feature("g", "y", other)], kernels, Sgd())
