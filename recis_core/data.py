"""What travels between files, features and models: ragged columns and the batches they form."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from recis_core.spans import Span, even_offsets


@dataclass(frozen=True)
class Ragged:
    """Segments laid end to end: segment i is `values[offsets[i]:offsets[i + 1]]`.

    `values` is a tensor or, for nested lists, again a `Ragged`. A string is a segment of uint8,
    so a list of strings is `Ragged(Ragged(bytes, string_offsets), row_offsets)`.
    """

    values: Tensor | Ragged
    offsets: Tensor  # [segments + 1], int32 where the extent allows, starts at 0

    def __len__(self) -> int:
        return self.offsets.shape[0] - 1  # len() of a tensor costs a microsecond

    @property
    def flat(self) -> Tensor:
        """The innermost values."""
        values = self.values
        while isinstance(values, Ragged):
            values = values.values
        return values

    @property
    def nbytes(self) -> int:
        return self.values.nbytes + self.offsets.nbytes

    @property
    def is_cpu(self) -> bool:
        return self.values.is_cpu and self.offsets.is_cpu

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Ragged:
        return Ragged(
            self.values.to(device, non_blocking=non_blocking),
            self.offsets.to(device, non_blocking=non_blocking),
        )


class Placed(NamedTuple):
    """A column in the unpacked outputs: its `count` elements of `target` from `begin` on.

    `levels`, outer to inner: how many segments its bounds have, which begin at `bounds`.
    """

    name: str
    target: str
    width: int | None
    begin: int
    count: int
    levels: tuple[int, ...]
    bounds: tuple[int, ...]


class Unpacked(Mapping[str, Tensor | Ragged]):
    """Name to column: dense tensors [rows, width] and `Ragged` of `rows` segments.

    A view is made when a column is asked for; `spans` say where they lie without making any.
    """

    def __init__(
        self, placed: Mapping[str, Placed], outputs: Mapping[str, Tensor], rows: int
    ) -> None:
        self.placed, self.outputs, self.rows = placed, outputs, rows
        self._views: dict[str, Tensor | Ragged] = {}

    @property
    def device(self) -> torch.device:
        return self.outputs["bounds"].device

    @property
    def nbytes(self) -> int:
        return sum(output.nbytes for output in self.outputs.values())

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Unpacked:
        outputs = {n: o.to(device, non_blocking=non_blocking) for n, o in self.outputs.items()}
        return Unpacked(self.placed, outputs, self.rows)

    def spans(self, kinds: Iterable[tuple[str, torch.dtype]]) -> list[Span | None]:
        """Where columns of numbers lie that are dense or have one level of nesting; None for what
        is not there, not of that dtype, or other than that."""
        bounds, rows, placed = self.outputs["bounds"], self.rows, self.placed
        flat: dict[str, tuple[Tensor, torch.dtype | None]]
        flat = {target: (values, values.dtype) for target, values in self.outputs.items()}
        flat["bytes"] = (bounds, None)  # strings have a level of their own
        found: list[Span | None] = []
        for name, dtype in kinds:
            p = placed.get(name)
            if p is None:
                found.append(None)
                continue
            _, target, width, begin, count, levels, at = p
            values, held = flat[target]
            if held is not dtype or len(levels) > 1:
                found.append(None)
            elif width is not None:
                found.append(Span(values, begin, count, rows, width, None, 0))
            else:
                found.append(Span(values, begin, count, rows, 0, bounds, at[0]))
        return found

    def __getitem__(self, name: str) -> Tensor | Ragged:
        if name not in self._views:
            self._views[name] = self._view(self.placed[name])
        return self._views[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.placed)

    def __len__(self) -> int:
        return len(self.placed)

    def _view(self, p: Placed) -> Tensor | Ragged:
        column: Tensor | Ragged = self.outputs[p.target][p.begin : p.begin + p.count]
        if p.width is not None:
            column = column.view(-1, p.width)
        for at, segments in reversed(list(zip(p.bounds, p.levels, strict=True))):
            column = Ragged(column, self.outputs["bounds"][at : at + segments + 1])
        return column


@dataclass(frozen=True)
class Batch:
    """`rows` samples: each column a dense tensor [rows, width] or a `Ragged` of `rows` segments."""

    columns: Mapping[str, Tensor | Ragged]
    rows: int

    @property
    def nbytes(self) -> int:
        whole = self.columns
        if isinstance(whole, Unpacked):
            return whole.nbytes
        return sum(column.nbytes for column in whole.values())

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Batch:
        whole = self.columns
        if isinstance(whole, Unpacked):
            there = whole.device.type == torch.device(device).type
            return self if there else Batch(whole.to(device, non_blocking), self.rows)
        if torch.device(device).type == "cpu" and all(c.is_cpu for c in whole.values()):
            return self
        moved = {n: c.to(device, non_blocking=non_blocking) for n, c in whole.items()}
        return Batch(moved, self.rows)

    def dense(self, name: str) -> Tensor:
        """Column `name` as the dense tensor it must be."""
        column = self.columns[name]
        if isinstance(column, Ragged):
            raise TypeError(f"column {name!r} is ragged; a dense one is needed")
        return column

    def ragged(self, name: str) -> Ragged:
        """Column `name` as segments; a dense column of width w has w values in each."""
        column = self.columns[name]
        if isinstance(column, Ragged):
            return column
        rows, width = column.shape
        return Ragged(column.flatten(), even_offsets(rows, width, column.device))
