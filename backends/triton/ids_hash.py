"""ids_hash: a lane a string, a warp a program; all lanes pay for the lengths their strings have."""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from backends.triton.farm import over_64, up_to_64
from backends.triton.launch import WIDEN, cover, launch
from backends.triton.words import head16, shift_mix
from recis_core.ops.ids_hash import MURMUR as FACTOR

MURMUR = tl.constexpr(FACTOR)
# Strings that a program hashes at once: one a lane by farm, two by murmur.
FARM_STEP, MURMUR_STEP = 32 * WIDEN, 64 * WIDEN
# Most steps of a program, which finds the next offsets there already, and strings that fill the
# device with programs of one step.
STEPS, FILLED = 4, 1 << 17
# Bytes on both sides of a string that farm reads without asking where they are of the text.
MARGIN = tl.constexpr(20)


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


@triton.jit(do_not_specialize=["length", "n", "steps"])
def _hash(data, length, offsets, out, n, steps, FARM: tl.constexpr, STEP: tl.constexpr):
    first = tl.program_id(0).to(tl.int64) * steps * STEP
    last = tl.minimum(first + steps * STEP, n)
    i = first + tl.arange(0, STEP)
    text = data.to(tl.int64)
    begin, end = _bounds(offsets, i, last)
    if FARM:
        low, high = tl.load(offsets + first), tl.load(offsets + last)
        # A lane without a string would read from the begin of the text.
        inside = (first + steps * STEP <= n) & (low >= MARGIN) & (high + MARGIN <= length)
        for _ in range(steps):
            address, size = text + begin, (end - begin).to(tl.int64)
            # On its way while these are hashed.
            begin, end = _bounds(offsets, i + STEP, last)
            tl.store(out + i, _farm(address, size, inside).to(tl.int64), mask=i < last)
            i += STEP
    else:
        hashed = _murmur(text + begin, (end - begin).to(tl.int64))
        tl.store(out + i, hashed.to(tl.int64), mask=i < last)


def ids_hash(data: Tensor, offsets: Tensor, kind: str, out: Tensor) -> None:
    n, farm = len(offsets) - 1, kind == "farm"
    step, steps = MURMUR_STEP, 1
    if farm:
        step, steps = FARM_STEP, max(min(n // FILLED, STEPS), 1)
    launch(
        _hash, cover(n, step * steps), data, len(data), offsets, out, n, steps, warps=1,
        FARM=farm, STEP=step,
    )  # fmt: skip
