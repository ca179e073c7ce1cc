"""Memory by address: prefetch, copy, words, compare-and-swap; where a row of blocks lies."""

from __future__ import annotations

from llvmlite import ir
from numba.core import types

from backends.numba.threads import inlined, intrinsic

LINE = 64
# Outputs from this size on are written around the caches, which would not keep them anyway.
STREAMED = 8 << 20
_WORD, _BYTE, _INT = ir.IntType(64), ir.IntType(8), ir.IntType(32)


@intrinsic
def prefetch_line(context, address):
    """Ask for the cache line of `address`; never faults."""

    def emit(cg, b, sig, args):
        at = b.inttoptr(args[0], _BYTE.as_pointer())
        made = ir.FunctionType(ir.VoidType(), [at.type, _INT, _INT, _INT])
        function = b.module.declare_intrinsic("llvm.prefetch.p0", (), made)
        b.call(function, [at, _INT(0), _INT(3), _INT(1)])
        return cg.get_dummy_value()

    return types.void(types.int64), emit


@inlined
def prefetch(address, nbytes):
    """Ask for every cache line of `nbytes` from `address`."""
    at = address & -LINE
    while at < address + nbytes:
        prefetch_line(at)
        at += LINE


@intrinsic
def word(context, address, form):
    """The integer or float of `form`'s type at `address`, which need not be aligned."""

    def emit(cg, b, sig, args):
        kind = cg.get_value_type(form)
        return b.load(b.inttoptr(args[0], kind.as_pointer()), align=1)

    return form(types.int64, form), emit


@intrinsic
def set_word(context, address, value):
    """Write an integer or float to `address`, which need not be aligned."""

    def emit(cg, b, sig, args):
        b.store(args[1], b.inttoptr(args[0], args[1].type.as_pointer()), align=1)
        return cg.get_dummy_value()

    return types.void(types.int64, value), emit


def _copy(count: int, streaming: bool):
    @intrinsic
    def copy(context, to, source):
        def emit(cg, b, sig, args):
            kind = ir.VectorType(_INT, count // 4) if count > 4 else ir.IntType(8 * count)
            raw = b.load(b.inttoptr(args[1], kind.as_pointer()), align=1)
            made = b.store(raw, b.inttoptr(args[0], kind.as_pointer()), align=1)
            if streaming:
                made.align = count
                made.set_metadata("nontemporal", b.module.add_metadata([_INT(1)]))
            return cg.get_dummy_value()

        return types.void(types.int64, types.int64), emit

    return copy


copy64, copy16, copy2, stream64 = (
    _copy(64, False),
    _copy(16, False),
    _copy(2, False),
    _copy(64, True),
)


@inlined
def copy(to, source, nbytes):
    """Copy an even number of bytes between places that do not overlap."""
    at = 0
    while at + 64 <= nbytes:
        copy64(to + at, source + at)
        at += 64
    while at + 16 <= nbytes:
        copy16(to + at, source + at)
        at += 16
    while at < nbytes:
        copy2(to + at, source + at)
        at += 2


@intrinsic
def stream_zeros(context, to):
    """Make a line of 64 bytes zero, around the caches."""

    def emit(cg, b, sig, args):
        kind = ir.VectorType(_INT, 16)
        made = b.store(ir.Constant(kind, [0] * 16), b.inttoptr(args[0], kind.as_pointer()))
        made.align = 64
        made.set_metadata("nontemporal", b.module.add_metadata([_INT(1)]))
        return cg.get_dummy_value()

    return types.void(types.int64), emit


@inlined
def whole_lines(to, nbytes):
    """Whether a place consists of whole cache lines, which alone may be streamed."""
    return (to | nbytes) & (LINE - 1) == 0


@inlined
def stream(to, source, nbytes):
    """Copy to whole lines, around the caches: nothing is read of what is overwritten."""
    for at in range(0, nbytes, 64):
        stream64(to + at, source + at)


@inlined
def stream_clear(to, nbytes):
    """Make whole lines zero, around the caches."""
    for at in range(0, nbytes, 64):
        stream_zeros(to + at)


@inlined
def clear(to, nbytes):
    """Make an even number of bytes zero."""
    at = 0
    while at + 8 <= nbytes:
        set_word(to + at, 0)
        at += 8
    while at < nbytes:
        set_word(to + at, types.int16(0))
        at += 2


@inlined
def row_at(pointers, row, log2_rows, stride):
    """Address of a row of the blocks."""
    return pointers[row >> log2_rows] + (row & ((1 << log2_rows) - 1)) * stride


@intrinsic
def claim(context, address, old, new):
    """Whether the uint64 at `address` was `old` and is now `new`, in one atomic step."""

    def emit(cg, b, sig, args):
        at = b.inttoptr(args[0], _WORD.as_pointer())
        return b.extract_value(b.cmpxchg(at, args[1], args[2], "monotonic"), 1)

    return types.boolean(types.int64, types.uint64, types.uint64), emit
