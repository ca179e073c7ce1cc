"""FarmHash Fingerprint64 on the device, by the structure recis_core/ops/ids_hash.py gives.

Each function hashes the strings of one range of lengths, lane by lane; others are masked out.
"""

from __future__ import annotations

import triton
import triton.language as tl

from backends.triton.words import octet, rotate, shift_mix, word4, word8
from recis_core.ops import ids_hash as declared

K0, K1, K2 = tl.constexpr(declared.K0), tl.constexpr(declared.K1), tl.constexpr(declared.K2)
# What the long form starts from: seed 81 and the words made of it.
SEED = 81
Y = (SEED * declared.K1 + 113) % (1 << 64)
Z = (Y * declared.K2 + 113) % (1 << 64)
START_X = tl.constexpr(SEED * declared.K2 % (1 << 64))
START_Y = tl.constexpr(Y)
START_Z = tl.constexpr((Z ^ (Z >> 47)) * declared.K2 % (1 << 64))


@triton.jit
def mix16(u, v, mul):
    a = shift_mix((u ^ v) * mul)
    return shift_mix((v ^ a) * mul) * mul


@triton.jit
def up_to_16(text, size, mask):
    n = size.to(tl.uint64)
    mul = n * 2 + K2
    eight = mask & (size >= 8)
    b = word8(text + size - 8, eight)
    a = word8(text, eight) + K2
    long = mix16(rotate(b, 37) * mul + a, (rotate(a, 25) + b) * mul, mul)
    four = mask & (size >= 4) & (size < 8)
    middle = mix16(n + (word4(text, four) << 3), word4(text + size - 4, four), mul)
    few = mask & (size > 0) & (size < 4)
    y = octet(text, few) + (octet(text + (size >> 1), few) << 8)
    z = n + (octet(text + size - 1, few) << 2)
    short = shift_mix((y * K2) ^ (z * K0)) * K2
    out = tl.where(eight, long, tl.where(four, middle, short))
    # An empty string is K2.
    return tl.where(size == 0, short * 0 + K2, out)


@triton.jit
def up_to_32(text, size, mask):
    mul = size.to(tl.uint64) * 2 + K2
    a, b = word8(text, mask) * K1, word8(text + 8, mask)
    c, d = word8(text + size - 8, mask) * mul, word8(text + size - 16, mask) * K2
    return mix16(rotate(a + b, 43) + rotate(c, 30) + d, a + rotate(b + K2, 18) + c, mul)


@triton.jit
def up_to_64(text, size, mask):
    mul = size.to(tl.uint64) * 2 + K2
    a, b = word8(text, mask) * K2, word8(text + 8, mask)
    c, d = word8(text + size - 8, mask) * mul, word8(text + size - 16, mask) * K2
    y = rotate(a + b, 43) + rotate(c, 30) + d
    z = mix16(y, a + rotate(b + K2, 18) + c, mul)
    e, f = word8(text + 16, mask) * mul, word8(text + 24, mask)
    g = (y + word8(text + size - 32, mask)) * mul
    h = (z + word8(text + size - 24, mask)) * mul
    return mix16(rotate(e + f, 43) + rotate(g, 30) + h, e + rotate(f + a, 18) + g, mul)


@triton.jit
def weak32(text, mask, a, b):
    w, x = word8(text, mask), word8(text + 8, mask)
    y, z = word8(text + 16, mask), word8(text + 24, mask)
    a += w
    b = rotate(b + a + z, 21)
    c = a
    a += x + y
    b += rotate(a, 44)
    return a + z, b + c


@triton.jit
def over_64(text, size, mask):
    x = word8(text, mask) + START_X
    y = x * 0 + START_Y
    z = x * 0 + START_Z
    v1, v2, w1, w2 = x * 0, x * 0, x * 0, x * 0
    end = tl.where(mask, (size - 1) // 64 * 64, 0)
    most = tl.max(end)
    at = most * 0
    while at < most:
        live = at < end
        p = text + at
        nx = rotate(x + y + v1 + word8(p + 8, live), 37) * K1
        ny = rotate(y + v2 + word8(p + 48, live), 42) * K1
        nx ^= w2
        ny += v1 + word8(p + 40, live)
        nz = rotate(z + w1, 33) * K1
        nv1, nv2 = weak32(p, live, v2 * K1, nx + w1)
        nw1, nw2 = weak32(p + 32, live, nz + w2, ny + word8(p + 16, live))
        # z and x change places.
        x, y, z = tl.where(live, nz, x), tl.where(live, ny, y), tl.where(live, nx, z)
        v1, v2 = tl.where(live, nv1, v1), tl.where(live, nv2, v2)
        w1, w2 = tl.where(live, nw1, w1), tl.where(live, nw2, w2)
        at += 64
    mul = ((z & 0xFF) << 1) + K1
    p = text + size - 64
    w1 += ((size - 1) & 63).to(tl.uint64)
    v1 += w1
    w1 += v1
    x = rotate(x + y + v1 + word8(p + 8, mask), 37) * mul
    y = rotate(y + v2 + word8(p + 48, mask), 42) * mul
    x ^= w2 * 9
    y += v1 * 9 + word8(p + 40, mask)
    z = rotate(z + w1, 33) * mul
    v1, v2 = weak32(p, mask, v2 * mul, x + w1)
    w1, w2 = weak32(p + 32, mask, z + w2, y + word8(p + 16, mask))
    first = mix16(v1, w1, mul) + shift_mix(y) * K0 + x
    return mix16(first, mix16(v2, w2, mul) + z, mul)
