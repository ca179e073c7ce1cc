"""Unsigned remainders: by mask, by reciprocal in float64 (which is vectorised), or by division."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from backends.numba.search import last_not_above
from backends.numba.threads import inlined, kernel, share

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


@kernel
def remainders(begin, end, ids, splits, moduli, out):
    column = last_not_above(splits, begin)
    at = begin
    while at < end:
        while splits[column + 1] <= at:
            column += 1
        stop = min(end, np.int64(splits[column + 1]))
        modulus = moduli[column]
        if modulus & (modulus - 1) == 0:
            for i in range(at, stop):
                out[i] = ids[i] & (modulus - 1)
        elif modulus < WIDE:
            inverse = 1 / np.float64(modulus)
            for i in range(at, stop):
                out[i] = by_reciprocal(np.uint64(ids[i]), modulus, inverse)
        else:
            for i in range(at, stop):
                out[i] = np.int64(np.uint64(ids[i]) % np.uint64(modulus))
        at = stop


def ids_mod(ids: Tensor, splits: Tensor, moduli: Tensor, out: Tensor) -> None:
    share(
        remainders,
        len(ids),
        2 * ids.nbytes,
        ids.numpy(),
        splits.numpy(),
        moduli.numpy(),
        out.numpy(),
    )
