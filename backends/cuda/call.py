"""Call an op's C-ABI library: pack the arguments into records, allocate scratch, launch."""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Callable
from functools import cache
from math import prod
from typing import Any

import torch
from torch import Tensor

from backends.cuda.build import library
from recis_core.blocks import Blocks, Slot
from recis_core.rules import HasSlots, OneOf
from recis_core.spec import Op

# Mirrors `struct Arg` in arg.cuh.
INTEGER, REAL = struct.Struct("=qqqii"), struct.Struct("=dqqii")
DTYPES = (
    torch.int32, torch.int64, torch.float32, torch.float16, torch.bfloat16, torch.uint8,
    torch.bool, torch.float64,
)  # fmt: skip
CODE = {dtype: code for code, dtype in enumerate(DTYPES)}
NOTHING = INTEGER.pack(0, 0, 0, 0, 0)


class LaunchError(RuntimeError):
    """A CUDA call inside an op failed."""


def pack_tensor(t: Tensor | None) -> bytes:
    if t is None:
        return NOTHING
    n0 = t.shape[0] if t.ndim else 1
    return INTEGER.pack(t.data_ptr(), n0, prod(t.shape[1:]), CODE[t.dtype], 1)


def pack_blocks(blocks: Blocks) -> bytes:
    return INTEGER.pack(
        blocks.pointers.data_ptr(),
        blocks.stride,
        len(blocks.tensors),
        blocks.log2_rows,
        len(blocks.slots),
    )


def pack_slot(slot: Slot) -> bytes:
    return REAL.pack(slot.fill, slot.offset, slot.dim, CODE[slot.dtype], 1)


def pack_int(value: int) -> bytes:
    return INTEGER.pack((value + (1 << 63)) % (1 << 64) - (1 << 63), 0, 0, 0, 1)


@cache
def load(op: str, architecture: str) -> ctypes.CDLL:
    return ctypes.CDLL(str(library(op, (architecture,))))


def architecture_of(device: torch.device) -> str:
    major, minor = torch.cuda.get_device_capability(device)
    return f"{major}{minor}"


class Library:
    """The exported functions of one op's library on one device."""

    def __init__(self, name: str, device: torch.device) -> None:
        self.name, self.device = name, device
        self.dll = load(name, architecture_of(device))

    def function(self, name: str) -> Callable[..., int]:
        found = getattr(self.dll, name)
        found.restype = ctypes.c_int64
        found.argtypes = ctypes.c_char_p, ctypes.c_void_p, ctypes.c_void_p
        return found

    def launch(
        self, function: Callable[..., int], records: bytes, scratch: Tensor | None = None
    ) -> None:
        """Run an exported function on torch's current stream; raise LaunchError if it fails."""
        stream = torch.cuda.current_stream(self.device).cuda_stream
        code = function(records, None if scratch is None else scratch.data_ptr(), stream)
        if code:
            raise LaunchError(f"{self.name} of backend cuda: CUDA error {code}")


class Caller:
    """An op of this backend: takes the declared arguments, then the outputs.

    Exported are `<op>(args, scratch, stream) -> cudaError_t` and, where an op needs device memory
    of its own, `<op>_scratch(args, 0, 0) -> bytes`. After arguments and outputs come the slots of
    the blocks: those the op's `HasSlots` rule names, in its order, then the others.
    """

    takes_outputs = True

    def __init__(self, op: Op[..., Any]) -> None:
        self.name = op.name
        self.params = op.params
        self.choices = {r.name: r.values for r in op.rules if isinstance(r, OneOf)}
        self.slots = tuple(s for r in op.rules if isinstance(r, HasSlots) for s in r.slots)
        self.libraries: dict[torch.device, tuple[Library, Callable[..., int], Any]] = {}

    def bound(self, device: torch.device) -> tuple[Library, Callable[..., int], Any]:
        if device not in self.libraries:
            lib = Library(self.name, device)
            scratch = f"{self.name}_scratch"
            sizes = lib.function(scratch) if hasattr(lib.dll, scratch) else None
            self.libraries[device] = lib, lib.function(self.name), sizes
        return self.libraries[device]

    def pack(self, args: tuple[Any, ...]) -> tuple[bytes, torch.device, list[Tensor]]:
        """Records of all arguments, the device, and copies that must live until the launch."""
        records, kept, blocks, device = [], [], None, None
        for param, value in zip(self.params, args, strict=False):
            if isinstance(value, Tensor) or value is None:
                if value is not None and param.kind == "Bytes" and value.data_ptr() % 16:
                    # Kernels read bytes as wider words; memory from torch is aligned anew.
                    value = value.clone()
                    kept.append(value)
                records.append(pack_tensor(value))
                device = device or (value.device if value is not None else None)
            elif isinstance(value, Blocks):
                blocks, device = value, value.device
                records.append(pack_blocks(value))
            elif isinstance(value, str):
                if param.name == "slot":
                    assert blocks is not None
                    records.append(pack_slot(blocks.slots[value]))
                else:
                    records.append(pack_int(self.choices[param.name].index(value)))
            elif param.kind == "float":
                records.append(REAL.pack(value, 0, 0, 0, 1))
            else:
                records.append(pack_int(value))
        records += map(pack_tensor, args[len(self.params) :])
        if blocks is not None:
            rest = [s for s in blocks.slots if s not in self.slots]
            records += [pack_slot(blocks.slots[s]) for s in (*self.slots, *rest)]
        assert device is not None
        return b"".join(records), device, kept

    def __call__(self, *args: Any) -> None:
        records, device, _kept = self.pack(args)
        library, function, sizes = self.bound(device)
        scratch = None
        if sizes is not None:
            scratch = torch.empty(sizes(records, None, None), dtype=torch.uint8, device=device)
        library.launch(function, records, scratch)
