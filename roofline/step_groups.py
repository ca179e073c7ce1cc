"""What the groups of a training step ask of the kernels, drawn on the device at a workload's sizes.

Of the `mse` workload every feature is drawn as its definition says (how many ids, how skewed), then
packed as the engine packs it; ids are seeded, so two backends get the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from recis_core import pooling
from recis_core.blocks import Blocks
from recis_core.kernels import Kernels
from recis_core.mixing import GOLDEN, table_salt
from recis_core.optim import AdamW
from recis_core.packing import Bags, Packed, pack, runs_of
from recis_core.routing import Asking, Local, Route, routes
from recis_core.schema import Feature
from recis_core.spans import Span
from recis_core.table import Group, grouped
from workloads.columns import IdColumn
from workloads.mse import CONFIGS, feature_of, fields

SPREAD = GOLDEN - (1 << 64)  # an odd factor: ids that look random
RULE = AdamW(lr=1e-3)


@dataclass(frozen=True)
class StepGroup:
    """A group with one batch: its packed ids, distinct pairs, their rows, and leaf gradients."""

    dim: int
    packed: Packed
    columns: Tensor
    salts: Tensor
    route: Route
    blocks: Blocks
    rows: Tensor
    grad: Tensor

    def __str__(self) -> str:
        return f"D={self.dim} n={len(self.packed.ids)} U={len(self.route)} leaves={len(self.grad)}"


def ranks(n: int, column: IdColumn, device: torch.device) -> Tensor:
    """Popularity ranks, by inversion of the continuous distribution."""
    u = torch.rand(n, dtype=torch.float64, device=device)
    power = 1 - column.skew
    drawn = (1 + u * ((column.vocab + 1.0) ** power - 1)).pow(1 / power).long()
    return drawn.clamp_(1, column.vocab) - 1


def bag(column: IdColumn, length: int | None, rows: int, device: torch.device) -> Bags:
    """One batch of a column: one id a row, or Poisson many, cut to `length`."""
    count, width, offsets = rows, 1, None
    if column.mean is not None:
        lengths = torch.poisson(torch.full((rows,), float(column.mean), device=device)).int()
        offsets = torch.zeros(rows + 1, dtype=torch.int32, device=device)
        offsets[1:] = lengths.clamp(max=length or 1 << 30).cumsum(0)
        count, width = int(offsets[-1]), 0
    ids = ranks(count, column, device) * SPREAD
    span = Span(ids, 0, count, rows, width, offsets, 0)
    return Bags(
        span, span._replace(flat=torch.rand(count, device=device)) if column.weighted else None
    )


def step_groups(k: Kernels, device: torch.device, size: str, rows: int) -> Iterator[StepGroup]:
    """The groups of the `mse` workload of that size, a batch of `rows`, every id known."""
    torch.manual_seed(0)
    bags: dict[str, Bags] = {}
    features: dict[str, Feature] = {}
    for field in fields(CONFIGS[size]):
        features[field.column.name] = feature_of(field)
        bags[field.column.name] = bag(field.column, field.length, rows, device)
    for tables, own in grouped(list(features.values())):
        runs = runs_of(own)
        names = [f.name for run in runs for f in run.features]
        (packed,) = pack([runs], bags, rows, device)
        numbers = [tables.index(features[name].table) for name in names]
        columns = torch.tensor(numbers, dtype=torch.int32, device=device)
        salts = torch.tensor([table_salt(t.name) for t in tables], device=device)
        (way,) = routes(k, Local(), [Asking(packed.ids, packed.splits, columns, salts)])
        dim, leaves = tables[0].dim, len(packed.offsets) - 1
        group = Group(tables, RULE.slots(dim), k, seed=0, log2_rows=18, limit=(1 << 31) - 1)
        group.blocks.grow(2 * len(way))
        at = torch.randperm(2 * len(way), device=device)[: len(way)].int()
        grad = torch.randn(leaves, dim, device=device)
        yield StepGroup(dim, packed, columns, salts, way, group.blocks, at, grad)


def calls(k: Kernels, group: StepGroup) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """The ops of a step on the group, in order, with their arguments."""
    packed, inverse = group.packed, group.route.inverse
    index = pooling.transpose(k, packed, inverse, len(group.route))
    yield "ids_partition", (packed.ids, packed.splits, group.columns, group.salts, 1)
    yield "ids_transpose", (inverse, packed.offsets, packed.weights, len(group.route))
    pooled = inverse, packed.offsets, packed.weights
    yield "rows_pool", (group.blocks, "weight", group.rows, *pooled)
    leaves = index.starts, index.segments, index.weights
    yield "segment_sum_grad", (group.grad, *leaves)
    reduced = k.segment_sum_grad(group.grad, *leaves)
    yield "rows_norm", (reduced,)
    scalars = RULE.scalars(RULE.lr, RULE.begin())
    yield "rows_adamw", (group.blocks, group.rows, reduced, None, None, *scalars)
    yield "rows_reduce_adamw", (group.blocks, group.rows, group.grad, None, *leaves, None, *scalars)
