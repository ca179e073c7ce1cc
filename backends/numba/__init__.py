"""Fast kernels for the CPU, compiled by Numba when first called and kept on disk.

Threads: as many as torch uses, counted at each call (`torch.set_num_threads`). They are those of
torch's own ops (see `threads`), not a threading layer of Numba's, so ops may be called from any
thread, several at a time, a reader's prefetch thread included. Small inputs, and all inputs in a
forked child, run in the calling thread. Results do not depend on the number of threads, bit by
bit, nor on how work was shared.

Bits: values are computed in float32 (sums of squares and ranks in float64) without fast-math, so
NaN and inf go through as declared; float16 and bfloat16 round to nearest even on store.
"""

from __future__ import annotations

from importlib.util import find_spec

DEVICES = ("cpu",)


def absent(device: str) -> str | None:
    """Why this backend cannot run on `device`, or None if it can."""
    return None if find_spec("numba") else "numba is not installed"
