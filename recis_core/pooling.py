"""Rows to leaves and back: what the model receives, and the gradients it leaves behind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, groupby
from operator import itemgetter
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from recis_core import jagged
from recis_core.blocks import Blocks
from recis_core.kernels import Kernels
from recis_core.packing import Packed, Run, leaf_offsets, leaf_weights
from recis_core.routing import Exchange, Route


@dataclass(frozen=True)
class Transposed:
    """For each distinct pair the leaf rows made of it: what `ids_transpose` returns."""

    starts: Tensor
    segments: Tensor
    weights: Tensor | None


def transpose(
    kernels: Kernels, runs: Sequence[Run], packed: Packed, inverse: Tensor, distinct: int
) -> Transposed:
    """The transposed index of a group's batch, over the rows of all its leaves."""
    weights = leaf_weights(runs, packed)
    offsets = leaf_offsets(runs, packed)
    starts, segments, carried = kernels.ids_transpose(inverse, offsets, weights, distinct)
    return Transposed(starts, segments, None if weights is None else carried)


@dataclass
class Leaves:
    """The leaves of a group in one training step and, after backward(), their gradients.

    pooled: by run, [features · rows, dim], [features · rows, length, dim] or [values, dim]; scale
    [leaf rows] float32, 1 / Σw of rows that are means and 1 of others, None without means; grad
    [leaf rows, dim] float32, None until backward() reaches any of them.
    """

    pooled: list[Tensor]
    scale: Tensor | None
    grad: Tensor | None = field(default=None)


def pool(
    kernels: Kernels,
    exchange: Exchange,
    runs: Sequence[Run],
    packed: Packed,
    way: Route,
    blocks: Blocks,
    rows: Tensor,
) -> Leaves:
    """Gather `rows`, which this rank owns, answer who asked, and pool the leaves of every run."""
    values = None
    # A fused kernel reads rows where they lie, so they must lie here; a composed one would gather
    # them again for every run.
    fused = exchange.world == 1 and not kernels.origins["rows_pool"].endswith("(composed)")
    pooled, scales = [], []
    for run, part in zip(runs, packed.stretches, strict=True):
        index = way.inverse[part.begin : part.end]
        if run.pooling == "ragged" and exchange.world == 1:
            pooled.append(jagged.gather(kernels, blocks, rows, index))
            scales.append(None)
            continue
        if run.pooling == "sum" and fused:
            pooled.append(
                kernels.rows_pool(blocks, "weight", rows, index, part.offsets, part.weights)
            )
            scales.append(None)
            continue
        if values is None:
            gathered = kernels.rows_gather(blocks, "weight", rows)
            values = exchange.send(gathered, way.received, way.sent)
        args = (values, index, part.offsets, part.weights)
        scale = None
        if run.pooling == "ragged":
            out = values.index_select(0, index)
        elif run.pooling == "mean":
            out, scale = kernels.segment_mean(*args)
        elif run.length is not None:
            out = kernels.segment_tile(*args, run.length)
        else:
            out = kernels.segment_sum(*args)
        pooled.append(out)
        scales.append(scale)
    sizes = [
        run.segments(packed.rows, part.end - part.begin)
        for run, part in zip(runs, packed.stretches, strict=True)
    ]
    return Leaves(pooled, joined(scales, sizes))


def joined(scales: Sequence[Tensor | None], sizes: Sequence[int]) -> Tensor | None:
    """Scales of all leaf rows end to end, 1 where a run has none; None if no run has."""
    given = next((s for s in scales if s is not None), None)
    if given is None:
        return None
    if len(scales) == 1:
        return given
    every = given.new_ones(sum(sizes))
    for own, scale in zip(every.split(list(sizes)), scales, strict=True):
        if scale is not None:
            own.copy_(scale)
    return every


def split(runs: Sequence[Run], leaves: Leaves, packed: Packed) -> dict[str, Tensor]:
    """The leaf of every feature, [rows, dim], [rows, length, dim] or [values, dim]: views of what
    was pooled."""
    parts = {}
    for run, out, stretch in zip(runs, leaves.pooled, packed.stretches, strict=True):
        if run.pooling == "ragged":
            each = out.split(stretch.sizes)
        else:
            each = out.view(len(run.features), packed.rows, *out.shape[1:]).unbind(0)
        parts |= {f.name: part for f, part in zip(run.features, each, strict=True)}
    return parts


class _Handover(torch.autograd.Function):
    """Identity on leaves whose backward lays their gradients end to end, copying each once."""

    @staticmethod
    def forward(ctx: Any, token: Tensor, leaves: Leaves, *parts: Tensor) -> tuple[Tensor, ...]:
        ctx.set_materialize_grads(False)
        ctx.leaves, ctx.sizes = leaves, [part.shape[:-1].numel() for part in parts]
        ctx.dim = parts[0].shape[-1]
        return parts

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[None, ...]:
        leaves: Leaves = ctx.leaves
        if leaves.grad is None:
            device = leaves.pooled[0].device
            leaves.grad = torch.empty(sum(ctx.sizes), ctx.dim, device=device)
            lay(leaves.grad, grads, ctx.sizes)
        else:
            for own, grad in zip(leaves.grad.split(ctx.sizes), grads, strict=True):
                if grad is not None:
                    own += grad.reshape(own.shape)
        return (None, None, *(None for _ in grads))


def lay(out: Tensor, grads: Sequence[Tensor | None], sizes: Sequence[int]) -> None:
    """Write gradients end to end into `out`, zeros where there is none; `sizes` in rows of it."""
    ends = accumulate(sizes)
    flat = [grad is not None and grad.ndim == 2 for grad in grads]
    at = 0
    for alike, group in groupby(zip(flat, grads, ends, strict=True), key=itemgetter(0)):
        members = list(group)
        if alike:
            # One call for all of them costs half of what a copy of each does.
            given = [grad for _, grad, _ in members if grad is not None]
            torch.cat(given, out=out[at : members[-1][2]])
            at = members[-1][2]
            continue
        for _, grad, end in members:
            if grad is None:
                out[at:end].zero_()
            else:
                out[at:end].view(grad.shape).copy_(grad)
            at = end


def hand_over(leaves: Leaves, parts: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The leaves as tensors that require grad; backward() puts their gradients into `leaves`."""
    token = torch.empty(0, requires_grad=True)
    with torch.enable_grad():
        handed = _Handover.apply(token, leaves, *parts.values())
    return dict(zip(parts, handed, strict=True))  # pyright: ignore[reportArgumentType]


def gradient(kernels: Kernels, leaves: Leaves, transposed: Transposed) -> Tensor:
    """Gradient [U, dim] float32 of each distinct pair's row, from those of all leaves."""
    assert leaves.grad is not None
    t = transposed
    if leaves.scale is None:
        return kernels.segment_sum_grad(leaves.grad, t.starts, t.segments, t.weights)
    return kernels.segment_mean_grad(leaves.grad, leaves.scale, t.starts, t.segments, t.weights)
