"""Sources of kernels, compiled by CuPy, and the queue of one call that launches them.

CuPy is imported when first used, so that the sources can be read and compiled without it.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from math import prod
from types import MappingProxyType
from typing import Any, Self

import torch
from torch import Tensor

THREADS = 256
# In the order of `Dtype` in device.py.
DTYPES = (
    torch.int32, torch.int64, torch.float32, torch.float16, torch.bfloat16, torch.uint8,
    torch.bool, torch.float64,
)  # fmt: skip
CODE = {dtype: code for code, dtype in enumerate(DTYPES)}
# How a kernel compiled for one dtype spells it.
SPELLING = {
    torch.int32: "int", torch.int64: "i64", torch.float32: "float", torch.float16: "Half",
    torch.bfloat16: "Bfloat",
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Source:
    """CUDA C++ of one module; `variants` are macro sets it is compiled with, by CI each of them."""

    name: str
    text: str
    variants: tuple[Mapping[str, Any], ...] = field(default=(MappingProxyType({}),))


@cache
def cupy() -> Any:
    return import_module("cupy")


@cache
def module(source: Source, macros: tuple[tuple[str, Any], ...]) -> Any:
    defined = (f"-D{name}={value}" for name, value in macros)
    return cupy().RawModule(code=source.text, options=("-std=c++17", *defined))


@cache
def kernel(source: Source, name: str, device: int, macros: tuple[tuple[str, Any], ...]) -> Any:
    """A kernel of `source`, compiled when first asked for: not while a stream is capturing."""
    return module(source, macros).get_function(name)


@dataclass(frozen=True)
class Borrowed:
    """A stream of torch's, by the protocol that CuPy takes others' streams by."""

    pointer: int

    def __cuda_stream__(self) -> tuple[int, int]:
        return 0, self.pointer


@cache
def stream_of(pointer: int, device: int) -> Any:
    with cupy().cuda.Device(device):
        return cupy().cuda.Stream.from_external(Borrowed(pointer))


class Queue:
    """Within, CuPy launches on torch's current stream of one device; after, all is as before."""

    def __init__(self, device: torch.device) -> None:
        here = torch.cuda.current_device()
        self.device = here if device.index is None else device.index
        self.elsewhere = self.device != here

    def __enter__(self) -> Self:
        self.exits = ExitStack()
        if self.elsewhere:
            self.exits.enter_context(torch.cuda.device(self.device))
            self.exits.enter_context(cupy().cuda.Device(self.device))
        pointer = torch.cuda.current_stream(self.device).cuda_stream
        self.stream = stream_of(pointer, self.device)
        self.exits.enter_context(self.stream)
        return self

    def __exit__(self, *error: Any) -> None:
        self.exits.close()

    def launch(
        self,
        source: Source,
        name: str,
        grid: int | tuple[int, ...],
        *args: Any,
        block: int = THREADS,
        shared: int = 0,
        **macros: Any,
    ) -> None:
        """Run kernel `name` over `grid` blocks. Arguments are 8 bytes each: a tensor is its
        pointer, None a null one, int and float themselves."""
        found = kernel(source, name, self.device, tuple(macros.items()))
        blocks = grid if isinstance(grid, tuple) else (grid,)
        found(blocks, (block,), tuple(map(word, args)), shared_mem=shared)

    def clear(self, tensor: Tensor, byte: int = 0) -> None:
        if tensor.numel():
            memset = cupy().cuda.runtime.memsetAsync
            memset(tensor.data_ptr(), byte, tensor.nbytes, self.stream.ptr)

    def scratch(self, *sizes: int) -> list[Tensor]:
        """Pieces of `sizes` bytes each, aligned to 256, of one tensor from torch's allocator."""
        ends = [0]
        for size in sizes:
            ends.append(ends[-1] + -(-size // 256) * 256)
        whole = torch.empty(ends[-1], dtype=torch.uint8, device=f"cuda:{self.device}")
        return [whole[start : start + size] for start, size in zip(ends, sizes, strict=False)]


def word(value: Any) -> Any:
    # Numbers first: most arguments are, and asking whether one is a Tensor is slower.
    if type(value) is int or type(value) is float:
        return value
    if value is None:
        return 0
    return value.data_ptr() if isinstance(value, Tensor) else value


def code(tensor: Tensor | None) -> int:
    """Its dtype as kernels know it; of None, anything."""
    return 0 if tensor is None else CODE[tensor.dtype]


def blocks_for(threads: int, each: int = THREADS) -> int:
    """Blocks of `each` threads that hold `threads`; one at least."""
    return max(1, min(-(-threads // each), (1 << 31) - 1))


def width_of(row: int, *tensors: Tensor) -> int:
    """The widest access in bytes, up to 16, that divides a row of `row` bytes and every address."""
    bits = row | 16
    for tensor in tensors:
        bits |= tensor.data_ptr()
    return bits & -bits


def row_bytes(tensor: Tensor) -> int:
    return prod(tensor.shape[1:]) * tensor.itemsize


def lanes_of(count: int) -> int:
    """log2 of `count` where it is a power of two, else -1: kernels then shift, not divide."""
    return count.bit_length() - 1 if count & (count - 1) == 0 else -1
