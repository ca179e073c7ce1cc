"""Words of strings that start anywhere, by aligned ones, and the integer steps hashes share.

A string is an int64 address and its bytes. `head16` and `tail16` read aligned words only where they
hold a byte of the string, so that nothing outside the text's own words of 8 bytes is touched;
`near16` reads what it is told to.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def _joined(low, middle, high, start):
    """uint64 of the 8 bytes from byte `start`, 0 to 3, of three words."""
    shift = (start * 8).to(tl.uint64)
    # Of two words shifted at once the lower half is kept: one instruction.
    first = ((low.to(tl.uint64) | (middle.to(tl.uint64) << 32)) >> shift).to(tl.uint32)
    second = ((middle.to(tl.uint64) | (high.to(tl.uint64) << 32)) >> shift).to(tl.uint32)
    return first.to(tl.uint64) | (second.to(tl.uint64) << 32)


@triton.jit
def _halves(word):
    word = word.to(tl.uint64)
    return word.to(tl.uint32), (word >> 32).to(tl.uint32)


@triton.jit
def _pair(address, first, second, third):
    """The two words at `address`; masks say which of the three aligned ones are read."""
    words = (address & -8).to(tl.pointer_type(tl.int64))
    start = (address & 7).to(tl.int32)
    a, b = _halves(tl.load(words, mask=first))
    c, d = _halves(tl.load(words + 1, mask=second))
    e, f = _halves(tl.load(words + 2, mask=third))
    odd, start = start >= 4, start & 3
    v, w, x = tl.where(odd, b, a), tl.where(odd, c, b), tl.where(odd, d, c)
    y, z = tl.where(odd, e, d), tl.where(odd, f, e)
    return _joined(v, w, x, start), _joined(x, y, z, start)


@triton.jit
def _quarter(words, k, mask):
    return tl.load(words + k, mask=mask).to(tl.uint32, bitcast=True)


@triton.jit
def near16(address, mask):
    """Bytes 0 to 7 and 8 to 15 where `mask`, if it is not None, is set; reads bytes -3 to 19."""
    # Five loads where `_pair` has three, but nothing to choose among: faster, as that binds.
    words = (address & -4).to(tl.pointer_type(tl.int32))
    start = (address & 3).to(tl.int32)
    v, w, x = _quarter(words, 0, mask), _quarter(words, 1, mask), _quarter(words, 2, mask)
    y, z = _quarter(words, 3, mask), _quarter(words, 4, mask)
    return _joined(v, w, x, start), _joined(x, y, z, start)


@triton.jit
def head16(address, size):
    """Bytes 0 to 7 and 8 to 15 of strings, sizes int32; past the end nothing to rely on."""
    end = (address & 7).to(tl.int32) + size
    return _pair(address, size > 0, (size > 0) & (end > 8), (size > 0) & (end > 16))


@triton.jit
def tail16(end, size):
    """Bytes -16 to -9 and -8 to -1 of strings up to `end`; of those before, nothing to rely on."""
    start = (end & 7).to(tl.int32)
    begin = start + 16 - size
    return _pair(end - 16, begin < 8, begin < 16, (size > 0) & (start > 0))


@triton.jit
def rotate(word, BY: tl.constexpr):
    return (word >> BY) | (word << (64 - BY))


@triton.jit
def shift_mix(word):
    return word ^ (word >> 47)
