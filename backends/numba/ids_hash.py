"""Fingerprints of strings, side by side."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from backends.numba.fingerprints import farm64, murmur64a
from backends.numba.threads import kernel, share


@kernel
def farm(begin, end, data, offsets, out):
    for i in range(begin, end):
        first = np.int64(offsets[i])
        out[i] = np.int64(farm64(data + first, np.int64(offsets[i + 1]) - first))


@kernel
def murmur(begin, end, data, offsets, out):
    for i in range(begin, end):
        first = np.int64(offsets[i])
        out[i] = np.int64(murmur64a(data + first, np.int64(offsets[i + 1]) - first))


def ids_hash(data: Tensor, offsets: Tensor, kind: str, out: Tensor) -> None:
    hashed = farm if kind == "farm" else murmur
    # Short strings cost far more than the bytes they have.
    work = len(data) + 32 * len(out)
    share(hashed, len(out), work, data.data_ptr(), offsets.numpy(), out.numpy())
