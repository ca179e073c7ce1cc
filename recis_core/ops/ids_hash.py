"""Strings to ids, all columns in one pass."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from recis_core.rules import Dims, NotEmpty, Offsets, OneOf
from recis_core.spec import Out, Traffic, nbytes, op
from recis_core.types import Bytes, Index

KINDS = ("farm", "murmur")
WORD = (1 << 64) - 1
K0, K1, K2 = 0xC3A5C85C97CB3127, 0xB492B66FBE98F273, 0x9AE16A3B2F90404F
MURMUR = 0xC6A4A7935BD1E995


def murmur64a(data: bytes, seed: int = 0) -> int:
    """MurmurHash64A of Austin Appleby (public domain), little-endian words."""
    h = seed ^ (len(data) * MURMUR & WORD)
    whole = len(data) // 8 * 8
    for at in range(0, whole, 8):
        k = int.from_bytes(data[at : at + 8], "little") * MURMUR & WORD
        h = (h ^ ((k ^ (k >> 47)) * MURMUR & WORD)) * MURMUR & WORD
    if whole < len(data):
        h = (h ^ int.from_bytes(data[whole:], "little")) * MURMUR & WORD
    h = (h ^ (h >> 47)) * MURMUR & WORD
    return h ^ (h >> 47)


def _u64(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 8], "little")


def _u32(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 4], "little")


def _rotate(word: int, by: int) -> int:
    return (word >> by | word << (64 - by)) & WORD


def _mix16(u: int, v: int, mul: int) -> int:
    a = (u ^ v) * mul & WORD
    a ^= a >> 47
    b = (v ^ a) * mul & WORD
    return (b ^ (b >> 47)) * mul & WORD


def _up_to_16(s: bytes) -> int:
    n = len(s)
    if n >= 8:
        mul = (K2 + 2 * n) & WORD
        a, b = (_u64(s, 0) + K2) & WORD, _u64(s, n - 8)
        c = (_rotate(b, 37) * mul + a) & WORD
        d = (_rotate(a, 25) + b) * mul & WORD
        return _mix16(c, d, mul)
    if n >= 4:
        mul = (K2 + 2 * n) & WORD
        return _mix16(n + (_u32(s, 0) << 3), _u32(s, n - 4), mul)
    if n:
        y = s[0] + (s[n >> 1] << 8)
        z = n + (s[n - 1] << 2)
        w = (y * K2 & WORD) ^ (z * K0 & WORD)
        return (w ^ (w >> 47)) * K2 & WORD
    return K2


def _up_to_32(s: bytes) -> int:
    n = len(s)
    mul = (K2 + 2 * n) & WORD
    a, b = _u64(s, 0) * K1 & WORD, _u64(s, 8)
    c, d = _u64(s, n - 8) * mul & WORD, _u64(s, n - 16) * K2 & WORD
    u = (_rotate((a + b) & WORD, 43) + _rotate(c, 30) + d) & WORD
    v = (a + _rotate((b + K2) & WORD, 18) + c) & WORD
    return _mix16(u, v, mul)


def _up_to_64(s: bytes) -> int:
    n = len(s)
    mul = (K2 + 2 * n) & WORD
    a, b = _u64(s, 0) * K2 & WORD, _u64(s, 8)
    c, d = _u64(s, n - 8) * mul & WORD, _u64(s, n - 16) * K2 & WORD
    y = (_rotate((a + b) & WORD, 43) + _rotate(c, 30) + d) & WORD
    z = _mix16(y, (a + _rotate((b + K2) & WORD, 18) + c) & WORD, mul)
    e, f = _u64(s, 16) * mul & WORD, _u64(s, 24)
    g, h = (y + _u64(s, n - 32)) * mul & WORD, (z + _u64(s, n - 24)) * mul & WORD
    u = (_rotate((e + f) & WORD, 43) + _rotate(g, 30) + h) & WORD
    v = (e + _rotate((f + a) & WORD, 18) + g) & WORD
    return _mix16(u, v, mul)


def _weak32(s: bytes, at: int, a: int, b: int) -> tuple[int, int]:
    w, x, y, z = (_u64(s, at + 8 * i) for i in range(4))
    a = (a + w) & WORD
    b = _rotate((b + a + z) & WORD, 21)
    c = a
    a = (a + x + y) & WORD
    b = (b + _rotate(a, 44)) & WORD
    return (a + z) & WORD, (b + c) & WORD


def farm64(s: bytes) -> int:
    """FarmHash Fingerprint64 (the "na" variant) of Geoff Pike, by its published structure."""
    n = len(s)
    if n <= 16:
        return _up_to_16(s)
    if n <= 32:
        return _up_to_32(s)
    if n <= 64:
        return _up_to_64(s)
    seed = 81
    x, y = seed, (seed * K1 + 113) & WORD
    z = (y * K2 + 113) & WORD
    z = (z ^ (z >> 47)) * K2 & WORD
    v, w = (0, 0), (0, 0)
    x = (x * K2 + _u64(s, 0)) & WORD
    end = (n - 1) // 64 * 64
    for at in range(0, end, 64):
        x = _rotate((x + y + v[0] + _u64(s, at + 8)) & WORD, 37) * K1 & WORD
        y = _rotate((y + v[1] + _u64(s, at + 48)) & WORD, 42) * K1 & WORD
        x ^= w[1]
        y = (y + v[0] + _u64(s, at + 40)) & WORD
        z = _rotate((z + w[0]) & WORD, 33) * K1 & WORD
        v = _weak32(s, at, v[1] * K1 & WORD, (x + w[0]) & WORD)
        w = _weak32(s, at + 32, (z + w[1]) & WORD, (y + _u64(s, at + 16)) & WORD)
        z, x = x, z
    mul = (K1 + ((z & 0xFF) << 1)) & WORD
    at = n - 64
    w = ((w[0] + ((n - 1) & 63)) & WORD, w[1])
    v = ((v[0] + w[0]) & WORD, v[1])
    w = ((w[0] + v[0]) & WORD, w[1])
    x = _rotate((x + y + v[0] + _u64(s, at + 8)) & WORD, 37) * mul & WORD
    y = _rotate((y + v[1] + _u64(s, at + 48)) & WORD, 42) * mul & WORD
    x ^= w[1] * 9 & WORD
    y = (y + v[0] * 9 + _u64(s, at + 40)) & WORD
    z = _rotate((z + w[0]) & WORD, 33) * mul & WORD
    v = _weak32(s, at, v[1] * mul & WORD, (x + w[0]) & WORD)
    w = _weak32(s, at + 32, (z + w[1]) & WORD, (y + _u64(s, at + 16)) & WORD)
    z, x = x, z
    first = (_mix16(v[0], w[0], mul) + (y ^ (y >> 47)) * K0 + z) & WORD
    return _mix16(first, (_mix16(v[1], w[1], mul) + x) & WORD, mul)


@op()
def ids_hash(data: Bytes, offsets: Index, kind: str):
    """out[i] = signed 64-bit hash of data[offsets[i]:offsets[i+1]], by `kind` "farm" or "murmur".

    data uint8 [bytes], offsets [n+1] of strings of all columns end to end -> int64 [n], as the
    RecIS feature op gives it (its IO hash differs: that one is masked to 63 bits).
    """
    text, hashed = data.tobytes(), farm64 if kind == "farm" else murmur64a
    ends = offsets.tolist()
    words = [hashed(text[a:b]) for a, b in pairwise(ends)]
    return np.array(words, np.uint64).view(np.int64)


@ids_hash.inputs(
    test=[
        dict(n=0, longest=4, kind="farm"),
        *(dict(n=400, longest=300, kind=k) for k in KINDS),
        dict(n=1, longest=0, kind="farm"),
        *(dict(n=200, longest=12, kind=k) for k in KINDS),
    ],
    bench=[
        dict(n=1 << 18, longest=20, kind="farm"),
        dict(n=1 << 18, longest=20, kind="murmur"),
        dict(n=1 << 15, longest=200, kind="farm"),
    ],
)
def _(rng, n, longest, kind):
    # Every length up to the longest: a hash takes another path at many of them.
    lengths = rng.permutation(np.arange(n) % (longest + 1))
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    return dict(data=rng.integers(0, 256, offsets[-1], np.uint8), offsets=offsets, kind=kind)


@ids_hash.outputs
def _(data, offsets, kind):
    return Out("out", (len(offsets) - 1,), "int64")


@ids_hash.moves
def _(data, offsets, kind):
    read, written = nbytes(data, offsets), 8 * (len(offsets) - 1)
    return Traffic(read, written, requested=read + written, recis=read + written)


ids_hash.requires(
    Dims(data=1, offsets=1),
    OneOf("kind", KINDS),
    NotEmpty("offsets"),
    Offsets("offsets", lambda a: len(a["data"])),
)
