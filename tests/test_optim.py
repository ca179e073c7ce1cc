"""Row optimizers, schedulers, clipping and the guard, against torch's own on the touched rows."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from recis_core.clipping import clip_and_guard
from recis_core.data import Batch
from recis_core.embedding import Embedding
from recis_core.kernels import Kernels
from recis_core.optim import Adagrad, Adam, AdamW, RowOptimizer, RowwiseAdagrad, Rule, Sgd
from recis_core.schema import Feature, Initializer, Table
from tests.twin import BACKENDS, VOCAB, Twin, kernels_of, loss_of, ragged, rows_of, weights_of

WIDE = Initializer("uniform", -1.0, 1.0)
A, B = Table("a", 4, WIDE), Table("b", 4, WIDE, rate=0.25)
# Alone in its group, so that one rate serves all its rows.
C = Table("c", 7, Initializer("normal", 0.1, 0.5), rate=0.5)
FEATURES = (
    Feature("sum", "x", A),
    Feature("same ids", "x", B),
    Feature("mean", "y", A, "mean", weights="yw"),
    Feature("tile", "y", C, "tile", 3),
)
UNRATED = tuple(replace(f, table=replace(f.table, rate=1.0)) for f in FEATURES)


class ByFormula(torch.optim.Optimizer):
    """Forms torch does not have, as published: moments, powers and decay spelt out."""

    def __init__(self, p: Tensor, rule: AdamW | Adam | RowwiseAdagrad, rate: float) -> None:
        super().__init__([p], {"lr": rule.lr * rate})
        self.rule, self.steps = rule, 0
        self.state[p] = {"m": torch.zeros_like(p), "v": torch.zeros_like(p)}

    @torch.no_grad()
    def step(self) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        self.steps += 1
        r, lr = self.rule, self.param_groups[0]["lr"]
        for p, s in self.state.items():
            if isinstance(r, RowwiseAdagrad):
                g = p.grad + r.decay * p
                s["v"] += g.square().mean(1, keepdim=True)
                lr /= 1 + (self.steps - 1) * r.lr_decay
                start = r.initial_accumulator_value
                p -= lr * g / ((s["v"] + start).sqrt() + r.eps)
                continue
            g = p.grad
            if isinstance(r, Adam):
                g = g + r.decay * p
            else:
                p *= 1 - (r.decay if r.form == "tensorflow" else lr * r.decay)
            b1, b2 = r.betas
            s["m"].mul_(b1).add_((1 - b1) * g)
            s["v"].mul_(b2).add_((1 - b2) * g * g)
            alpha = lr * (1 - b2**self.steps) ** 0.5 / (1 - b1**self.steps)
            p -= alpha * s["m"] / (s["v"].sqrt() + r.eps)


def by_torch(rule: Rule) -> Callable[[Tensor, float], torch.optim.Optimizer]:
    """torch's optimizer of the same rule, one table's rate applied."""

    def make(p: Tensor, rate: float) -> torch.optim.Optimizer:
        lr = rule.lr * rate
        if isinstance(rule, Sgd):
            return torch.optim.SGD([p], lr=lr, weight_decay=rule.decay)
        if isinstance(rule, Adagrad):
            start = rule.initial_accumulator_value
            return torch.optim.Adagrad([p], lr, rule.lr_decay, rule.decay, start, rule.eps)
        if isinstance(rule, Adam) and rule.form == "torch":
            return torch.optim.Adam([p], lr, rule.betas, rule.eps, rule.decay)
        if isinstance(rule, AdamW) and rule.form == "torch":
            return torch.optim.AdamW([p], lr, rule.betas, rule.eps, rule.decay)
        assert isinstance(rule, RowwiseAdagrad | Adam | AdamW)
        return ByFormula(p, rule, rate)

    return make


RULES: list[Rule] = [
    Sgd(lr=0.1),
    Sgd(lr=0.1, decay=0.1),
    Adagrad(lr=0.1, lr_decay=0.05, initial_accumulator_value=0.2, decay=0.01),
    RowwiseAdagrad(lr=0.1, lr_decay=0.05, initial_accumulator_value=0.1),
    Adam(lr=0.03, betas=(0.8, 0.9), decay=0.05, eps=1e-6),
    Adam(lr=0.03, form="tensorflow", eps=1e-3),
    AdamW(lr=0.03, decay=0.3),
    AdamW(lr=0.03, decay=0.3, eps=1e-3, form="recis"),
    AdamW(lr=0.03, decay=0.02, eps=1e-3, form="tensorflow"),
]


@pytest.fixture(params=BACKENDS)
def kernels(request: pytest.FixtureRequest) -> Kernels:
    return kernels_of(request.param)


def batch_of(rng: np.random.Generator, rows: int = 8) -> Batch:
    # Tables that a batch leaves out altogether are looked at on their own.
    x, y = ragged(rng, rows, low=1), ragged(rng, rows, low=1)
    return Batch({"x": x, "y": y, "yw": weights_of(rng, y)}, rows)


def agree(engine: Embedding, twin: Twin) -> None:
    """Every row the engine has equals the twin's; it has just those that were touched."""
    for group in engine.groups:
        tables, ids, rows = group.map.items()
        weights = engine.kernels.rows_gather(group.blocks, "weight", rows)
        for table, key, weight in zip(tables.tolist(), ids.tolist(), weights, strict=True):
            want = twin.params[group.tables[table].name].detach()[int((key == VOCAB).nonzero())]
            torch.testing.assert_close(weight, want.float(), rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_ten_steps_of_clipped_micro_batches_follow_torch(kernels: Kernels, rule: Rule) -> None:
    rng = np.random.default_rng(0)
    engine = Embedding(FEATURES, kernels, rule, seed=5, log2_rows=4)
    optimizer = RowOptimizer(engine, rule)
    twin = Twin(FEATURES, by_torch(rule), seed=5)
    dense = torch.full((3,), 0.5, requires_grad=True)
    other = dense.detach().double().requires_grad_()
    moved = 0
    for step in range(11):
        batch = batch_of(rng)
        for begin, end in ((0, 3), (3, 8)) if step % 2 else ((0, 8),):
            part = rows_of(batch, begin, end)
            (loss_of(engine.lookup(part, train=True)) * dense.sum()).backward()
            engine.accumulate()
            (loss_of(twin.leaves(part)) * other.sum()).backward()
        clipped = clip_and_guard([dense], engine, max_norm=4.0, guard=True)
        assert clipped.finite
        grads = [other, *twin.params.values()]
        norm = torch.nn.utils.clip_grad_norm_(grads, 4.0)
        assert clipped.norm is not None
        torch.testing.assert_close(clipped.norm[0], norm, rtol=1e-5, atol=0)
        moved += int(norm > 4.0)
        assert dense.grad is not None
        torch.testing.assert_close(dense.grad.double(), other.grad, rtol=1e-5, atol=1e-7)
        optimizer.step(clipped.scale)
        optimizer.zero_grad()
        dense.grad = other.grad = None
        twin.step()
        agree(engine, twin)
    assert moved > 5
    assert [own["step"] for own in optimizer.state.values()] == [11, 11]


def test_a_group_without_gradients_does_not_advance(kernels: Kernels) -> None:
    rule = AdamW()
    engine = Embedding(FEATURES, kernels, rule, log2_rows=4)
    optimizer = RowOptimizer(engine, rule)
    rng = np.random.default_rng(1)
    for used in (("sum",), ("sum", "tile"), ("mean",)):
        leaves = engine.lookup(batch_of(rng), train=True)
        loss_of({name: leaves[name] for name in used}).backward()
        engine.accumulate()
        optimizer.step()
        optimizer.zero_grad()
    states = {own["name"]: optimizer.state[own["params"][0]] for own in optimizer.param_groups}
    assert [s["step"] for s in states.values()] == [3, 1]
    assert [s["power1"] for s in states.values()] == pytest.approx([0.9**3, 0.9], rel=1e-15)
    assert [s["power2"] for s in states.values()] == pytest.approx([0.999**3, 0.999], rel=1e-15)


def test_rows_without_gradient_keep_everything(kernels: Kernels) -> None:
    rule = AdamW(decay=0.5)
    engine = Embedding([Feature("f", "x", A)], kernels, rule, log2_rows=4)
    optimizer = RowOptimizer(engine, rule)
    rng = np.random.default_rng(2)
    group = engine.groups[0]
    for _ in range(4):
        batch = Batch({"x": ragged(rng, 3, low=1)}, 3)
        prior = (
            {slot: torch.cat(group.blocks.views(slot)) for slot in group.blocks.slots}
            if group.rows
            else {}
        )
        held = group.rows
        engine.lookup(batch, train=True)["f"].sum().backward()
        engine.accumulate()
        touched = engine.accumulated[group.name].rows.long()
        optimizer.step()
        optimizer.zero_grad()
        still = torch.ones(held, dtype=torch.bool)
        still[touched[touched < held]] = False
        for slot, before in prior.items():
            now = torch.cat(group.blocks.views(slot))
            assert torch.equal(now[:held][still], before[:held][still]), slot


def test_schedulers_drive_the_rate(kernels: Kernels) -> None:
    rule = Sgd(lr=1.0)
    engine = Embedding(UNRATED, kernels, rule, log2_rows=4)
    optimizer = RowOptimizer(engine, rule)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.5)
    batch = batch_of(np.random.default_rng(3))
    for step in range(3):
        engine.lookup(batch, train=True)["sum"].sum().backward()
        engine.accumulate()
        held = engine.accumulated[engine.groups[0].name]
        before = kernels.rows_gather(engine.groups[0].blocks, "weight", held.rows)
        optimizer.step()
        after = kernels.rows_gather(engine.groups[0].blocks, "weight", held.rows)
        torch.testing.assert_close(before - after, 0.5**step * held.grad, rtol=1e-5, atol=1e-6)
        optimizer.zero_grad()
        schedule.step()
    assert [own["lr"] for own in optimizer.param_groups] == [0.125, 0.125]


