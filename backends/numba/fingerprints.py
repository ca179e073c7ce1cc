"""FarmHash Fingerprint64 (the "na" variant) and MurmurHash64A, over bytes at an address."""

from __future__ import annotations

import numpy as np

from backends.numba.memory import word
from backends.numba.threads import function, inlined

_U64, _U32, _U8 = np.uint64(0), np.uint32(0), np.uint8(0)
K0, K1 = np.uint64(0xC3A5C85C97CB3127), np.uint64(0xB492B66FBE98F273)
K2, MURMUR = np.uint64(0x9AE16A3B2F90404F), np.uint64(0xC6A4A7935BD1E995)
_47, _64, _ONE = np.uint64(47), np.uint64(64), np.uint64(1)


@inlined
def fetch(at):
    return word(at, _U64)


@inlined
def rotate(x, by):
    return (x >> np.uint64(by)) | (x << np.uint64(64 - by))


@inlined
def mix16(u, v, mul):
    a = (u ^ v) * mul
    a ^= a >> _47
    b = (v ^ a) * mul
    return (b ^ (b >> _47)) * mul


@inlined
def up_to_16(s, n):
    if n >= 8:
        mul = K2 + np.uint64(2 * n)
        a, b = fetch(s) + K2, fetch(s + n - 8)
        c = rotate(b, 37) * mul + a
        d = (rotate(a, 25) + b) * mul
        return mix16(c, d, mul)
    if n >= 4:
        mul = K2 + np.uint64(2 * n)
        low = np.uint64(word(s, _U32))
        return mix16(np.uint64(n) + (low << np.uint64(3)), np.uint64(word(s + n - 4, _U32)), mul)
    if n > 0:
        first, middle = np.uint64(word(s, _U8)), np.uint64(word(s + (n >> 1), _U8))
        y = first + (middle << np.uint64(8))
        z = np.uint64(n) + (np.uint64(word(s + n - 1, _U8)) << np.uint64(2))
        w = (y * K2) ^ (z * K0)
        return (w ^ (w >> _47)) * K2
    return K2


@inlined
def up_to_32(s, n):
    mul = K2 + np.uint64(2 * n)
    a, b = fetch(s) * K1, fetch(s + 8)
    c, d = fetch(s + n - 8) * mul, fetch(s + n - 16) * K2
    u = rotate(a + b, 43) + rotate(c, 30) + d
    return mix16(u, a + rotate(b + K2, 18) + c, mul)


@inlined
def up_to_64(s, n):
    mul = K2 + np.uint64(2 * n)
    a, b = fetch(s) * K2, fetch(s + 8)
    c, d = fetch(s + n - 8) * mul, fetch(s + n - 16) * K2
    y = rotate(a + b, 43) + rotate(c, 30) + d
    z = mix16(y, a + rotate(b + K2, 18) + c, mul)
    e, f = fetch(s + 16) * mul, fetch(s + 24)
    g, h = (y + fetch(s + n - 32)) * mul, (z + fetch(s + n - 24)) * mul
    u = rotate(e + f, 43) + rotate(g, 30) + h
    return mix16(u, e + rotate(f + a, 18) + g, mul)


@inlined
def weak32(s, a, b):
    a += fetch(s)
    b = rotate(b + a + fetch(s + 24), 21)
    c = a
    a += fetch(s + 8) + fetch(s + 16)
    return a + fetch(s + 24), b + rotate(a, 44) + c


@function
def beyond_64(s, n):
    seed = np.uint64(81)
    x, y = seed, seed * K1 + np.uint64(113)
    z = y * K2 + np.uint64(113)
    z = (z ^ (z >> _47)) * K2
    v0 = v1 = w0 = w1 = np.uint64(0)
    x = x * K2 + fetch(s)
    at, end = s, s + (n - 1) // 64 * 64
    while at < end:
        x = rotate(x + y + v0 + fetch(at + 8), 37) * K1
        y = rotate(y + v1 + fetch(at + 48), 42) * K1
        x ^= w1
        y += v0 + fetch(at + 40)
        z = rotate(z + w0, 33) * K1
        v0, v1 = weak32(at, v1 * K1, x + w0)
        w0, w1 = weak32(at + 32, z + w1, y + fetch(at + 16))
        z, x = x, z
        at += 64
    mul = K1 + ((z & np.uint64(0xFF)) << _ONE)
    at = s + n - 64
    w0 += np.uint64((n - 1) & 63)
    v0 += w0
    w0 += v0
    nine = np.uint64(9)
    x = rotate(x + y + v0 + fetch(at + 8), 37) * mul
    y = rotate(y + v1 + fetch(at + 48), 42) * mul
    x ^= w1 * nine
    y += v0 * nine + fetch(at + 40)
    z = rotate(z + w0, 33) * mul
    v0, v1 = weak32(at, v1 * mul, x + w0)
    w0, w1 = weak32(at + 32, z + w1, y + fetch(at + 16))
    z, x = x, z
    first = mix16(v0, w0, mul) + (y ^ (y >> _47)) * K0 + z
    return mix16(first, mix16(v1, w1, mul) + x, mul)


@inlined
def farm64(s, n):
    """Fingerprint of `n` bytes at `s`."""
    if n <= 16:
        return up_to_16(s, n)
    if n <= 32:
        return up_to_32(s, n)
    if n <= 64:
        return up_to_64(s, n)
    return beyond_64(s, n)


@inlined
def murmur64a(s, n):
    """MurmurHash64A of `n` bytes at `s`, seed 0."""
    h = np.uint64(n) * MURMUR
    at, end = s, s + (n & -8)
    while at < end:
        k = fetch(at) * MURMUR
        h = (h ^ ((k ^ (k >> _47)) * MURMUR)) * MURMUR
        at += 8
    if n & 7:
        rest = np.uint64(0)
        for j in range(n & 7):
            rest |= np.uint64(word(at + j, _U8)) << np.uint64(8 * j)
        h = (h ^ rest) * MURMUR
    h = (h ^ (h >> _47)) * MURMUR
    return h ^ (h >> _47)
