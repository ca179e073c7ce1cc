"""What travels between files, features and models: ragged columns and the batches they form."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from recis_core.types import index_dtype


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


@dataclass(frozen=True)
class Batch:
    """`rows` samples: each column a dense tensor [rows, width] or a `Ragged` of `rows` segments."""

    columns: Mapping[str, Tensor | Ragged]
    rows: int

    @property
    def nbytes(self) -> int:
        return sum(column.nbytes for column in self.columns.values())

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Batch:
        if torch.device(device).type == "cpu" and all(c.is_cpu for c in self.columns.values()):
            return self
        moved = {n: c.to(device, non_blocking=non_blocking) for n, c in self.columns.items()}
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


@lru_cache(maxsize=64)
def even_offsets(rows: int, width: int, device: torch.device) -> Tensor:
    """Offsets of `rows` segments of `width` values each; shared, so not to be written to.

    Kept, because a wide model asks for the same ones a hundred times a step.
    """
    dtype = getattr(torch, index_dtype(rows * width))
    return (torch.arange(rows + 1, dtype=dtype) * width).to(device)
