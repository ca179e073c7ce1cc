"""Start a kernel on torch's current stream, on the device of its tensors."""

from __future__ import annotations

from typing import Any

import torch
import triton
from torch import Tensor
from triton import knobs

# The interpreter costs milliseconds a program, so there programs are few and large.
INTERPRETED: bool = bool(knobs.runtime.interpret)
WIDEN = 64 if INTERPRETED else 1


def launch(kernel: Any, programs: int, *args: Any, warps: int = 4, **constants: Any) -> None:
    """Run `programs` programs of a kernel; none is no call. `constants` are its constexprs."""
    if programs == 0:
        return
    device = next(a.device for a in args if isinstance(a, Tensor))
    if device.type == "cuda" and device.index not in (None, torch.cuda.current_device()):
        with torch.cuda.device(device):
            kernel[(programs,)](*args, num_warps=warps, **constants)
    else:
        kernel[(programs,)](*args, num_warps=warps, **constants)


def cover(n: int, block: int) -> int:
    """Programs of `block` elements that cover `n`."""
    return -(-n // block)


def power_of_two(n: int) -> int:
    """The smallest power of two that is `n` at least."""
    return triton.next_power_of_2(max(n, 1))


def below(n: int) -> int:
    """The largest power of two that is `n` at most."""
    return 1 << (max(n, 1).bit_length() - 1)
