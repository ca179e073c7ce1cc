"""Numbers of one type read and written as another, one or sixteen at a time.

Types are given by a scalar of each; float16, which Numba lacks, by a bool. Conversion to float32
rounds once, whatever the source.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import types

from backends.numba.threads import intrinsic

MANY = 16
_WORD, _INT = ir.IntType(64), ir.IntType(32)


def _whole(form: Any) -> bool:
    return isinstance(form, types.Integer)


def _kind(form: Any) -> ir.Type:
    if form == types.boolean:
        return ir.HalfType()
    if _whole(form):
        return ir.IntType(form.bitwidth)
    return ir.FloatType() if form.bitwidth == 32 else ir.DoubleType()


def _bits(form: Any) -> int:
    return 16 if form == types.boolean else form.bitwidth


def _wide(kind: ir.Type, count: int) -> ir.Type:
    return ir.VectorType(kind, count) if count > 1 else kind


def _resized(b: ir.IRBuilder, raw: Any, source: Any, bits: int, count: int) -> Any:
    """An integer of the source as one of `bits` bits."""
    to = _wide(ir.IntType(bits), count)
    if bits < _bits(source):
        return b.trunc(raw, to)
    if bits > _bits(source):
        return b.sext(raw, to) if source.signed else b.zext(raw, to)
    return raw


def _turned(b: ir.IRBuilder, raw: Any, shift: Any, source: Any, target: Any, count: int) -> Any:
    if _whole(target):
        if shift is None:
            return _resized(b, raw, source, _bits(target), count)
        moved = _resized(b, raw, source, 64, count)
        added = shift
        if count > 1:
            one = b.insert_element(_wide(_WORD, count)(ir.Undefined), shift, _INT(0))
            zeros = ir.Constant(_wide(_INT, count), [0] * count)
            added = b.shuffle_vector(one, one, zeros)
        return _resized(b, b.add(moved, added), types.int64, _bits(target), count)
    to = _wide(_kind(target), count)
    if _whole(source):
        return b.sitofp(raw, to) if source.signed else b.uitofp(raw, to)
    if _bits(source) == _bits(target):
        return raw
    return b.fpext(raw, to) if _bits(source) < _bits(target) else b.fptrunc(raw, to)


def _convert(b: ir.IRBuilder, args: Any, shift: Any, source: Any, target: Any, count: int) -> Any:
    """The store instruction of `count` converted numbers."""
    read = b.inttoptr(args[0], _wide(_kind(source), count).as_pointer())
    made = _turned(b, b.load(read, align=1), shift, source, target, count)
    return b.store(made, b.inttoptr(args[1], made.type.as_pointer()), align=1)


@intrinsic
def convert_one(context, read, write, shift, source, target):
    """The `source` number at `read`, plus `shift` unless that is None, to `write` as a `target`."""

    def emit(cg, b, sig, args):
        _convert(b, args, None if shift == types.none else args[2], source, target, 1)
        return cg.get_dummy_value()

    return types.void(types.int64, types.int64, shift, source, target), emit


def _many(streaming: bool) -> Any:
    @intrinsic
    def convert(context, read, write, shift, source, target):
        def emit(cg, b, sig, args):
            made = _convert(b, args, None if shift == types.none else args[2], source, target, MANY)
            if streaming:
                made.align = min(64, MANY * _bits(target) // 8)
                made.set_metadata("nontemporal", b.module.add_metadata([_INT(1)]))
            return cg.get_dummy_value()

        return types.void(types.int64, types.int64, shift, source, target), emit

    return convert


# MANY numbers; streamed around the caches, to a place aligned to a cache line.
convert_many, stream_many = _many(False), _many(True)


@intrinsic
def size_of(context, form):
    """Bytes of a number of the form."""
    size = _bits(form) // 8

    def emit(cg, b, sig, args):
        return _WORD(size)

    return types.int64(form), emit
