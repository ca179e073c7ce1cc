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

# Compiled kernels by what of a call their code depends on: Triton's own look-up of them costs
# several times what a launch does.
_compiled: dict[Any, Any] = {}


def launch(kernel: Any, programs: int, *args: Any, warps: int = 4, **constants: Any) -> None:
    """Run `programs` programs of a kernel; none is no call. `constants` are its constexprs, which
    are its last parameters."""
    if programs == 0:
        return
    device = next(a.device for a in args if isinstance(a, Tensor))
    if device.type == "cuda" and device.index not in (None, torch.cuda.current_device()):
        with torch.cuda.device(device):
            _start(kernel, programs, device, args, warps, constants)
    else:
        _start(kernel, programs, device, args, warps, constants)


def _start(
    kernel: Any, programs: int, device: torch.device, args: Any, warps: int, constants: Any
) -> None:
    key = (kernel.fn, device, warps, *map(_kind, args), *constants.values())
    compiled = _compiled.get(key)
    if compiled is not None:
        compiled[programs, 1, 1](*args, *constants.values())
        return
    compiled = kernel[(programs,)](*args, num_warps=warps, **constants)
    # The interpreter compiles nothing.
    if compiled is not None:
        _compiled[key] = compiled


def _kind(arg: Any) -> Any:
    """What of an argument code may depend on: at least as fine as what Triton looks at."""
    if isinstance(arg, Tensor):
        return arg.dtype, arg.data_ptr() % 16 == 0
    if isinstance(arg, int):
        return type(arg), arg == 1, arg % 16 == 0, arg.bit_length() > 31, arg.bit_length() > 63
    return type(arg)


def cover(n: int, block: int) -> int:
    """Programs of `block` elements that cover `n`."""
    return -(-n // block)


def power_of_two(n: int) -> int:
    """The smallest power of two that is `n` at least."""
    return triton.next_power_of_2(max(n, 1))


def below(n: int) -> int:
    """The largest power of two that is `n` at most."""
    return 1 << (max(n, 1).bit_length() - 1)


def log2(n: int) -> int:
    """Of a power of two."""
    return n.bit_length() - 1
