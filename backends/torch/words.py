"""Unsigned 64-bit arithmetic on int64 tensors: torch has no shift or remainder of uint64 on CPU.

Sums and products of int64 wrap modulo 2^64, so only the logical shift needs a mask.
"""

from __future__ import annotations

from torch import Tensor

from recis_core.mixing import GOLDEN as _GOLDEN


def signed(word: int) -> int:
    """The int64 with the bits of an unsigned 64-bit word."""
    word &= (1 << 64) - 1
    return word - (1 << 64) if word >> 63 else word


GOLDEN = signed(_GOLDEN)
_M1, _M2 = signed(0xBF58476D1CE4E5B9), signed(0x94D049BB133111EB)


def shift(x: Tensor, by: int) -> Tensor:
    """x >> by with zeros moved in, 0 < by < 64."""
    return (x >> by).bitwise_and_((1 << (64 - by)) - 1)


def rotate(x: Tensor, by: int) -> Tensor:
    """Bits of x rotated right by `by`."""
    return shift(x, by).bitwise_or_(x << (64 - by))


def mix64_(z: Tensor) -> Tensor:
    """`recis_core.mixing.mix64`, in place."""
    z.bitwise_xor_(shift(z, 30)).mul_(_M1)
    z.bitwise_xor_(shift(z, 27)).mul_(_M2)
    return z.bitwise_xor_(shift(z, 31))


def pair_hash(salts: Tensor, ids: Tensor) -> Tensor:
    """`recis_core.mixing.pair_hash` of each (salt, id)."""
    return mix64_(ids ^ salts)
