"""FarmHash Fingerprint64 on the device, by the structure recis_core/ops/ids_hash.py gives.

A string is an int64 address and its size. Lanes whose strings have another length get anything.
"""

from __future__ import annotations

import triton
import triton.language as tl

from backends.triton.words import head16, near16, rotate, shift_mix, tail16
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
def under_4(head, size):
    """By the string's first word."""
    n = size.to(tl.uint64)
    y = (head & 0xFF) + ((head >> (n >> 1) * 8 & 0xFF) << 8)
    z = n + ((head >> (n - 1 & 3) * 8 & 0xFF) << 2)
    # An empty string is K2.
    return tl.where(size == 0, K2, shift_mix((y * K2) ^ (z * K0)) * K2)


@triton.jit
def up_to_64(address, size, few, many, INSIDE: tl.constexpr):
    """Up to 64 bytes, with as much in common as there is. `few`, `many`: whether any string has
    less than 4 bytes, more than 32. INSIDE: 20 bytes on both sides of each are of the text too."""
    n = size.to(tl.uint32).to(tl.uint64)
    mul = n * 2 + K2
    if INSIDE:
        head, second = near16(address, None)
        before, tail = near16(address + size - 16, None)
    else:
        head, second = head16(address, size)
        before, tail = tail16(address + size, size)
    # Over 16, then 8 to 16, then 4 to 7 bytes.
    a = head * tl.where(size > 32, K2, K1)
    c = tail * mul
    u = rotate(a + second, 43) + rotate(c, 30) + before * K2
    v = a + rotate(second + K2, 18) + c
    eight = head + K2
    u = tl.where(size > 16, u, rotate(tail, 37) * mul + eight)
    v = tl.where(size > 16, v, (rotate(eight, 25) + tail) * mul)
    u = tl.where(size >= 8, u, n + ((head & 0xFFFFFFFF) << 3))
    v = tl.where(size >= 8, v, tail >> 32)
    out = mix16(u, v, mul)
    if few:
        out = tl.where(size < 4, under_4(head, size), out)
    if many:
        if INSIDE:
            third, f = near16(address + 16, size > 32)
            g, h = near16(address + size - 32, size > 32)
        else:
            longer = tl.where(size > 32, 16, 0)
            third, f = head16(address + 16, longer)
            g, h = tail16(address + size - 16, longer)
        e = third * mul
        g = (u + g) * mul
        h = (out + h) * mul
        middle = mix16(rotate(e + f, 43) + rotate(g, 30) + h, e + rotate(f + a, 18) + g, mul)
        out = tl.where(size > 32, middle, out)
    return out


@triton.jit
def weak32(w, x, y, z, a, b):
    a += w
    b = rotate(b + a + z, 21)
    c = a
    a += x + y
    b += rotate(a, 44)
    return a + z, b + c


@triton.jit
def over_64(address, size):
    """Strings of more than 64 bytes; of others nothing is read."""
    mask = size > 64
    whole = tl.where(mask, 16, 0)
    x, _ = head16(address, whole)
    x += START_X
    y = x * 0 + START_Y
    z = x * 0 + START_Z
    v1, v2, w1, w2 = x * 0, x * 0, x * 0, x * 0
    steps = tl.where(mask, (size - 1) >> 6, 0).to(tl.int32)
    mul, most = x * 0 + K1, tl.max(steps)
    for at in range(most + 1):
        # The last step takes the last 64 bytes, of which other steps may have had a part.
        last = at == most
        step = mask & (last | (at < steps))
        p = address + tl.where(last, size - 64, tl.cast(at, tl.int64) * 64)
        whole = tl.where(step, 16, 0)
        s0, s1 = head16(p, whole)
        s2, s3 = head16(p + 16, whole)
        s4, s5 = head16(p + 32, whole)
        s6, s7 = head16(p + 48, whole)
        nine = x * 0 + 1
        nw1, nv1 = w1, v1
        if last:
            mul, nine = ((z & 0xFF) << 1) + K1, nine * 9
            nw1 += ((size - 1) & 63).to(tl.uint64)
            nv1 += nw1
            nw1 += nv1
        nx = rotate(x + y + nv1 + s1, 37) * mul
        ny = rotate(y + v2 + s6, 42) * mul
        nx ^= w2 * nine
        ny += nv1 * nine + s5
        nz = rotate(z + nw1, 33) * mul
        nv1, nv2 = weak32(s0, s1, s2, s3, v2 * mul, nx + nw1)
        nw1, nw2 = weak32(s4, s5, s6, s7, nz + w2, ny + s2)
        # z and x change places.
        x, y, z = tl.where(step, nz, x), tl.where(step, ny, y), tl.where(step, nx, z)
        v1, v2 = tl.where(step, nv1, v1), tl.where(step, nv2, v2)
        w1, w2 = tl.where(step, nw1, w1), tl.where(step, nw2, w2)
    first = mix16(v1, w1, mul) + shift_mix(y) * K0 + z
    return mix16(first, mix16(v2, w2, mul) + x, mul)
