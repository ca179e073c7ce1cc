"""The cases in which the best public GPU kernels were measured, with the bytes their tables state.

Stated bytes: index at the width moved, rows as often as they are asked for, outputs once; see
`share` for what they are divided by. Rows lie in blocks of 2^20, slots side by side.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from recis_core.blocks import Blocks, Slot
from recis_core.kernels import Kernels
from recis_core.mixing import GOLDEN, table_salt

DIMS = (8, 16, 32, 64, 128)
SEGMENTS = ((262144, 4, 524288), (65536, 32, 1048576), (4096, 512, 1048576))
SPREAD = GOLDEN - (1 << 64)  # an odd factor: ids that look random


@dataclass(frozen=True)
class Anchor:
    """A timed call: `nbytes` by the anchors' rule, `goal` as percent of the copy roof.

    With `pairs` the rate that counts is pairs a second, and the goal is in G pairs/s. `before` is
    run untimed in front of every call, of which there are `samples`, None: as many as usual.
    """

    op: str
    case: str
    call: Callable[[], Any]
    nbytes: int
    goal: float | None = None
    pairs: int | None = None
    before: Callable[[], None] | None = None
    samples: int | None = None


def filled(rows: int, dim: int, slots: tuple[str, ...], device: torch.device) -> Blocks:
    blocks = Blocks([Slot(name, dim) for name in slots], 20, device)
    blocks.grow(rows)
    for tensor in blocks.tensors:
        tensor.view(torch.float32).uniform_()
    return blocks


def rows(k: Kernels, device: torch.device) -> Iterator[Anchor]:
    """Gather and scatter of 2 M of up to 20 M rows; AdamW on 1 M of 8.4 M."""
    goals = zip(DIMS, (46, 72, 90, 94, 95), (37, 62, 86, 93, 94), (54, 75, 86, 92, 93), strict=True)
    for dim, gather, scatter, adamw in goals:
        n, total = 1 << 21, 20_000_000 if dim < 128 else 1 << 23
        case, moved = f"D={dim} n={n} V={total}", 4 * n + 8 * n * dim
        blocks = filled(total, dim, ("weight",), device)
        at = torch.randperm(total, device=device)[:n].int()
        values = torch.randn(n, dim, device=device)
        call = called(k.rows_gather, blocks, "weight", at)
        yield Anchor("rows_gather", case, call, moved, gather)
        call = called(k.rows_scatter, blocks, "weight", at, values)
        yield Anchor("rows_scatter", case, call, moved, scatter)
        del blocks, at, values, call
        n, total = 1 << 20, 1 << 23
        blocks = filled(total, dim, ("weight", "mean", "square"), device)
        at = torch.randperm(total, device=device)[:n].int()
        grad = torch.randn(n, dim, device=device)
        step = (blocks, at, grad, None, None, 1e-3, 0.9, 0.999, 1e-8, 0.01, 0.9, 0.999, "torch")
        case, moved = f"D={dim} n={n} V={total}", 4 * n + 28 * n * dim
        yield Anchor("rows_adamw", case, called(k.rows_adamw, *step), moved, adamw)
        del blocks, at, grad, step


def segments(k: Kernels, device: torch.device) -> Iterator[Anchor]:
    """S segments of L values of U rows: sum, its gradient, and the transposed index."""
    goals = {
        8: (60, 50, 45),
        16: (78, 68, 60),
        32: (95, 94, 85),
        64: (97, 97, 93),
        128: (97, 97, 93),
    }
    for dim in DIMS:
        for (count, length, distinct), goal in zip(SEGMENTS, goals[dim], strict=True):
            n, case = count * length, f"D={dim} S={count} L={length} U={distinct}"
            values = torch.randn(distinct, dim, device=device)
            index = torch.randint(0, distinct, (n,), device=device, dtype=torch.int32)
            offsets = torch.arange(0, n + 1, length, device=device, dtype=torch.int32)
            moved = 4 * n + 4 * (count + 1) + 4 * dim * (n + count)
            call = called(k.segment_sum, values, index, offsets, None)
            yield Anchor("segment_sum", case, call, moved, goal)
            starts, places, _ = k.ids_transpose(index, offsets, None, distinct)
            grad = torch.randn(count, dim, device=device)
            moved = 4 * n + 4 * (count + 1) + 4 * dim * (count + distinct)
            call = called(k.segment_sum_grad, grad, starts, places, None)
            yield Anchor("segment_sum_grad", case, call, moved, 50)
            if dim == DIMS[0] and length < 512:
                call = called(k.ids_transpose, index, offsets, None, distinct)
                yield Anchor("ids_transpose", f"n={n} U={distinct}", call, 8 * n + 4 * distinct, 8)


def zipf(n: int, device: torch.device) -> Tensor:
    """Ranks of 100 M ids, exponent 1.05, by inversion of the continuous distribution."""
    u = torch.rand(n, device=device, dtype=torch.float64)
    top, power = 1e8 + 1, 1 - 1.05
    return (1 + u * (top**power - 1)).pow(1 / power).long()


def partition(k: Kernels, device: torch.device) -> Iterator[Anchor]:
    """Dedupe and group by owner, ids of 100 M, zipf or uniform, one owner or eight."""
    salts = torch.tensor([table_salt("table")], device=device)
    tables = torch.zeros(1, device=device, dtype=torch.int32)
    for log2 in (20, 22, 24):
        n = 1 << log2
        splits = torch.tensor([0, n], device=device, dtype=torch.int32)
        for kind, goal in (("zipf", 7), ("uniform", 8)):
            drawn = (
                zipf(n, device) if kind == "zipf" else torch.randint(0, 10**8, (n,), device=device)
            )
            ids = drawn * SPREAD
            moved = 12 * n + 8 * len(ids.unique())
            for world in (1, 8):
                call = called(k.ids_partition, ids, splits, tables, salts, world)
                yield Anchor("ids_partition", f"n={n} {kind} P={world}", call, moved, goal)


def called(function: Callable[..., Any], *args: Any) -> Callable[[], Any]:
    return lambda: function(*args)


def share(anchor: Anchor, seconds: float, copy: float) -> float:
    """Stated bytes over time and the measured copy bandwidth (bytes per second)."""
    return anchor.nbytes / seconds / copy
