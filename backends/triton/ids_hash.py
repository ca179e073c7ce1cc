"""ids_hash: a lane a string; a program pays for the lengths its strings have."""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from backends.triton import farm
from backends.triton.launch import WIDEN, cover, launch
from backends.triton.words import octet, shift_mix, word8
from recis_core.ops.ids_hash import MURMUR as FACTOR

MURMUR = tl.constexpr(FACTOR)
BLOCK = 128 * WIDEN
over_64, up_to_16 = farm.over_64, farm.up_to_16
up_to_32, up_to_64 = farm.up_to_32, farm.up_to_64


@triton.jit
def _farm(text, size, mask):
    tiny, short = mask & (size <= 16), mask & (size > 16) & (size <= 32)
    middle, long = mask & (size > 32) & (size <= 64), mask & (size > 64)
    out = size.to(tl.uint64) * 0
    if tl.max(tiny.to(tl.int32)) > 0:
        out = tl.where(tiny, up_to_16(text, size, tiny), out)
    if tl.max(short.to(tl.int32)) > 0:
        out = tl.where(short, up_to_32(text, size, short), out)
    if tl.max(middle.to(tl.int32)) > 0:
        out = tl.where(middle, up_to_64(text, size, middle), out)
    if tl.max(long.to(tl.int32)) > 0:
        out = tl.where(long, over_64(text, size, long), out)
    return out


@triton.jit
def _murmur(text, size, mask):
    """MurmurHash64A, seed 0."""
    h = size.to(tl.uint64) * MURMUR
    whole = tl.where(mask, size // 8 * 8, 0)
    most = tl.max(whole)
    at = most * 0
    while at < most:
        live = at < whole
        word = shift_mix(word8(text + at, live) * MURMUR) * MURMUR
        h = tl.where(live, (h ^ word) * MURMUR, h)
        at += 8
    tail = h * 0
    for b in tl.static_range(0, 7):
        tail |= octet(text + whole + b, mask & (whole + b < size)) << (8 * b)
    h = tl.where(whole < size, (h ^ tail) * MURMUR, h)
    return shift_mix(shift_mix(h) * MURMUR)


@triton.jit(do_not_specialize=["n"])
def _hash(data, offsets, out, n, FARM: tl.constexpr, BLOCK: tl.constexpr):
    i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    begin = tl.load(offsets + i, mask=i < n, other=0).to(tl.int64)
    size = tl.load(offsets + i + 1, mask=i < n, other=0).to(tl.int64) - begin
    text = data + begin
    hashed = _farm(text, size, i < n) if FARM else _murmur(text, size, i < n)
    tl.store(out + i, hashed.to(tl.int64), mask=i < n)


def ids_hash(data: Tensor, offsets: Tensor, kind: str, out: Tensor) -> None:
    n = len(offsets) - 1
    launch(_hash, cover(n, BLOCK), data, offsets, out, n, FARM=kind == "farm", BLOCK=BLOCK)
