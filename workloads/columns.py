"""Synthetic columns: what they are, and one chunk of rows of them drawn from a seeded stream."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from recis_core import draw
from recis_core.mixing import mix64


@dataclass(frozen=True)
class IdColumn:
    """Skewed ids: `vocab` possible ones over 64 bits, popularity rank k with weight (k + 1)^-skew.

    `mean`: mean length of a row's list (Poisson, some are empty); None: exactly one id per row.
    `weighted`: a column `<name>_weight` of weights >= 0 stands beside it.
    """

    name: str
    vocab: int
    skew: float = 1.05
    mean: float | None = None
    weighted: bool = False

    @property
    def weight_name(self) -> str:
        return f"{self.name}_weight"


@dataclass(frozen=True)
class Drawn:
    """One chunk of an id column: popularity ranks, offsets (None: one id per row), weights."""

    ranks: np.ndarray  # [n] int64 in [0, vocab)
    offsets: np.ndarray | None  # [rows + 1] int64
    weights: np.ndarray | None  # [n] float32

    @property
    def ids(self) -> np.ndarray:
        return ids_of(self.ranks)


def ids_of(ranks: np.ndarray) -> np.ndarray:
    """int64 ids of popularity ranks, a bijection: the id of a rank is the same in every column."""
    return mix64(ranks.astype(np.uint64) + np.uint64(1)).view(np.int64)


def draw_ids(rng: np.random.Generator, column: IdColumn, rows: int) -> Drawn:
    if column.mean is None:
        return Drawn(draw.zipf(rng, rows, column.vocab, column.skew), None, None)
    offsets = draw.offsets(rng, rows, column.mean)
    n = int(offsets[-1])
    ranks = draw.zipf(rng, n, column.vocab, column.skew)
    return Drawn(ranks, offsets, draw.weights(rng, n) if column.weighted else None)


def draw_dense(rng: np.random.Generator, columns: Sequence[str], rows: int) -> np.ndarray:
    """float32 [len(columns), rows], standard normal."""
    return draw.normal(rng, len(columns), rows)


def arrow_arrays(column: IdColumn, drawn: Drawn) -> dict[str, pa.Array]:
    """The Arrow columns of a chunk: int64, or list<int64> (and list<float> of weights)."""
    ids = pa.array(drawn.ids)
    if drawn.offsets is None:
        return {column.name: ids}
    offsets = pa.array(drawn.offsets.astype(np.int32))
    arrays: dict[str, pa.Array] = {column.name: pa.ListArray.from_arrays(offsets, ids)}
    if drawn.weights is not None:
        weights = pa.array(drawn.weights)
        arrays[column.weight_name] = pa.ListArray.from_arrays(offsets, weights)
    return arrays
