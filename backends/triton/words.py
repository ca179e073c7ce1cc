"""Words of strings that start anywhere, and the integer steps hashes share."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def word8(text, mask):
    """uint64 of the 8 bytes at each pointer, little-endian; 0 where masked out."""
    found = tl.load(text, mask=mask, other=0).to(tl.uint64)
    for b in tl.static_range(1, 8):
        found |= tl.load(text + b, mask=mask, other=0).to(tl.uint64) << (8 * b)
    return found


@triton.jit
def word4(text, mask):
    """uint64 of 4 bytes."""
    found = tl.load(text, mask=mask, other=0).to(tl.uint64)
    for b in tl.static_range(1, 4):
        found |= tl.load(text + b, mask=mask, other=0).to(tl.uint64) << (8 * b)
    return found


@triton.jit
def octet(text, mask):
    return tl.load(text, mask=mask, other=0).to(tl.uint64)


@triton.jit
def rotate(word, BY: tl.constexpr):
    return (word >> BY) | (word << (64 - BY))


@triton.jit
def shift_mix(word):
    return word ^ (word >> 47)
