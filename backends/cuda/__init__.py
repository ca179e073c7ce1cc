"""CUDA C++ kernels in C-ABI libraries, built with nvcc on first use, one `.cu` an op.

No dependence on a torch version: a call passes pointers and sizes. torch allocates.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from backends.cuda.build import SOURCES, find_compiler, missing
from recis_core.spec import Op

DEVICES = ("cuda",)


def absent(device: str) -> str | None:
    return missing() if find_compiler() is None else None


def implementation(op: Op[..., Any], deterministic: bool = False) -> Callable[..., Any] | None:
    from backends.cuda.call import Caller
    from backends.cuda.id_map import id_map

    if op.machine:
        return id_map if op.name == "id_map" else None
    return Caller(op) if (SOURCES / f"{op.name}.cu").exists() else None
