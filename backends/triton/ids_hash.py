"""ids_hash: a lane a string; a program pays for the lengths its strings have."""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from backends.triton.farm import over_64, up_to_64
from backends.triton.launch import WIDEN, cover, launch
from backends.triton.words import head16, shift_mix
from recis_core.ops.ids_hash import MURMUR as FACTOR

MURMUR = tl.constexpr(FACTOR)
# Strings of a step, a lane each, and of a program, which is one warp.
STEP, BLOCK = 32 * WIDEN, 128 * WIDEN


@triton.jit
def _farm(address, size, inside):
    short = tl.minimum(size, 65).to(tl.int32)
    least, most = tl.min(short), tl.max(short)
    if inside:
        out = up_to_64(address, short, least < 4, most > 32, INSIDE=True)
    else:
        out = up_to_64(address, short, least < 4, most > 32, INSIDE=False)
    if most > 64:
        out = tl.where(short > 64, over_64(address, size), out)
    return out


@triton.jit
def _stirred(h, word, live):
    word = shift_mix(word * MURMUR) * MURMUR
    return tl.where(live, (h ^ word) * MURMUR, h)


@triton.jit
def _murmur(address, size):
    """MurmurHash64A, seed 0."""
    h = size.to(tl.uint64) * MURMUR
    whole = size & -8
    rest = (size & 7).to(tl.int32)
    tail, _ = head16(address + whole, rest)
    at = tl.full([], 0, tl.int64)
    for _ in range(tl.max(((whole + 31) // 32).to(tl.int32))):
        left = tl.maximum(tl.minimum(whole - at, 32), 0).to(tl.int32)
        a, b = head16(address + at, left)
        c, d = head16(address + at + 16, left - 16)
        h = _stirred(h, a, left >= 8)
        h = _stirred(h, b, left >= 16)
        h = _stirred(h, c, left >= 24)
        h = _stirred(h, d, left >= 32)
        at += 32
    tail &= ((rest * 0 + 1).to(tl.uint64) << (rest * 8).to(tl.uint64)) - 1
    h = tl.where(rest > 0, (h ^ tail) * MURMUR, h)
    return shift_mix(shift_mix(h) * MURMUR)


@triton.jit
def _bounds(offsets, i, n):
    begin = tl.load(offsets + i, mask=i < n, other=0)
    return begin, tl.load(offsets + i + 1, mask=i < n, other=0)


@triton.jit(do_not_specialize=["length", "n"])
def _hash(
    data, length, offsets, out, n, FARM: tl.constexpr, STEP: tl.constexpr, BLOCK: tl.constexpr
):
    first = tl.program_id(0).to(tl.int64) * BLOCK
    last = tl.minimum(first + BLOCK, n)
    low, high = tl.load(offsets + first).to(tl.int64), tl.load(offsets + last).to(tl.int64)
    inside = (low >= 40) & (high + 40 <= length)
    i = first + tl.arange(0, STEP)
    begin, end = _bounds(offsets, i, n)
    for _ in range(BLOCK // STEP):
        address, size = data.to(tl.int64) + begin, (end - begin).to(tl.int64)
        # On its way while these are hashed.
        begin, end = _bounds(offsets, i + STEP, last)
        hashed = _farm(address, size, inside) if FARM else _murmur(address, size)
        tl.store(out + i, hashed.to(tl.int64), mask=i < n)
        i += STEP


def ids_hash(data: Tensor, offsets: Tensor, kind: str, out: Tensor) -> None:
    n = len(offsets) - 1
    launch(
        _hash, cover(n, BLOCK), data, len(data), offsets, out, n, warps=1, FARM=kind == "farm",
        STEP=STEP, BLOCK=BLOCK,
    )  # fmt: skip
