"""Ragged leaves, attention without padding and the fused cross-entropy against plain PyTorch."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from recis_core.attention import causal_attention, rounded, target_attention
from recis_core.cross_entropy import (
    fused_gradient,
    linear_cross_entropy,
    plain,
    softmax_gradient,
)
from recis_core.data import Batch, Ragged
from recis_core.embedding import Embedding
from recis_core.objective import Logits, logits_of, loss_of, target_of, total_of
from recis_core.optim import Sgd
from recis_core.schema import Feature, Initializer, Table, Truncate
from recis_core.sequences import Sequences
from recis_core.task import Task
from tests.twin import BACKENDS, kernels_of

LENGTHS = [(3, 0, 5, 3, 1), (4, 4, 4), (70, 0, 130), (200, 0, 0), (0, 0), (), (2, 3, 2)]


def sequences_of(lengths: tuple[int, ...], device: str = "cpu", most: int = 0) -> Sequences:
    ends = torch.tensor([0, *lengths], device=device).cumsum(0)
    return Sequences.of(ends, most)


def masked(qkv: Tensor, sequences: Sequences) -> Tensor:
    """Attention by its definition, sequence by sequence."""
    parts = [qkv[:0, 0]]
    for begin, end in pairwise(sequences.starts):
        q, k, v = qkv[begin:end].unbind(1)
        scores = torch.einsum("ihd,jhd->hij", q, k) / q.shape[-1] ** 0.5
        later = torch.ones(end - begin, end - begin, device=q.device).triu(1).bool()
        weights = scores.masked_fill(later, -torch.inf).softmax(-1)
        parts.append(torch.einsum("hij,jhd->ihd", weights, v))
    return torch.cat(parts)


@pytest.mark.parametrize("lengths", LENGTHS)
@pytest.mark.parametrize(
    ("path", "most"), [("auto", 0), ("each", 0), ("rounded", 0), ("rounded", 10_000)]
)
def test_causal_attention(lengths: tuple[int, ...], path: Any, most: int) -> None:
    sequences = sequences_of(lengths, most=most)
    qkv = torch.randn(sequences.total, 3, 2, 4, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(sequences.total, 2, 4, dtype=torch.float64)
    ours, theirs = causal_attention(qkv, sequences, path), masked(qkv, sequences)
    torch.testing.assert_close(ours, theirs)
    grads = [torch.autograd.grad((out * weight).sum(), qkv)[0] for out in (ours, theirs)]
    torch.testing.assert_close(*grads)


@pytest.mark.gpu
@pytest.mark.parametrize("lengths", [(300, 0, 1500, 1), (2000, 2000)])
@pytest.mark.parametrize("path", ["auto", "each", "rounded", "jagged", "varlen"])
def test_causal_attention_on_a_gpu(lengths: tuple[int, ...], path: Any) -> None:
    sequences = sequences_of(lengths, "cuda")
    qkv = torch.randn(sequences.total, 3, 2, 64, device="cuda", dtype=torch.bfloat16)
    qkv.requires_grad_()
    ours, theirs = causal_attention(qkv, sequences, path), masked(qkv.float(), sequences)
    weight = torch.randn_like(theirs)
    grads = [torch.autograd.grad((out * weight).sum(), qkv)[0].float() for out in (ours, theirs)]
    for one, other in ((ours.float(), theirs), grads):
        assert float((one - other).norm() / other.norm()) < 1e-2


def test_causal_attention_refuses_an_unknown_path() -> None:
    with pytest.raises(ValueError, match="attention path 'fast' is not one of auto, each"):
        causal_attention(torch.zeros(1, 3, 1, 4), sequences_of((1,)), "fast")  # type: ignore[arg-type]


def test_rounded_lengths_are_few_and_near() -> None:
    every = {rounded(n) for n in range(1, 100_001)}
    assert len(every) < 400
    assert all(n <= rounded(n) < n + max(64, n / 32) for n in range(1, 100_001, 7))
    for most in (16_384, 100_000):
        every = {rounded(n, most) for n in range(1, most + 1)}
        assert len(every) <= 64
        assert all(n <= rounded(n, most) < n + most / 32 for n in range(1, most + 1, 7))


@pytest.mark.parametrize("lengths", LENGTHS)
def test_target_attention(lengths: tuple[int, ...]) -> None:
    sequences, heads, dim, width = sequences_of(lengths), 2, 4, 6
    sizes = (len(lengths), heads, dim), (sequences.total, width), *[(heads, dim, width)] * 2
    given = [torch.randn(*size, dtype=torch.float64, requires_grad=True) for size in sizes]
    query, x, key, value = given
    ours = target_attention(query, x, key, value, sequences)
    rows = []
    for i, (begin, end) in enumerate(pairwise(sequences.starts)):
        k, v = (torch.einsum("nw,hdw->nhd", x[begin:end], w) for w in (key, value))
        weights = (torch.einsum("hd,nhd->nh", query[i], k) / dim**0.5).softmax(0)
        rows.append(torch.einsum("nh,nhd->hd", weights, v).flatten())
    theirs = torch.stack(rows) if rows else ours.detach()
    torch.testing.assert_close(ours, theirs)
    if sequences.total:
        grads = [torch.autograd.grad(out.square().sum(), given) for out in (ours, theirs)]
        torch.testing.assert_close(*grads)


def test_last_positions_and_their_successors() -> None:
    at, following = sequences_of((3, 0, 1, 5)).last(2)
    assert at.tolist() == [0, 1, 6, 7]
    assert following.tolist() == [1, 2, 7, 8]
    assert sequences_of(()).last(2)[0].tolist() == []


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("gradient", [softmax_gradient, fused_gradient])
@pytest.mark.parametrize(("n", "rows"), [(37, 8), (16, 8), (5, 0), (1, 1), (0, 8)])
def test_linear_cross_entropy(dtype: torch.dtype, gradient: Any, n: int, rows: int) -> None:
    x = torch.randn(n, 8).to(dtype).requires_grad_()
    weight = torch.randn(50, 8).to(dtype).requires_grad_()
    target = torch.randint(50, (n,))
    ours = linear_cross_entropy(x, weight, target, rows, gradient)
    theirs = plain(x, weight, target)
    close = {torch.bfloat16: 1e-2, torch.float32: 1e-5, torch.float64: 1e-12}[dtype]
    torch.testing.assert_close(ours, theirs.to(ours.dtype), rtol=close, atol=close)
    grads = [torch.autograd.grad(3 * loss, (x, weight)) for loss in (ours, theirs)]
    torch.testing.assert_close(*grads, rtol=close, atol=close)


def test_linear_cross_entropy_under_autocast() -> None:
    """bfloat16 inside, float32 gradients of float32 tensors; extreme logits stay finite."""
    x, weight = (torch.randn(n, 8, requires_grad=True) for n in (20, 30))
    target = torch.randint(30, (20,))
    with torch.autocast("cpu", torch.bfloat16):
        ours = linear_cross_entropy(x, weight, target, 7)
        theirs = plain(x, weight, target)
    torch.testing.assert_close(ours, theirs, rtol=1e-2, atol=1e-2)
    grads = [torch.autograd.grad(loss, (x, weight)) for loss in (ours, theirs)]
    assert all(g.dtype == torch.float32 for g in grads[0])
    torch.testing.assert_close(*grads, rtol=5e-2, atol=2e-3)
    far = linear_cross_entropy(1e3 * x.detach(), weight.detach(), target)
    torch.testing.assert_close(far, plain(1e3 * x.detach(), weight.detach(), target))


def columns(rows: list[list[int]]) -> Ragged:
    ends = torch.tensor([0, *(len(row) for row in rows)]).cumsum(0).int()
    return Ragged(torch.tensor([i for row in rows for i in row], dtype=torch.int64), ends)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    "rows",
    [
        [[7, -3, 7, 9], [], [9]],  # repeated within and between rows, an empty row
        [[], [], []],  # absent from the whole batch
        [[5, 5, 5, 5, 5], [5], [5]],  # all equal
    ],
)
def test_ragged_leaves(backend: str, rows: list[list[int]]) -> None:
    """A row for every value, the last ones of a truncated row; gradients add up by id."""
    start = Initializer("uniform", -1.0, 1.0)
    item, shop = Table("item", 4, start), Table("shop", 4, start)
    features = (
        Feature("item", "item", item, "ragged", transforms=(Truncate(3, "last"),)),
        Feature("target", "target", item),
        Feature("shop", "shop", shop, "ragged", transforms=(Truncate(3, "last"),)),
    )
    shops = [[i * 2 for i in row] for row in rows]
    batch = Batch(
        {"item": columns(rows), "shop": columns(shops), "target": columns([[7], [5], [1]])}, 3
    )
    engine = Embedding(features, kernels_of(backend), Sgd(lr=1.0))
    leaves = engine.lookup(batch, train=True)
    kept = [row[-3:] for row in rows]
    flat = [i for row in kept for i in row]
    assert leaves["item.ids"].tolist() == flat
    assert leaves["item.offsets"].tolist() == columns(kept).offsets.tolist()
    assert leaves["shop.offsets"].tolist() == leaves["item.offsets"].tolist()
    assert leaves["shop.ids"].tolist() == [2 * i for i in flat]
    assert leaves["item"].shape == leaves["shop"].shape == (len(flat), 4)
    own = {int(i): leaves["target"][k] for k, i in enumerate((7, 5, 1))}
    for place, i in enumerate(flat):
        if i in own:
            torch.testing.assert_close(leaves["item"][place], own[i])
    weight = torch.arange(1.0, len(flat) + 1)
    loss = (leaves["item"].sum(1) * weight).sum() + 100 * leaves["target"].sum()
    loss.backward()
    engine.accumulate()
    grads = engine.accumulated
    assert sum(len(g.rows) for g in grads.values()) >= 3
    total = sum(float(g.grad.sum()) for g in grads.values())
    assert total == pytest.approx(4 * (float(weight.sum()) + 300))
    seven = 100 + sum(w for w, i in zip(weight.tolist(), flat, strict=True) if i == 7)
    found = torch.cat([own.grad for own in grads.values()])
    assert (found - seven).abs().amax(1).min() < 1e-4


def test_ragged_leaves_of_ids_never_seen_are_zeros() -> None:
    feature = Feature("item", "item", Table("item", 4), "ragged")
    engine = Embedding((feature,), kernels_of("torch"), Sgd(lr=1.0))
    leaves = engine.lookup(Batch({"item": columns([[1, 2], []])}, 2), train=False)
    assert leaves["item"].shape == (2, 4)
    assert not leaves["item"].any()
    assert not leaves["item"].requires_grad


def test_a_ragged_leaf_takes_no_weights() -> None:
    with pytest.raises(ValueError, match="a ragged leaf pools nothing"):
        Feature("item", "item", Table("item", 4), "ragged", weights="w")


def test_a_models_own_loss_is_added() -> None:
    """Once for a step, however the step is cut into micro-batches of equal weight."""

    class Model(nn.Module):
        def forward(self, inputs: dict[str, Tensor]) -> Logits:
            return Logits(inputs["x"], torch.tensor(2.0))

    x, label = torch.randn(6), torch.ones(6, 1)
    whole = nn.functional.binary_cross_entropy_with_logits(x, label[:, 0]) + 2
    for pieces in (1, 2, 3):
        batches = [Batch({"label": own}, len(own)) for own in label.chunk(pieces)]
        targets = [target_of((Task("label"),), batch) for batch in batches]
        total = total_of(targets)
        parts = [
            loss_of(logits_of(Model(), {"x": own}, len(own), 1), target, total)
            for own, target in zip(x.chunk(pieces), targets, strict=True)
        ]
        torch.testing.assert_close(torch.stack(parts).sum(), whole)
