"""A plain torch model of what the engine does: dense tables, autograd, torch's own optimizers."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
from torch import Tensor

import backends
from recis_core.data import Batch, Ragged
from recis_core.draw import HOSTILE_IDS
from recis_core.kernels import Kernels
from recis_core.mixing import table_salt
from recis_core.ops.rows_init import rows_init
from recis_core.schema import Feature, Table
from recis_core.types import Slots

# Ids the tests draw from: those that break maps, and some ordinary ones.
VOCAB = torch.cat([torch.from_numpy(HOSTILE_IDS), torch.arange(100, 140)])
BACKENDS = [backend.name for backend in backends.shipped()]


def kernels_of(name: str) -> Kernels:
    """The kernels of backend `name` with every check on, or a skip that says why not."""
    try:
        return backends.load(name, checked=True)
    except backends.BackendError as error:
        pytest.skip(str(error))


def ragged(rng: np.random.Generator, rows: int, mean: float = 2.0, low: int = 0) -> Ragged:
    """A ragged column of ids of VOCAB, some rows empty, many ids repeated."""
    lengths = np.maximum(rng.poisson(mean, rows), low)
    offsets = torch.from_numpy(np.concatenate([[0], np.cumsum(lengths)])).int()
    # The lower half of the vocabulary is drawn far more often.
    at = (rng.random(int(offsets[-1])) ** 2 * len(VOCAB)).astype(np.int64)
    return Ragged(VOCAB[torch.from_numpy(at)], offsets)


def weights_of(rng: np.random.Generator, column: Ragged) -> Ragged:
    """Weights >= 0 beside `column`, a fifth of them zero."""
    w = rng.random(len(column.flat), dtype=np.float32)
    w[rng.random(len(w)) < 0.2] = 0
    return Ragged(torch.from_numpy(w), column.offsets)


def rows_of(batch: Batch, begin: int, end: int) -> Batch:
    """Samples begin..end of a batch of ragged columns."""
    columns = {}
    for name, column in batch.columns.items():
        assert isinstance(column, Ragged)
        o = column.offsets[begin : end + 1]
        columns[name] = Ragged(column.flat[int(o[0]) : int(o[-1])], o - o[0])
    return Batch(columns, end - begin)


def first_weights(table: Table, seed: int) -> Tensor:
    """How the rows of VOCAB begin, by the declaration of `rows_init`."""
    n = len(VOCAB)
    slots = Slots({"weight": np.zeros((n, table.dim))})
    init = table.initializer
    rows_init.reference(
        slots,
        np.arange(n),
        np.ones(n, bool),
        np.zeros(n, np.int64),
        VOCAB.numpy(),
        np.array([table_salt(table.name)]),
        seed,
        init.kind,
        init.a,
        init.b,
    )
    return torch.from_numpy(slots["weight"])


class Twin:
    """Tables as dense float64 parameters over VOCAB, updated only where a batch touched them."""

    def __init__(
        self,
        features: Sequence[Feature],
        make: Callable[[Tensor, float], torch.optim.Optimizer],
        seed: int = 0,
    ) -> None:
        self.features = features
        tables = {f.table.name: f.table for f in features}
        self.params = {
            name: first_weights(table, seed).requires_grad_() for name, table in tables.items()
        }
        self.optimizers = {n: make(p, tables[n].rate) for n, p in self.params.items()}
        self.touched = {n: torch.zeros(len(VOCAB), dtype=torch.bool) for n in tables}

    def leaves(self, batch: Batch) -> dict[str, Tensor]:
        return {f.name: self._leaf(f, batch) for f in self.features}

    def _leaf(self, f: Feature, batch: Batch) -> Tensor:
        column = batch.ragged(f.column)
        at = (column.flat[:, None] == VOCAB).int().argmax(1)
        w = torch.ones(len(at)) if f.weights is None else batch.ragged(f.weights).flat
        if f.length is None:
            self.touched[f.table.name][at] = True
        each = self.params[f.table.name][at] * w[:, None].double()
        bags = list(zip(column.offsets[:-1].tolist(), column.offsets[1:].tolist(), strict=True))
        if f.length is None:
            sums = [each[a:b].sum(0) for a, b in bags]
            if f.pooling == "mean":
                totals = [float(w[a:b].double().sum()) for a, b in bags]
                sums = [s / t if t else s * 0 for s, t in zip(sums, totals, strict=True)]
            return torch.stack(sums) if sums else each.new_zeros(0, f.table.dim)
        tiles = []
        for a, b in bags:
            b = min(b, a + f.length)
            self.touched[f.table.name][at[a:b]] = True
            tiles.append(torch.nn.functional.pad(each[a:b], (0, 0, 0, f.length - (b - a))))
        return torch.stack(tiles) if tiles else each.new_zeros(0, f.length, f.table.dim)

    def step(self) -> None:
        """torch's update of the touched rows; all state of the others is put back."""
        for name, optimizer in self.optimizers.items():
            p, kept = self.params[name], ~self.touched[name]
            p.grad = torch.zeros_like(p) if p.grad is None else p.grad
            held = [t for t in optimizer.state[p].values() if t.shape == p.shape]
            before = [t[kept].clone() for t in (p.detach(), *held)]
            optimizer.step()
            now = [t for t in optimizer.state[p].values() if t.shape == p.shape]
            for i, t in enumerate((p.detach(), *now)):
                t[kept] = before[i] if i < len(before) else torch.zeros_like(t[kept])
            p.grad = None
            self.touched[name].zero_()


def loss_of(leaves: dict[str, Tensor]) -> Tensor:
    """A sum over samples in which every element of every leaf matters differently."""
    total = torch.zeros((), dtype=torch.float64)
    for leaf in leaves.values():
        flat = leaf.double().flatten(1)
        slope = torch.linspace(-1.0, 1.5, flat.shape[1], dtype=torch.float64)
        total = total + torch.tanh(flat * slope + 0.3).square().sum()
    return total
