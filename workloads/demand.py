"""What a skewed id column asks of its table: how many values, how many distinct ones."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

EXACT = 4096  # ranks counted one by one; the rarer ones in bins of nearly equal chance
BINS = 2000


@dataclass(frozen=True)
class Demand:
    """A feature's ids: `per_row` values in a mean row, of `vocab` ids drawn as by `draw.zipf`."""

    per_row: float
    vocab: int
    skew: float

    def distinct(self, rows: float) -> float:
        """Expected number of distinct ids in `rows` rows."""
        draws = rows * self.per_row
        if not draws:
            return 0.0
        edges = np.arange(min(self.vocab, EXACT) + 1, dtype=np.float64)
        if self.vocab > EXACT:
            rare = np.unique(np.geomspace(EXACT, self.vocab, BINS).round())
            edges = np.concatenate([edges, rare[1:]])
        count = np.diff(edges)
        chance = np.diff(self._below(edges)) / count
        with np.errstate(divide="ignore"):
            never = draws * np.log1p(-np.minimum(chance, 1.0))
        return float((count * -np.expm1(never)).sum())

    def _below(self, rank: np.ndarray) -> np.ndarray:
        """The chance of a rank below `rank`, from 0 to vocab."""
        if self.skew == 0 or self.vocab == 1:
            return rank / self.vocab
        if self.skew == 1:
            return np.log1p(rank) / math.log1p(self.vocab)
        power = 1 - self.skew
        return ((rank + 1) ** power - 1) / ((self.vocab + 1.0) ** power - 1)


@dataclass(frozen=True)
class Mixture:
    """A feature's ids, `per_row` in a mean row, of several kinds that have none in common: of
    each its share of the values and a `Demand` whose own `per_row` does not matter."""

    per_row: float
    parts: tuple[tuple[float, Demand], ...]

    def distinct(self, rows: float) -> float:
        """Expected number of distinct ids in `rows` rows."""
        each = (replace(d, per_row=share * self.per_row) for share, d in self.parts)
        return sum(demand.distinct(rows) for demand in each)


def shown(mean: float, length: int) -> float:
    """Mean number of values that are left of a Poisson row of this mean, cut to `length`."""
    chance, below, kept = math.exp(-mean), 0.0, 0.0
    for k in range(length):
        below += chance
        kept += 1 - below
        chance *= mean / (k + 1)
    return kept
