"""Unsigned remainders: by mask, by reciprocal in float64, or by subtraction, all vectorised."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from backends.numba.memory import LINE, STREAMED, copy, prefetch, stream
from backends.numba.search import last_not_above
from backends.numba.threads import inlined, kernel, share

# Remainders computed before they are written.
HELD = 512
# Below this the estimate's remainder, a little over one modulus, fits int64.
WIDE = 1 << 62


@inlined
def by_reciprocal(word, modulus, inverse):
    """word mod modulus: an estimated quotient leaves |r| <= modulus + 2^13, a second one a bit over
    one modulus, and the rest is added or taken away."""
    estimate = np.int64(np.float64(word) * inverse)
    r = np.int64(word) - estimate * modulus
    r -= np.int64(np.float64(r) * inverse) * modulus
    r += modulus if r < 0 else 0
    r += modulus if r < 0 else 0
    r -= modulus if r >= modulus else 0
    return r


@inlined
def by_subtraction(word, modulus):
    """word mod a modulus that 2^64 holds at most four times."""
    for _ in range(3):
        word -= modulus if word >= modulus else np.uint64(0)
    return np.int64(word)


@inlined
def stretch(ids, first, n, modulus, out):
    """n remainders to the front of `out`."""
    if modulus & (modulus - 1) == 0:
        for i in range(n):
            out[i] = ids[first + i] & (modulus - 1)
    elif modulus < WIDE:
        inverse = 1 / np.float64(modulus)
        for i in range(n):
            out[i] = by_reciprocal(np.uint64(ids[first + i]), modulus, inverse)
    else:
        for i in range(n):
            out[i] = by_subtraction(np.uint64(ids[first + i]), np.uint64(modulus))


@kernel
def remainders(begin, end, ids, splits, moduli, streaming, out):
    """Elements [begin, end). With `streaming` they go through a short array, in cache, and from
    there around it."""
    column = last_not_above(splits, begin)
    held = np.empty(HELD, np.int64)
    target = out.ctypes.data
    at = begin
    while at < end:
        while splits[column + 1] <= at:
            column += 1
        stop = min(end, np.int64(splits[column + 1]))
        if streaming:
            while at < stop:
                # Up to a line's end of the output, then whole lines.
                into = (target // 8 + at) % 8
                n = min(HELD, stop - at) if into == 0 else min(8 - into, stop - at)
                prefetch(ids.ctypes.data + 8 * (at + HELD), 8 * n)
                stretch(ids, at, n, moduli[column], held)
                write(target + 8 * at, held.ctypes.data, n)
                at += n
        else:
            stretch(ids, at, stop - at, moduli[column], out[at:stop])
            at = stop


@inlined
def write(to, source, n):
    """n int64; whole lines around the caches if they begin with one."""
    whole = n // 8 * 8 if to % LINE == 0 else 0
    stream(to, source, 8 * whole)
    copy(to + 8 * whole, source + 8 * whole, 8 * (n - whole))


def ids_mod(ids: Tensor, splits: Tensor, moduli: Tensor, out: Tensor) -> None:
    share(
        remainders,
        len(ids),
        2 * ids.nbytes,
        ids.numpy(),
        splits.numpy(),
        moduli.numpy(),
        out.nbytes >= STREAMED,
        out.numpy(),
    )
