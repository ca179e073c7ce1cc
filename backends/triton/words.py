"""Words of strings that start anywhere, by aligned ones, and the integer steps hashes share.

A string is an int64 address and its bytes. An aligned word is read only where it holds a byte of
the string, so that nothing outside the text's own words of 8 bytes is ever touched.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def _aligned(address, k, mask):
    """Low and high half, uint32, of the aligned word k places after the one `address` lies in."""
    words = (address & -8).to(tl.pointer_type(tl.int64))
    found = tl.load(words + k, mask=mask, other=0).to(tl.uint64)
    return found.to(tl.uint32), (found >> 32).to(tl.uint32)


@triton.jit
def _joined(low, middle, high, start):
    """uint64 of the 8 bytes from byte `start`, 0 to 3, of three words."""
    shift = (start * 8).to(tl.uint64)
    # Of two words shifted at once the lower half is kept: one instruction.
    first = ((low.to(tl.uint64) | (middle.to(tl.uint64) << 32)) >> shift).to(tl.uint32)
    second = ((middle.to(tl.uint64) | (high.to(tl.uint64) << 32)) >> shift).to(tl.uint32)
    return first.to(tl.uint64) | (second.to(tl.uint64) << 32)


@triton.jit
def _pair(address, start, first, second, third):
    """The two words from `address` on; masks say which of the aligned ones are read."""
    a, b = _aligned(address, 0, first)
    c, d = _aligned(address, 1, second)
    e, f = _aligned(address, 2, third)
    odd, start = start >= 4, start & 3
    v, w, x = tl.where(odd, b, a), tl.where(odd, c, b), tl.where(odd, d, c)
    y, z = tl.where(odd, e, d), tl.where(odd, f, e)
    return _joined(v, w, x, start), _joined(x, y, z, start)


@triton.jit
def head16(address, size):
    """Bytes 0 to 7 and 8 to 15 of strings, sizes int32; past the end nothing to rely on."""
    start = (address & 7).to(tl.int32)
    end = start + size
    return _pair(address, start, size > 0, (size > 0) & (end > 8), (size > 0) & (end > 16))


@triton.jit
def tail16(end, size):
    """Bytes -16 to -9 and -8 to -1 of strings up to `end`; of those before, nothing to rely on."""
    address = end - 16
    start = (address & 7).to(tl.int32)
    begin = start + 16 - size
    return _pair(address, start, begin < 8, begin < 16, (size > 0) & (start > 0))


@triton.jit
def head8(address, size):
    """Bytes 0 to 7; of bytes past the end nothing to rely on."""
    start = (address & 7).to(tl.int32)
    a, b = _aligned(address, 0, size > 0)
    c, d = _aligned(address, 1, (size > 0) & (start + size > 8))
    odd = start >= 4
    return _joined(tl.where(odd, b, a), tl.where(odd, c, b), tl.where(odd, d, c), start & 3)


@triton.jit
def rotate(word, BY: tl.constexpr):
    return (word >> BY) | (word << (64 - BY))


@triton.jit
def shift_mix(word):
    return word ^ (word >> 47)
