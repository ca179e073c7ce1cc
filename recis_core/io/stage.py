"""Staging: the raw columns of one batch in one buffer, described for `columns_unpack`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from recis_core.data import Batch, Placed, Unpacked
from recis_core.io.column import Raw
from recis_core.io.copies import fill
from recis_core.io.direct import NOTHING, Direct
from recis_core.io.picked import Picked
from recis_core.kernels import Kernels
from recis_core.ops.columns_unpack import ALIGN, SOURCES, TARGETS
from recis_core.schema import Column

TARGET_OF = {"ids": "ids", "values": "values", "strings": "bytes"}
SOURCE_AT = {np.dtype(name): at for at, name in enumerate(SOURCES)}
TARGET_AT = {name: at for at, name in enumerate(TARGETS)}


@dataclass(frozen=True)
class Staged:
    """A batch on its way to the device: bytes as files had them and what they are to become.

    `pieces` [P, 6], at the end of `buffer`, and `sizes` (ids, values, bytes, bounds) are the
    arguments of columns_unpack.
    """

    buffer: Tensor  # uint8, one allocation, pinned when asked
    pieces: Tensor
    sizes: tuple[int, int, int, int]
    placed: Mapping[str, Placed]
    rows: int

    @property
    def nbytes(self) -> int:
        return self.buffer.nbytes


class Layout:
    """Grows the table of pieces and the sizes of the outputs, one array at a time, after what is
    read straight from files."""

    def __init__(self, straight: Direct) -> None:
        self.arrays: list[np.ndarray | Picked] = []
        self.pieces: list[tuple[int, int, int, int, int, int]] = []
        self.sizes = dict(straight.sizes)
        self.nbytes = straight.nbytes

    def take(self, target: str, count: int) -> int:
        """Reserve `count` elements of an output; the first one's position."""
        start = self.sizes[target]
        self.sizes[target] += count
        return start

    def put(self, array: np.ndarray | Picked, target: str, to: int, base: int = 0) -> None:
        """Stage `array` for elements `to`... of `target`."""
        if not (count := len(array)):
            return
        source, at = SOURCE_AT[array.dtype], TARGET_AT[target]
        self.pieces.append((self.nbytes, count, source, at, to, base))
        self.arrays.append(array)
        self.nbytes += -(-count * array.dtype.itemsize // ALIGN) * ALIGN


def stage(
    columns: Sequence[Column],
    runs: Mapping[str, Sequence[Raw]],
    rows: int,
    pin: bool = False,
    straight: Direct = NOTHING,
) -> Staged:
    """Bring every run of every column once into a new buffer of `rows` rows, in page-locked memory
    if `pin`; runs of a column follow each other. Columns are in `runs` or in `straight`."""
    layout = Layout(straight)
    found = {one.name: one for one in straight.placed}
    if len(found) < len(columns):
        found |= {c.name: place(layout, c, runs[c.name]) for c in columns if c.name in runs}
        found = {c.name: found[c.name] for c in columns}
    own = np.array(layout.pieces, np.int64).reshape(-1, 6)
    pieces = np.concatenate([straight.pieces, own])
    # The table of pieces travels with them.
    buffer = torch.empty(layout.nbytes + pieces.nbytes, dtype=torch.uint8, pin_memory=pin)
    into = buffer.numpy()
    fill(into, straight.reads, [piece[0] for piece in layout.pieces], layout.arrays)
    into[layout.nbytes :].view(np.int64)[:] = pieces.ravel()
    ids, values, octets, bounds = (layout.sizes[t] for t in TARGETS)
    return Staged(buffer, table_of(buffer, len(pieces)), (ids, values, octets, bounds), found, rows)


def place(layout: Layout, column: Column, runs: Sequence[Raw]) -> Placed:
    """Lay out one column: each level's bounds, rebased run after run, then its values."""
    levels, starts = [], []
    for depth in range(len(runs[0].bounds) if runs else 0):
        segments = sum(len(run.bounds[depth]) - 1 for run in runs)
        to = layout.take("bounds", segments + 1)
        starts.append(to)
        base = 0
        for run in runs:
            bounds = run.bounds[depth]
            layout.put(bounds, "bounds", to, base)
            to += len(bounds) - 1
            base += int(bounds[-1]) - int(bounds[0])
        levels.append(segments)
    target = TARGET_OF[column.kind]
    count = sum(len(run.values) for run in runs)
    begin = to = layout.take(target, count)
    for run in runs:
        layout.put(run.values, target, to)
        to += len(run.values)
    width = None if levels else column.width
    return Placed(column.name, target, width, begin, count, tuple(levels), tuple(starts))


def table_of(buffer: Tensor, pieces: int) -> Tensor:
    """The table of pieces [pieces, 6] at the end of a buffer."""
    size = 6 * torch.int64.itemsize * pieces
    return buffer[len(buffer) - size :].view(torch.int64).view(-1, 6)


def unpack(staged: Staged, kernels: Kernels) -> Batch:
    """Move the buffer to the kernels' device, unpack it there; columns are views of the outputs."""
    device = torch.device(kernels.device)
    buffer = staged.buffer
    if device.type != "cpu":
        buffer = buffer.to(device, non_blocking=True)
    pieces = table_of(buffer, len(staged.pieces))
    outputs: Any = kernels.columns_unpack(buffer, pieces, *staged.sizes)
    named: dict[str, Tensor] = dict(zip(TARGETS, outputs, strict=True))
    return Batch(Unpacked(staged.placed, named, staged.rows), staged.rows)