def test_state_goes_through_json_and_training_goes_on_bitwise(kernels: Kernels) -> None:
    rule = AdamW(lr=0.05)
    engines = [Embedding(FEATURES, kernels, rule, log2_rows=4) for _ in range(2)]
    optimizers = [RowOptimizer(engine, rule) for engine in engines]
    rng = np.random.default_rng(4)
    for step in range(6):
        if step == 3:
            optimizers[1].param_groups[1]["lr"] = optimizers[0].param_groups[1]["lr"] = 0.02
            text = json.dumps(optimizers[1].state_dict())
            optimizers[1] = RowOptimizer(engines[1], rule)
            optimizers[1].load_state_dict(json.loads(text))
            assert optimizers[1].state_dict() == optimizers[0].state_dict()
        batch = batch_of(rng)
        for engine, optimizer in zip(engines, optimizers, strict=True):
            leaves = engine.lookup(batch, train=True)
            # Powers of the two groups differ, so that one kept for both would show.
            loss_of({n: v for n, v in leaves.items() if step % 2 or n != "tile"}).backward()
            engine.accumulate()
            optimizer.step()
            optimizer.zero_grad()
    for first, second in zip(*(engine.groups for engine in engines), strict=True):
        tables, ids, rows = first.map.items()
        others = second.find(tables, ids).rows
        for slot in first.blocks.slots:
            got = kernels.rows_gather(second.blocks, slot, others)
            assert torch.equal(got, kernels.rows_gather(first.blocks, slot, rows)), slot


