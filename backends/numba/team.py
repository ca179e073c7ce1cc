"""Ranges of a kernel taken by a team of OpenMP threads, without the interpreter and its lock."""

from __future__ import annotations

import ctypes
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from llvmlite import ir
from numba.core import cgutils, extending, types

_WORD, _INT, _VOID = ir.IntType(64), ir.IntType(32), ir.VoidType()
_ANY = ir.IntType(8).as_pointer()
_BODY = ir.FunctionType(_VOID, [_ANY])
# The fields of what a team shares; the kernel's further arguments follow.
_TAKEN, _COUNT, _FAILED, _BOUNDS = range(4)


@lru_cache(maxsize=1)
def openmp() -> int:
    """Address of GOMP_parallel(body, data, threads, flags) in the OpenMP library that torch is
    linked with, GNU's or one compatible with it; 0 where there is none."""
    try:
        library = ctypes.CDLL(str(Path(torch.__file__).parent / "lib" / "libtorch_cpu.so"))
        return ctypes.cast(library.GOMP_parallel, ctypes.c_void_p).value or 0
    except (OSError, AttributeError):
        return 0


def _field(b: ir.IRBuilder, frame: Any, at: int) -> Any:
    return b.gep(frame, [_INT(0), _INT(at)])


def _body(cg: Any, module: Any, made: Any, kernel: Any, kinds: list[Any]) -> Any:
    """void body(frame): take ranges and run the kernel on them until none is left."""
    body = ir.Function(module, _BODY, name=module.get_unique_name("ranges"))
    body.linkage = "internal"
    entry, take, work, done = (body.append_basic_block(n) for n in ("entry", "take", "work", "end"))
    b = ir.IRBuilder(entry)
    frame = b.bitcast(body.args[0], ir.LiteralStructType(kinds).as_pointer())
    count, bounds = (b.load(_field(b, frame, k)) for k in (_COUNT, _BOUNDS))
    args = [b.load(_field(b, frame, k)) for k in range(_BOUNDS + 1, len(kinds))]
    b.branch(take)
    b.position_at_end(take)
    at = b.atomic_rmw("add", _field(b, frame, _TAKEN), _WORD(1), "monotonic")
    b.cbranch(b.icmp_signed("<", at, count), work, done)
    b.position_at_end(work)
    ends = [b.load(b.gep(bounds, [k])) for k in (at, b.add(at, _WORD(1)))]
    call = cg.call_conv.call_function
    status, _ = call(b, kernel, made.return_type, made.args, [*ends, *args])
    failed = b.zext(status.is_error, _WORD)
    b.atomic_rmw("add", _field(b, frame, _FAILED), failed, "monotonic")
    b.branch(take)
    b.position_at_end(done)
    b.ret_void()
    return body


# As Any: callers write the arguments of the code it emits, not of the function that types it.
_intrinsic: Any = extending.intrinsic


@_intrinsic
def together(context, kernel, bounds, parallel, workers, args):
    """kernel(bounds[k], bounds[k + 1], *args) for every k, in `workers` threads that `parallel`,
    the address of GOMP_parallel, brings together, or in this one if that is 0.

    Returns how many of the calls raised.
    """
    made = kernel.get_call_type(context, (types.int64, types.int64, *args.types), {})

    def emit(cg, b, sig, given):
        _, bounds_given, address, threads, tuple_given = given
        compiled = kernel.dispatcher.overloads[made.args]
        cg.active_code_library.add_linking_library(compiled.library)
        function = cg.declare_function(b.module, compiled.fndesc)
        array = cg.make_array(bounds)(cg, b, bounds_given)
        count = b.sub(b.extract_value(array.shape, 0), _WORD(1))
        values = [_WORD(0), count, _WORD(0), array.data, *cgutils.unpack_tuple(b, tuple_given)]
        kinds = [value.type for value in values]
        frame = cgutils.alloca_once(b, ir.LiteralStructType(kinds))
        for at, value in enumerate(values):
            b.store(value, _field(b, frame, at))
        body = _body(cg, b.module, made, function, kinds)
        data = b.bitcast(frame, _ANY)
        with b.if_else(b.icmp_signed("==", address, _WORD(0))) as (alone, shared):
            with alone:
                b.call(body, [data])
            with shared:
                kind = ir.FunctionType(_VOID, [body.type, _ANY, _INT, _INT])
                start = b.inttoptr(address, kind.as_pointer())
                b.call(start, [body, data, b.trunc(threads, _INT), _INT(0)])
        return b.load(_field(b, frame, _FAILED))

    return types.int64(kernel, bounds, types.int64, types.int64, args), emit
