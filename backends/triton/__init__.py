"""Kernels written in Triton, compiled for the GPU at hand when first called.

On CUDA they run natively; on a CPU only under Triton's interpreter, which serves the conformance
tests and nothing else: it is chosen by TRITON_INTERPRET=1 in the environment of the process,
before the kernels are imported. Block shapes come from `tuning`. Where a kernel of torch does a
part of the work (`torch.sort`, `torch.cumsum`) the op's module says so in `USES`.
"""

from __future__ import annotations

from importlib.util import find_spec

DEVICES = ("cpu", "cuda")


def absent(device: str) -> str | None:
    """Why this backend cannot run on `device`, or None if it can."""
    if find_spec("triton") is None:
        return "triton is not installed; it comes with: pip install -e '.[triton]'"
    from triton import knobs

    interpreted = knobs.runtime.interpret
    if device == "cpu" and not interpreted:
        return (
            "on a CPU it runs under Triton's interpreter only, in a process started with "
            "TRITON_INTERPRET=1"
        )
    if device == "cuda" and interpreted:
        return "TRITON_INTERPRET is set, so kernels would be interpreted on the CPU"
    return None
