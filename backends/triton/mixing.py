"""Integer mixing on the device, as recis_core/mixing.py defines it, and the way back."""

from __future__ import annotations

import triton
import triton.language as tl

from recis_core import mixing

WORDS = 1 << 64
GOLDEN = tl.constexpr(mixing.GOLDEN)
FIRST, SECOND = 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
M1, M2 = tl.constexpr(FIRST), tl.constexpr(SECOND)
BACK1, BACK2 = tl.constexpr(pow(FIRST, -1, WORDS)), tl.constexpr(pow(SECOND, -1, WORDS))
SLICES = tl.constexpr(mixing.SLICES)


@triton.jit
def mix64(z):
    """SplitMix64's finaliser of uint64."""
    z = (z ^ (z >> 30)) * M1
    z = (z ^ (z >> 27)) * M2
    return z ^ (z >> 31)


@triton.jit
def unmix64(z):
    """The x with mix64(x) = z."""
    z = (z ^ (z >> 31) ^ (z >> 62)) * BACK2
    z = (z ^ (z >> 27) ^ (z >> 54)) * BACK1
    return z ^ (z >> 30) ^ (z >> 60)


@triton.jit
def pair_hash(salt, ids):
    """uint64 of a pair, from the table's salt and the id (int64)."""
    return mix64((ids ^ salt).to(tl.uint64))


@triton.jit
def owner_of(hashed, world):
    """int32 rank that owns a pair: `owner_of` of recis_core/mixing.py."""
    part = (hashed & (SLICES - 1)).to(tl.int32)
    small = SLICES // world
    more = SLICES - small * world
    wide = more * (small + 1)
    return tl.where(part < wide, part // (small + 1), more + (part - wide) // tl.maximum(small, 1))
