"""The sparse part of a training step, from partition to update, without reading and dense model.

A model of many features whose tables lie in groups of several dims; gradients of the leaves are
drawn once, those of means as if scaled. What is timed is what `Embedding` and `RowOptimizer` call.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from recis_core import pooling
from recis_core.accumulator import LeafGradients
from recis_core.kernels import Kernels
from recis_core.mixing import GOLDEN
from recis_core.optim import AdamW, update, update_by_leaves
from recis_core.packing import Bags, Packed, Run, pack, runs_of
from recis_core.routing import Asking, Local, routes
from recis_core.schema import Feature, Table
from recis_core.spans import Span
from recis_core.table import Group

SPREAD = GOLDEN - (1 << 64)  # an odd factor: ids that look random
RULE = AdamW(lr=1e-3)


@dataclass(frozen=True)
class Size:
    """`features` in groups of `dims`; a batch of `rows` samples, `mean` ids a feature and sample,
    popularity by `skew` among `vocab` ids a feature; `batches` are taken in turn."""

    features: int
    dims: tuple[int, ...]
    rows: int
    mean: int
    vocab: int
    skew: float
    batches: int

    @property
    def ids(self) -> int:
        return self.features * self.rows * self.mean

    def __str__(self) -> str:
        dims = "/".join(map(str, self.dims))
        return (
            f"{self.features} features, D={dims}, {self.rows} rows, {self.ids} ids, "
            f"vocab={self.vocab} skew={self.skew}"
        )


class Part:
    """A group of the model with its batches, and the gradients its leaves get."""

    def __init__(self, kernels: Kernels, size: Size, dim: int) -> None:
        count = size.features // len(size.dims)
        tables = [Table(f"{dim}-{i}", dim) for i in range(count)]
        features = [
            Feature(t.name, t.name, t, "sum" if i % 2 else "mean") for i, t in enumerate(tables)
        ]
        self.kernels, self.size, self.dim = kernels, size, dim
        self.runs = runs_of(features)
        self.group = Group(
            tables, RULE.slots(dim), kernels, seed=0, log2_rows=18, limit=(1 << 31) - 1
        )
        order = [f.table.name for run in self.runs for f in run.features]
        numbers = [[t.name for t in tables].index(name) for name in order]
        self.columns = torch.tensor(numbers, dtype=torch.int32, device=kernels.device)
        device = torch.device(kernels.device)
        self.packed = [packed(self.runs, size, device) for _ in range(size.batches)]
        self.grad = torch.randn(count * size.rows, dim, device=kernels.device)
        self.state = RULE.begin()

    def step(self, number: int, fused: bool, clock: Clock) -> None:
        """Partition to update of batch `number`; `clock` is told what has been done."""
        kernels, group, exchange = self.kernels, self.group, Local()
        batch = self.packed[number % len(self.packed)]
        asking = Asking(batch.ids, batch.splits, self.columns, group.salts)
        (way,) = routes(kernels, exchange, [asking])
        clock("partition")
        found = group.find(way.tables, way.ids)
        group.reserve(found, way.tables)
        rows = group.insert(found, way.tables, way.ids)
        clock("find")
        index = pooling.transpose(kernels, batch, way.inverse, len(way))
        clock("transpose")
        pooling.pool(kernels, exchange, self.runs, batch, way, group.blocks, rows)
        clock("pool")
        held = LeafGradients(rows, way.tables, self.grad, None, index)
        scalars = RULE.scalars(RULE.lr, self.state)
        if fused:
            update_by_leaves(RULE.op, group, held, None, scalars)
        else:
            update(RULE.op, group, held.reduced(kernels), None, None, scalars)
        clock("update")


def packed(runs: tuple[Run, ...], size: Size, device: torch.device) -> Packed:
    """A batch of a group; every bag has `mean` ids."""
    names = [f.name for run in runs for f in run.features]
    each = size.rows * size.mean
    ids = zipf(len(names) * each, size, device) * SPREAD
    bags = {
        name: Bags(Span(ids, i * each, each, size.rows, size.mean, None, 0))
        for i, name in enumerate(names)
    }
    (found,) = pack([runs], bags, size.rows, device)
    return found


def zipf(n: int, size: Size, device: torch.device) -> Tensor:
    """Ranks below `vocab`, by inversion of the continuous distribution."""
    u = torch.rand(n, device=device, dtype=torch.float64)
    power = 1 - size.skew
    return (1 + u * ((size.vocab + 1.0) ** power - 1)).pow(1 / power).long()


class Clock:
    """Seconds of each stage; `watching` waits for the device after each, so it slows the step."""

    def __init__(self, device: torch.device, watching: bool) -> None:
        self.device, self.watching = device, watching
        self.stages: dict[str, float] = {}
        self.began = time.perf_counter()

    def __call__(self, stage: str) -> None:
        if self.watching:
            wait(self.device)
            now = time.perf_counter()
            self.stages[stage] = self.stages.get(stage, 0.0) + now - self.began
            self.began = now


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class SparseStep:
    """All groups of a model on one backend, in a steady state: every id has its row."""

    def __init__(self, kernels: Kernels, size: Size) -> None:
        self.device, self.size = torch.device(kernels.device), size
        torch.manual_seed(0)
        self.parts = [Part(kernels, size, d) for d in size.dims]
        self.number = 0

    def run(self, fused: bool, watching: bool = False) -> tuple[float, dict[str, float]]:
        """Seconds of the next step and, `watching`, of each of its stages."""
        wait(self.device)
        begin = time.perf_counter()
        clock = Clock(self.device, watching)
        for part in self.parts:
            part.step(self.number, fused, clock)
        wait(self.device)
        self.number += 1
        return time.perf_counter() - begin, dict(clock.stages)

    def weights(self) -> list[Any]:
        """float64 sums of the weights of each group: to see that two backends did the same."""
        return [
            float(sum(v.double().abs().sum() for v in part.group.blocks.views("weight")))
            for part in self.parts
        ]

    @property
    def rows(self) -> int:
        return sum(part.group.rows for part in self.parts)
