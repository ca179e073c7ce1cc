"""Keep freed memory in the process, so that an output costs no page faults on every call.

Measured on Linux: a fresh 32 MiB output, unmapped when freed, takes four times as long to fault
in as to fill. CUDA has a caching allocator; with glibc this makes the C heap behave like one.
"""

from __future__ import annotations

import ctypes
import sys

M_TRIM_THRESHOLD = -1
M_MMAP_MAX = -4


def keep_freed_memory() -> bool:
    """Ask glibc to reuse freed memory and never unmap it; False where there is no glibc."""
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return bool(mallopt(M_MMAP_MAX, 0) and mallopt(M_TRIM_THRESHOLD, 2**31 - 1))
