"""Torch functions around the reference: memory they should not touch, outputs not their own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from backends.reference import adapt
from recis_core.kernels import find_op
from recis_core.spec import Op
from tests.mutants.change import Call, Change


def static(op: Op[..., Any]) -> Call:
    """Returns one buffer for every call of a shape."""
    right, buffers = adapt(op), {}

    def call(*args: Any) -> Any:
        (out,) = right(*args)
        return buffers.setdefault((out.shape, out.dtype), torch.empty_like(out)).copy_(out)

    return call


def stale(op: Op[..., Any]) -> Call:
    """Writes a buffer once and returns it ever after."""
    right, buffers = adapt(op), {}

    def call(*args: Any) -> Any:
        key = tuple(a.shape if isinstance(a, Tensor) else id(a) for a in args)
        if key not in buffers:
            (buffers[key],) = right(*args)
        return buffers[key]

    return call


def flip_sign(values: Tensor, *rest: Any) -> None:
    values.neg_()


def spill(blocks: Any, *rest: Any) -> None:
    """Writes the padding after the last slot of row 0."""
    last = list(blocks.slots.values())[-1]
    blocks.tensors[0][0, last.offset + last.nbytes :] = 0


def nudge(blocks: Any, rows: Tensor, *rest: Any) -> None:
    """Changes the last bit of a weight whose row is not among `rows`."""
    free = sorted(set(range(blocks.capacity)) - set(rows.tolist()))
    at = free[-1] if free else 0
    line = blocks.tensors[at >> blocks.log2_rows][at & ((1 << blocks.log2_rows) - 1)]
    line[blocks.slots["weight"].offset] ^= bool(free)


def minus_one_written(op: Op[..., Any]) -> Call:
    """-1 is taken for the last row, as Python indexes do."""
    right = adapt(op)

    def call(blocks: Any, rows: Tensor, *rest: Any) -> Any:
        free = sorted(set(range(blocks.capacity)) - set(rows.tolist()))
        absent = (rows < 0).nonzero().flatten()[:1]
        rows = rows.clone()
        rows[absent] = free[-1] if free else 0
        return right(blocks, rows, *rest)

    return call


def padded(extra: int) -> Change:
    """Legal: outputs of data-dependent length padded with anything."""

    def make(op: Op[..., Any]) -> Call:
        right = adapt(op)

        def call(*args: Any) -> Any:
            ids, tables, counts, inverse = right(*args)
            tail = torch.full((extra,), 99)
            return torch.cat([ids, tail]), torch.cat([tables, tail.int()]), counts, inverse

        return call

    return make


def shard_reversed(op: Op[..., Any]) -> Call:
    """Legal: every owner's run in another order."""
    right = adapt(op)

    def call(*args: Any) -> Any:
        ids, tables, counts, inverse = right(*args)
        ends = counts.cumsum(0)
        runs = [torch.arange(int(e - c), int(e)).flip(0) for c, e in zip(counts, ends, strict=True)]
        order = torch.cat(runs)
        place = torch.empty_like(order)
        place[order] = torch.arange(len(order))
        return ids[order], tables[order], counts, place[inverse.long()].to(inverse.dtype)

    return call


def at_first_step(op: Op[..., Any]) -> Call:
    right = adapt(op)
    names = [p.name for p in op.params]

    def call(*args: Any) -> Any:
        named = dict(zip(names, args, strict=True))
        named.update(power1=named["beta1"], power2=named["beta2"])
        return right(*named.values())

    return call


def unwritten_nan(op: Op[..., Any]) -> Call:
    """Fills the boundary's outputs, but leaves a group without an answer as it was."""
    right = adapt(op)

    def call(labels: Any, scores: Any, offsets: Any, auc: Tensor, positives: Tensor) -> None:
        value, count = right(labels, scores, offsets)
        known = ~value.isnan()
        auc[known] = value[known]
        positives.copy_(count)

    return call


def between(change: Callable[[Tensor], Tensor]) -> Change:
    """A fused optimizer as two ops, its leaves' gradient and their sum in what `change` makes."""

    def make(op: Op[..., Any]) -> Call:
        update = adapt(find_op(op.name.replace("reduce_", "")))
        reduce = [adapt(find_op(f"segment_{kind}_grad")) for kind in ("sum", "mean")]

        def call(
            blocks: Any, rows: Any, grad: Any, scale: Any, starts: Any, segments: Any,
            weights: Any, *rest: Any,
        ) -> None:  # fmt: skip
            scales = () if scale is None else (scale,)
            given = (change(grad), *scales, starts, segments, weights)
            update(blocks, rows, *reduce[len(scales)](*given), None, *rest)

        return call

    return make


rounded_between = between(lambda grad: grad)
float32_between = between(Tensor.float)


def without_huge_rows(op: Op[..., Any]) -> Call:
    """Rows with hundreds of gradients stay as they are."""
    right = adapt(op)

    def call(blocks: Any, rows: Tensor, grad: Any, scale: Any, starts: Tensor, *rest: Any) -> Any:
        rows = rows.masked_fill(starts.diff() >= 400, -1)
        return right(blocks, rows, grad, scale, starts, *rest)

    return call


def without_last(out: Tensor, *args: Any) -> Tensor:
    """The last segment, or row, left at zero."""
    out[-1:] = 0
    return out


def half_of(out: Tensor, right: Tensor) -> None:
    out[: len(out) // 2] = right[: len(out) // 2]
