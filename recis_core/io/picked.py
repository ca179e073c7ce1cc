"""Rows of a column in another order, gathered only when they are written to their place."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np


@dataclass(frozen=True)
class Picked:
    """Stretches of `values`: from `first` on, as long as `bounds` [stretches + 1] are apart; one
    value each where `bounds` is None. To be staged like an array of `dtype`."""

    values: np.ndarray
    first: np.ndarray
    bounds: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.first) if self.bounds is None else int(self.bounds[-1])

    @property
    def dtype(self) -> np.dtype:
        return self.values.dtype

    @cached_property
    def nbytes(self) -> int:
        return len(self) * self.values.itemsize

    def write(self, out: np.ndarray) -> None:
        """Gather into `out` [len], which mode "clip" alone does without another copy."""
        index = self.first if self.bounds is None else expanded(self.first, self.bounds)
        np.take(self.values, index, out=out, mode="clip")


def expanded(first: np.ndarray, bounds: np.ndarray) -> np.ndarray:
    """The numbers of the values of stretches, end to end."""
    index = np.repeat(first - bounds[:-1], np.diff(bounds))
    index += np.arange(len(index))
    return index


def picked(
    bounds: tuple[np.ndarray, ...], values: np.ndarray, width: int, rows: np.ndarray
) -> tuple[tuple[np.ndarray, ...], Picked]:
    """Bounds and values of `rows` (numbers of rows) of a column as `Raw` keeps it; without bounds
    a row has `width` values."""
    if not bounds:
        if width == 1:
            return (), Picked(values, rows)
        return (), Picked(values, rows * width, np.arange(len(rows) + 1) * width)
    level, inner = bounds[0], bounds[1:]
    first = level[rows].astype(np.int64)
    own = np.zeros(len(rows) + 1, np.int64)
    np.cumsum(level[rows + 1] - first, out=own[1:])
    first -= int(level[0])
    outer = own.astype(level.dtype, copy=False)
    if not inner:
        return (outer,), Picked(values, first, own)
    within, chosen = picked(inner, values, 1, expanded(first, own))
    return (outer, *within), chosen
