"""numba's fused optimizers: the bits of the two ops, and rows with very many gradients."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from backends import BackendError, load
from recis_core.blocks import Blocks, Slot
from recis_core.kernels import Kernels, find_op
from recis_core.optim import Adagrad, Adam, AdamW, RowwiseAdagrad, Rule, Sgd
from recis_core.tolerance import SUMMED

RULES = (Sgd(0.1, decay=0.01), Adagrad(0.1), RowwiseAdagrad(0.1), Adam(0.1), AdamW(0.1))


@pytest.fixture
def kernels(monkeypatch: pytest.MonkeyPatch) -> Kernels:
    """Three threads, and ranges of a kilobyte."""
    try:
        found = load("numba", checked=True)
    except BackendError as error:
        pytest.skip(str(error))
    from backends.numba import threads

    monkeypatch.setattr(threads, "GRAIN", 1024)
    monkeypatch.setattr(threads, "threads", lambda: 3)
    return found


def drawn(lengths: np.ndarray, dim: int, seed: int) -> tuple[Any, ...]:
    """Rows, some absent, and what is summed for each: as many leaves' gradients as `lengths`."""
    rng = np.random.default_rng(seed)
    starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    rows = rng.permutation(2 * len(lengths))[: len(lengths)].astype(np.int32)
    rows[rng.random(len(rows)) < 0.1] = -1
    grad = rng.normal(size=(300, dim)).astype(np.float32)
    segments = rng.integers(0, 300, starts[-1]).astype(np.int32)
    scale, weights = rng.random(300, np.float32), rng.random(len(segments), np.float32)
    rate = rng.random(len(rows), np.float32)
    return tuple(map(torch.from_numpy, (rows, grad, scale, starts, segments, weights, rate)))


def changed(call: Any, rule: Rule, given: tuple[Any, ...]) -> Tensor:
    """All bytes of blocks that `call` changed by the rule."""
    dim = given[1].shape[1]
    blocks = Blocks([Slot("weight", dim), *rule.slots(dim)], 7)
    blocks.grow(2 * len(given[0]))
    for slot in blocks.slots:
        for number, view in enumerate(blocks.views(slot)):
            generator = torch.Generator().manual_seed(number)
            view.uniform_(0.1, 1.0, generator=generator)
    call(blocks, *given, *rule.scalars(rule.lr, rule.begin()))
    return torch.cat([tensor.flatten() for tensor in blocks.tensors])


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.op)
def test_the_bits_of_the_two_ops(kernels: Kernels, rule: Rule) -> None:
    op = find_op(f"rows_reduce_{rule.op}")
    assert op.default is not None
    lengths = np.random.default_rng(1).poisson(3, 700)
    for dim in (8, 17, 64):
        given = drawn(lengths, dim, seed=dim)
        fused = changed(getattr(kernels, op.name), rule, given)
        chain = changed(partial(op.default, kernels), rule, given)
        assert torch.equal(fused, chain)
        fewer = *given[:6], None
        assert not torch.equal(changed(getattr(kernels, op.name), rule, fewer), chain)


def test_rows_with_very_many_gradients(kernels: Kernels, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are shared among threads by pieces, and the result does not depend on these."""
    from backends.numba import reduction, threads

    most = reduction.LONG
    lengths = np.random.default_rng(2).poisson(3, 60)
    lengths[[0, 30, 31, 59]] = most, most + 1, 3 * most, 2 * most - 7
    given = drawn(lengths, 8, seed=3)
    given[0].copy_(torch.arange(60))
    given[0][31] = -1
    shared: list[int] = []
    pool = reduction.pool_rows

    def counted(*args: Any, **more: Any) -> None:
        shared.append(len(args[2]) - 1)
        pool(*args, **more)

    monkeypatch.setattr(reduction, "pool_rows", counted)
    rule = RowwiseAdagrad(0.1)
    found = changed(kernels.rows_reduce_adagrad_rowwise, rule, given)
    assert shared == [5, 8, 2]
    want = changed(load("reference").rows_reduce_adagrad_rowwise, rule, given)
    got, expected = (blocks.view(torch.float32).numpy() for blocks in (found, want))
    SUMMED.check("blocks", got, expected, "float32")
    monkeypatch.setattr(threads, "threads", lambda: 1)
    assert torch.equal(found, changed(kernels.rows_reduce_adagrad_rowwise, rule, given))
