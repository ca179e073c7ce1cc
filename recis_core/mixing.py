"""The integer mixing functions that ownership and row initialisation are defined by."""

from __future__ import annotations

import numpy as np

GOLDEN = 0x9E3779B97F4A7C15
_M1 = 0xBF58476D1CE4E5B9
_M2 = 0x94D049BB133111EB
SLICES = 1 << 16


def mix64(x: np.ndarray) -> np.ndarray:
    """SplitMix64's finaliser (Steele et al., OOPSLA 2014): a bijection of 64-bit words.

    z = x ^ x >> 30; z *= M1; z ^= z >> 27; z *= M2; z ^ z >> 31, in uint64.
    """
    z = np.asarray(x).astype(np.uint64)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(_M1)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(_M2)
    return z ^ (z >> np.uint64(31))


def pair_hash(salt: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """uint64 hash of (table, id): mix64(id ^ salt), `salt` the table's from `table_salt`."""
    return mix64(np.asarray(ids).astype(np.uint64) ^ np.asarray(salt).astype(np.uint64))


def owner_of(hashed: np.ndarray, world: int) -> np.ndarray:
    """Rank that owns a pair: its slice (low 16 bits) among 65,536 split contiguously over `world`;
    the first 65,536 mod `world` ranks own one slice more."""
    slices = (hashed & np.uint64(SLICES - 1)).astype(np.int64)
    small, more = divmod(SLICES, world)
    wide = more * (small + 1)
    return np.where(slices < wide, slices // (small + 1), more + (slices - wide) // max(small, 1))


def table_salt(name: str) -> int:
    """int64 salt of a table: FNV-1a (64 bit) of its UTF-8 name, mixed, as a signed integer."""
    h = 0xCBF29CE484222325
    for byte in name.encode():
        h = ((h ^ byte) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return int(mix64(np.array([h], np.uint64)).view(np.int64)[0])
