"""Kernels in CUDA C++ compiled by CuPy (NVRTC) when first called, and kept in CuPy's own cache.

Tensors reach kernels as pointers, so nothing is copied and bfloat16, which CuPy has no dtype for,
is a code beside the pointer. Kernels run on torch's current stream, within the call's context
only; scratch comes from torch's allocator and CuPy allocates nothing, so every op can be captured
in a CUDA graph once its kernels have been compiled. No op waits for the device, but for `id_map`
where it has to grow, might pass its limit, or is asked for a number.
"""

from __future__ import annotations

from importlib.util import find_spec

DEVICES = ("cuda",)


def absent(device: str) -> str | None:
    """Why this backend cannot run on `device`, or None if it can."""
    # Not by importing: the package that `cupy` names may be for another CUDA, and then says so.
    if find_spec("cupy") is None:
        return "cupy is not installed; it comes with: pip install -e '.[cupy]'"
    try:
        import cupy  # noqa: F401
    except ImportError as error:
        return f"cupy does not import: {error}"
    return None
