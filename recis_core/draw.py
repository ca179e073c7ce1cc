"""Distributions shared by every input generator: skewed ids, ragged lengths, table content."""

from __future__ import annotations

import numpy as np

from recis_core.mixing import mix64
from recis_core.types import Slots

# Ids that break maps which reserve a key or count in fewer than 64 bits.
HOSTILE_IDS = np.array(
    [-(2**63), 2**63 - 1, -1, -2, 0, 1, 2**52, 2**52 + 1, 5, 5 + 2**52, 5 - 2**63, 2**32], np.int64
)


def zipf(rng: np.random.Generator, n: int, vocab: int, skew: float) -> np.ndarray:
    """`n` ranks in [0, vocab), rank k with weight ~ (k + 1)^-skew; skew 0 is uniform.

    Inverse of the continuous distribution function, so no table of `vocab` weights is needed.
    """
    if skew == 0 or vocab <= 1:
        return rng.integers(0, max(vocab, 1), n)
    u = rng.random(n)
    if skew == 1:
        x = np.exp(u * np.log(vocab + 1.0))
    else:
        x = (1 + u * ((vocab + 1.0) ** (1 - skew) - 1)) ** (1 / (1 - skew))
    return np.minimum(x.astype(np.int64) - 1, vocab - 1)


def ids(rng: np.random.Generator, n: int, vocab: int, skew: float) -> np.ndarray:
    """`n` int64 ids over all 64 bits, `vocab` possible ones, popularity as `zipf`."""
    return mix64(zipf(rng, n, vocab, skew).astype(np.uint64) + np.uint64(1)).view(np.int64)


def offsets(rng: np.random.Generator, segments: int, mean: float) -> np.ndarray:
    """CSR offsets of `segments` segments of Poisson length; some are empty."""
    return np.concatenate([[0], np.cumsum(rng.poisson(mean, segments))]).astype(np.int64)


def splits(total: int, parts: int) -> np.ndarray:
    """Boundaries that cut `total` into `parts` nearly equal runs."""
    return (np.arange(parts + 1) * total // max(parts, 1)).astype(np.int64)


def normal(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape, dtype=np.float32)


def weights(rng: np.random.Generator, n: int) -> np.ndarray:
    """Pooling weights >= 0; about a tenth are zero."""
    w = rng.random(n, dtype=np.float32) + np.float32(0.1)
    return np.where(rng.random(n) < 0.1, np.float32(0), w)


def rows(rng: np.random.Generator, n: int, capacity: int, absent: float = 0.0) -> np.ndarray:
    """`n` distinct rows below `capacity` in random order; a share `absent` of them is -1."""
    if n * 4 < capacity:
        # Drawing a few distinct numbers must not cost a permutation of the whole table.
        found = np.unique(rng.integers(0, capacity, n + n // 2 + 16))
        taken = rng.permutation(found)[:n]
    else:
        taken = rng.permutation(capacity)[:n]
    taken = taken.astype(np.int64)
    if absent:
        taken[rng.random(len(taken)) < absent] = -1
    return taken


def slots(rng: np.random.Generator, capacity: int, dim: int, *names: str) -> Slots:
    """Table content: "weight" normal, "square" and "sum" >= 0, others
    normal; "row_sum" has dim 1."""
    out = Slots()
    for name in names:
        width = 1 if name == "row_sum" else dim
        # Large tables repeat a drawn stretch: their content matters less than the time to draw it.
        a = np.resize(normal(rng, min(capacity, 1 << 14), width), (capacity, width))
        out[name] = a if name in ("weight", "mean") else a * a
    return out
