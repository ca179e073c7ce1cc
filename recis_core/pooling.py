"""Rows to leaves and back: what the model receives, and the gradients it leaves behind."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from recis_core import jagged
from recis_core.blocks import Blocks
from recis_core.kernels import Kernels
from recis_core.packing import Packed, Run
from recis_core.routing import Exchange, Route


@dataclass(frozen=True)
class Transposed:
    """For each distinct pair the leaf rows made of it: what `ids_transpose` returns."""

    starts: Tensor
    segments: Tensor
    weights: Tensor | None


def transpose(kernels: Kernels, packed: Packed, inverse: Tensor, distinct: int) -> Transposed:
    """The transposed index of a group's batch, over the rows of all its leaves."""
    given = inverse, packed.offsets, packed.weights, distinct
    starts, segments, carried = kernels.ids_transpose(*given)
    return Transposed(starts, segments, None if packed.weights is None else carried)


@dataclass(frozen=True)
class Leaves:
    """The leaves of a group, one under the other.

    values [leaf rows, dim]; scale [rows that are means] float32, their 1 / Σw: they are the first
    ones; None without means.
    """

    values: Tensor
    scale: Tensor | None

    @property
    def grad(self) -> Tensor | None:
        """[leaf rows, dim] float32, None until backward() reached any of them."""
        return None if self.values.grad is None else self.values.grad.float()

    def scale_means(self, grad: Tensor) -> None:
        """Make `grad` of the leaves that of sums, in place, once.

        A scale looked up for each value costs as much as a narrow row.
        """
        if self.scale is not None:
            grad[: len(self.scale)].mul_(self.scale[:, None])


def pool(
    kernels: Kernels,
    exchange: Exchange,
    runs: Sequence[Run],
    packed: Packed,
    way: Route,
    blocks: Blocks,
    rows: Tensor,
    memory: Tensor | None = None,
) -> Leaves:
    """The leaves made of `rows`, which this rank owns and answers who asked with.

    All but the ragged ones are sums, so that one launch makes them; a mean is a sum, scaled, and a
    position of a tile a sum of one value or none. `memory` [leaf rows, dim]: where they are to be,
    if it is as large as they are and none is ragged.
    """
    sizes = packed.sizes(runs)
    pooled = [run for run in runs if run.pooling != "ragged"]
    features = sum(len(run.features) for run in pooled)
    end, values = sum(sizes[:features]), packed.begins[features]
    index, ragged = way.inverse[:values], way.inverse[values:]
    # Rows are read where they lie, so they must lie here.
    answered = None
    if exchange.world > 1:
        gathered = kernels.rows_gather(blocks, "weight", rows)
        answered = exchange.send(gathered, way.received, way.sent)
    made, scale = [], None
    if features:
        weights = None if packed.weights is None else packed.weights[:values]
        args = index, packed.offsets[: end + 1], weights
        if answered is None:
            fits = memory is not None and features == len(sizes) and len(memory) == end
            into = {"out": memory.detach()} if memory is not None and fits else {}
            pool_rows: Callable[..., Tensor] = kernels.rows_pool
            sums = pool_rows(blocks, "weight", rows, *args, **into)
        else:
            sums = kernels.segment_sum(answered, *args)
        scale = scaled(kernels, pooled, packed, way, sums)
        made.append(sums)
    if features < len(sizes):
        own = jagged.gather(kernels, blocks, rows, ragged) if answered is None else None
        made.append(answered.index_select(0, ragged) if answered is not None else own)
    return Leaves(torch.cat(made) if len(made) > 1 else made[0], scale)


def scaled(
    kernels: Kernels, runs: Sequence[Run], packed: Packed, way: Route, sums: Tensor
) -> Tensor | None:
    """Make the `sums` of features that are means, the first ones, means; -> their scale."""
    features = sum(len(run.features) for run in runs if run.pooling == "mean")
    if not features:
        return None
    end, values = features * packed.rows, packed.begins[features]
    weights = None if packed.weights is None else packed.weights[:values]
    # What is averaged does not matter here, only what it is divided by.
    ones = torch.ones(max(len(way), 1), 1, device=sums.device)
    args = ones, way.inverse[:values], packed.offsets[: end + 1], weights
    _, scale = kernels.segment_mean(*args)
    sums[:end].mul_(scale[:, None])  # `*=` would also copy it to itself
    return scale


def split(runs: Sequence[Run], leaves: Leaves, packed: Packed, train: bool) -> dict[str, Tensor]:
    """The leaf of every feature, [rows, dim], [rows, length, dim] or [values, dim]: views of what
    was pooled, which, when training, requires grad."""
    with torch.set_grad_enabled(train):
        parts = iter(leaves.values.requires_grad_(train).split(packed.sizes(runs)))
        return {
            f.name: next(parts)
            if run.length is None
            else next(parts).view(packed.rows, run.length, leaves.values.shape[1])
            for run in runs
            for f in run.features
        }


def gradient(
    kernels: Kernels, grad: Tensor, scale: Tensor | None, transposed: Transposed
) -> Tensor:
    """Gradient [U, dim] float32 of each distinct pair's row, from that [leaf rows, dim] of all
    leaves."""
    t = transposed
    if scale is None:
        return kernels.segment_sum_grad(grad, t.starts, t.segments, t.weights)
    return kernels.segment_mean_grad(grad, scale, t.starts, t.segments, t.weights)
