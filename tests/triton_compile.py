"""A child of test_triton.py: compile for sm_90, without a GPU, every kernel that the ops launch.

Ops run on CPU tensors with `JITFunction.run` replaced: instead of a launch, the types of its
arguments are the signature of a compilation. Prints "<module>.<kernel> <bytes of cubin>" a line.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from triton.runtime.jit import JITFunction

from backends import find
from backends.arrays import BASE, Variant
from backends.boundary import Bound
from backends.conformance import present
from backends.triton import id_map, ids_partition
from recis_core.kernels import every_op
from recis_core.spec import Case, Op

TARGET = GPUTarget("cuda", 90, 32)
NAMES = {
    torch.float64: "*fp64", torch.float32: "*fp32", torch.float16: "*fp16", torch.bfloat16: "*bf16",
    torch.int64: "*i64", torch.int32: "*i32", torch.int16: "*i16", torch.uint8: "*u8",
    torch.bool: "*i1",
}  # fmt: skip
SEEN: set[str] = set()


def compile_only(
    kernel: Any, *args: Any, grid: Any, warmup: bool, num_warps: int, **constants: Any
) -> None:
    """Stands in for `JITFunction.run`."""
    given = {**dict(zip(kernel.arg_names, args, strict=False)), **constants}
    signature, values, hints = {}, {}, {}
    for at, param in enumerate(kernel.params):
        value = given[param.name]
        if param.is_constexpr or value is None:
            signature[param.name], values[(at,)] = "constexpr", value
        elif isinstance(value, torch.Tensor):
            signature[param.name] = NAMES[value.dtype]
            hints[(at,)] = [["tt.divisibility", 16]]
        elif isinstance(value, int):
            signature[param.name] = "i32" if -(1 << 31) <= value < 1 << 31 else "i64"
        else:
            signature[param.name] = "fp32"
    name = f"{kernel.fn.__module__}.{kernel.fn.__name__}"
    key = f"{name} {signature} {values} {num_warps}"
    if key not in SEEN:
        SEEN.add(key)
        source = ASTSource(kernel, signature, values, hints)
        built = triton.compile(source, target=TARGET, options=dict(num_warps=num_warps))
        print(name, len(built.asm["cubin"]), flush=True)


def exercise_map(make: Any) -> None:
    """Every method of the id map; what its kernels would have counted stays 0."""
    held = make(4, 100, device="cpu")
    pairs = torch.zeros(3, dtype=torch.int32), torch.zeros(3, dtype=torch.int64)
    calls = held.find, held.insert, held.erase
    for call in (*calls, lambda *_: held._rehash(5000), lambda *_: held.items()):
        held.state.zero_()
        call(*pairs)
    id_map.takes_cells = lambda _: False
    held.insert(*pairs)


def exercise(op: Op[..., Any], call: Any, case: Case, variant: Variant) -> None:
    given = present(op, case.make(), variant, torch.device("cpu"))
    Bound.of(op, call, "triton", "cpu")(*given.values())


def main() -> None:
    JITFunction.run = compile_only
    for op in every_op():
        call = find("triton").implementation(op)
        if op.machine:
            exercise_map(call)
        elif call is not None:
            cases = list(op.cases("test"))
            for variant in (BASE, Variant(values="bfloat16", index="int64")):
                exercise(op, call, cases[-1], variant)
            if op.name in ("ids_partition", "ids_transpose"):
                # Several owners; weights.
                exercise(op, call, cases[-2], BASE)
            if op.name == "ids_partition":
                ids_partition.MOST_OWNERS = 1
                exercise(op, call, cases[-2], BASE)


if __name__ == "__main__":
    main()
