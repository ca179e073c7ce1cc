"""The engine with fused optimizers and pooling: the same as without, and taken where it applies."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch

from backends import load
from recis_core.clipping import clip_and_guard
from recis_core.data import Batch
from recis_core.embedding import Embedding
from recis_core.kernels import Kernels, every_op
from recis_core.optim import Adagrad, Adam, AdamW, RowOptimizer, RowwiseAdagrad, Rule, Sgd
from recis_core.schema import Feature, Initializer, Table
from recis_core.tolerance import SUMMED
from tests.twin import BACKENDS, kernels_of, loss_of, ragged, weights_of

pytestmark = pytest.mark.usefixtures("one_torch_thread")

WIDE = Initializer("uniform", -1.0, 1.0)
A, B = Table("a", 4, WIDE), Table("b", 4, WIDE, rate=0.25)
C, D = Table("c", 7, WIDE), Table("d", 16, WIDE)
FEATURES = (
    Feature("sum", "x", A),
    Feature("weighted mean", "y", B, "mean", weights="yw"),
    Feature("tile", "y", A, "tile", 3),
    Feature("alone", "x", C),
    Feature("mean", "y", D, "mean"),
)
RULES = (Sgd(0.1, decay=0.01), Adagrad(0.1), RowwiseAdagrad(0.1, decay=0.1), Adam(0.1), AdamW(0.1))


def spied(kernels: Kernels, fused: bool = True) -> tuple[Kernels, Counter[str]]:
    """The same kernels with calls counted; not `fused`: those that fuse composed."""
    calls: Counter[str] = Counter()

    def counted(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *args: (calls.update([name]), call(*args))[1]

    bound = {op.name: counted(op.name, getattr(kernels, op.name)) for op in every_op()}
    origins = dict(kernels.origins)
    if not fused:
        plain = Kernels(kernels.name, bound, origins, kernels.device)
        composed = {op.name: op.default for op in every_op() if op.default is not None}
        bound = bound | {name: partial(default, plain) for name, default in composed.items()}
        origins |= dict.fromkeys(composed, "x (composed)")
    return Kernels(kernels.name, bound, origins, kernels.device), calls


def batch_of(rng: np.random.Generator) -> Batch:
    x, y = ragged(rng, 9), ragged(rng, 9)
    return Batch({"x": x, "y": y, "yw": weights_of(rng, y)}, 9)


class Trained:
    """An engine after some steps on the batches of a seed."""

    def __init__(
        self, kernels: Kernels, rule: Rule, *, fused: bool = True, batches: int = 1
    ) -> None:
        self.kernels, self.calls = spied(kernels, fused)
        self.engine = Embedding(FEATURES, self.kernels, rule, log2_rows=4)
        self.optimizer = RowOptimizer(self.engine, rule)
        rng = np.random.default_rng(5)
        for _ in range(3):
            for _ in range(batches):
                loss_of(self.engine.lookup(batch_of(rng), train=True)).backward()
                self.engine.accumulate()
            self.optimizer.step()
            self.optimizer.zero_grad()

    def content(self) -> dict[str, np.ndarray]:
        return {
            f"{group.name} {slot}": torch.cat(group.blocks.views(slot))[: group.rows].numpy()
            for group in self.engine.groups
            for slot in group.blocks.slots
        }


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.op)
@pytest.mark.parametrize("backend", BACKENDS)
def test_the_same_rows_fused_or_not(backend: str, rule: Rule) -> None:
    kernels = kernels_of(backend)
    one, other = Trained(kernels, rule), Trained(kernels, rule, fused=False)
    for (name, a), b in zip(one.content().items(), other.content().values(), strict=True):
        SUMMED.check(name, a, b, str(a.dtype))
    sums = {"segment_sum_grad", "segment_mean_grad"}
    assert one.engine.rows == other.engine.rows
    # Means are scaled in the leaves, so both kinds are sums.
    assert sums & other.calls.keys() == {"segment_sum_grad"}
    assert other.calls[f"rows_{rule.op}"] == 9
    if kernels.origins[f"rows_reduce_{rule.op}"].endswith("(composed)"):
        assert one.calls[f"rows_{rule.op}"] == 9
    else:
        assert one.calls[f"rows_reduce_{rule.op}"] == 9
        assert not sums & one.calls.keys()


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_same_leaves_fused_or_not(backend: str) -> None:
    kernels, batch = kernels_of(backend), batch_of(np.random.default_rng(3))
    leaves, used = [], []
    for fused in (True, False):
        spy, calls = spied(kernels, fused)
        engine = Embedding(FEATURES, spy, Sgd(), log2_rows=4)
        leaves.append(engine.lookup(batch, train=True))
        used.append((calls["rows_pool"], calls["segment_sum"]))
    assert used == [(3, 0), (0, 3)]  # one call a group
    for name, a in leaves[0].items():
        assert a.any()
        SUMMED.check(name, a.detach().numpy(), leaves[1][name].detach().numpy(), "float32")


def test_two_micro_batches_are_reduced_each() -> None:
    kernels = kernels_of("reference")
    one, other = (Trained(kernels, AdamW(0.1), fused=f, batches=2) for f in (True, False))
    assert "rows_reduce_adamw" not in one.calls
    assert one.calls["rows_reduce"] == other.calls["rows_reduce"] == 9
    for (name, a), b in zip(one.content().items(), other.content().values(), strict=True):
        SUMMED.check(name, a, b, str(a.dtype))


def test_a_norm_or_a_scale_reduces() -> None:
    """Clipping, the guard, and whoever asks for the gradients get one a row."""
    for ask in ("guard", "scale", "nothing"):
        kernels, calls = spied(kernels_of("reference"))
        engine = Embedding(FEATURES, kernels, Sgd(), log2_rows=4)
        optimizer = RowOptimizer(engine, Sgd())
        loss_of(engine.lookup(batch_of(np.random.default_rng(1)), train=True)).backward()
        engine.accumulate()
        if ask == "guard":
            assert clip_and_guard([], engine, None, guard=True).finite
        optimizer.step(torch.ones(1, dtype=torch.float64) if ask == "scale" else None)
        assert ("rows_reduce_sgd" in calls) == (ask == "nothing"), ask
        held = engine.accumulated
        assert [len(own.grad) for own in held.values()] == [len(own.rows) for own in held.values()]


def test_auto_fuses_what_its_backends_fuse() -> None:
    kernels = load("auto")
    optimizer = RowOptimizer(Embedding(FEATURES, kernels, AdamW()), AdamW())
    composed = kernels.origins["rows_reduce_adamw"].endswith("(composed)")
    assert optimizer.fuses(kernels) != composed