def test_state_of_other_groups_is_refused() -> None:
    kernels, rule = kernels_of("reference"), AdamW()
    first = RowOptimizer(Embedding(FEATURES, kernels, rule, log2_rows=2), rule)
    second = RowOptimizer(Embedding(FEATURES[::-1], kernels, rule, log2_rows=2), rule)
    with pytest.raises(ValueError, match="optimizer state is of groups"):
        second.load_state_dict(first.state_dict())
    with pytest.raises(ValueError, match="needs slots"):
        RowOptimizer(Embedding(FEATURES, kernels, Sgd(), log2_rows=2), rule)


@pytest.mark.parametrize("poisoned", ["dense", "sparse"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_the_guard_sees_what_is_not_finite(kernels: Kernels, poisoned: str, value: float) -> None:
    rule = Sgd()
    engine = Embedding(FEATURES, kernels, rule, log2_rows=4)
    dense = torch.ones(2, requires_grad=True)
    leaves = engine.lookup(batch_of(np.random.default_rng(5)), train=True)
    loss = loss_of(leaves) * dense.sum()
    (loss + (dense[0] if poisoned == "dense" else leaves["tile"].sum()) * value).backward()
    engine.accumulate()
    assert dense.grad is not None
    before = dense.grad.clone()
    clipped = clip_and_guard([dense], engine, max_norm=1.0, guard=True)
    assert not clipped.finite
    assert torch.equal(dense.grad.isfinite(), before.isfinite())
    assert torch.equal(dense.grad.nan_to_num(), before.nan_to_num())
    assert clip_and_guard([dense], engine, max_norm=1.0, guard=False).finite


def test_small_gradients_are_not_scaled_up(kernels: Kernels) -> None:
    engine = Embedding(FEATURES, kernels, Sgd(), log2_rows=4)
    dense = torch.ones(2, requires_grad=True)
    dense.sum().backward()
    clipped = clip_and_guard([dense], engine, max_norm=100.0, guard=True)
    assert clipped.scale is not None
    assert float(clipped.scale) == 1.0
    assert torch.equal(dense.grad, torch.ones(2))  # pyright: ignore[reportArgumentType]
    nothing = clip_and_guard([dense], engine, max_norm=None, guard=False)
    assert nothing.norm is None
    assert nothing.scale is None
