"""Sixteen float32 at a time, as a type inside kernels, and the memory they come from and go to.

LLVM's own vectoriser would guard each short row with checks for overlap; written with lanes a row
of 64 columns is four loads, whatever the order of the slots. Lanes of float16 and bfloat16 are
converted on load and rounded to nearest even on store, so kernels compute in float32 alone.

Memory is given by address (int64). What lies there is said by a *form*, a scalar of the type that
stores an element: float32 as itself, float16 as int16 bits, bfloat16 as uint16 bits (NumPy lacks
the one, Numba the other). Kernels are thus compiled once per form that is really met.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from llvmlite import ir
from numba.core import types
from numba.core.extending import models, register_model
from torch import Tensor

from backends.numba.threads import intrinsic

WIDTH = 16
FORMS = {torch.float32: np.float32(0), torch.float16: np.int16(0), torch.bfloat16: np.uint16(0)}

FLOAT, _HALF, WORD = ir.FloatType(), ir.HalfType(), ir.IntType(64)
DOUBLES = ir.VectorType(ir.DoubleType(), WIDTH)
BITS = {32: ir.IntType(32), 16: ir.IntType(16)}
COUNTS = ir.VectorType(BITS[32], WIDTH)


class Lanes(types.Type):
    """WIDTH float32 in one register."""

    def __init__(self) -> None:
        super().__init__(name="Lanes")


class Doubles(types.Type):
    """WIDTH float64, to sum squares in."""

    def __init__(self) -> None:
        super().__init__(name="Doubles")


class Counted(types.Type):
    """WIDTH int32, to count in."""

    def __init__(self) -> None:
        super().__init__(name="Counted")


lanes, doubles, counted = Lanes(), Doubles(), Counted()


@register_model(Lanes)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, ir.VectorType(FLOAT, WIDTH))


@register_model(Doubles)
class _DoublesModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, DOUBLES)


@register_model(Counted)
class _CountedModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, COUNTS)


def form_of(tensor: Tensor | None) -> Any:
    """The form of a tensor's elements; float32 for None, of which nothing is read."""
    return FORMS[torch.float32 if tensor is None else tensor.dtype]


def address_of(tensor: Tensor | None) -> int:
    """Address of the first element; 0 for None."""
    return 0 if tensor is None else tensor.data_ptr()


def _wide(kind: ir.Type, count: int) -> ir.Type:
    return ir.VectorType(kind, count) if count > 1 else kind


def _constant(kind: ir.Type, value: int, count: int) -> ir.Constant:
    return ir.Constant(_wide(kind, count), [value] * count if count > 1 else value)


def _stored(form: types.Type) -> ir.Type:
    return FLOAT if form == types.float32 else BITS[16]


def _decode(b: ir.IRBuilder, raw: Any, form: types.Type, count: int) -> Any:
    if form == types.float32:
        return raw
    if form == types.int16:
        return b.fpext(b.bitcast(raw, _wide(_HALF, count)), _wide(FLOAT, count))
    word = b.zext(raw, _wide(BITS[32], count))
    return b.bitcast(b.shl(word, _constant(BITS[32], 16, count)), _wide(FLOAT, count))


def _encode(b: ir.IRBuilder, value: Any, form: types.Type, count: int) -> Any:
    if form == types.float32:
        return value
    if form == types.int16:
        return b.bitcast(b.fptrunc(value, _wide(_HALF, count)), _wide(BITS[16], count))
    word = b.bitcast(value, _wide(BITS[32], count))
    odd = b.and_(b.lshr(word, _constant(BITS[32], 16, count)), _constant(BITS[32], 1, count))
    half = b.add(odd, _constant(BITS[32], 0x7FFF, count))
    rounded = b.lshr(b.add(word, half), _constant(BITS[32], 16, count))
    quiet = _constant(BITS[32], 0x7FC0, count)
    return b.trunc(
        b.select(b.fcmp_unordered("uno", value, value), quiet, rounded), _wide(BITS[16], count)
    )


def _pointer(b: ir.IRBuilder, address: Any, kind: ir.Type) -> Any:
    return b.inttoptr(address, kind.as_pointer())


def mask_of(b: ir.IRBuilder, left: Any) -> Any:
    """Which lanes are below `left`."""
    small = b.trunc(b.select(b.icmp_signed("<", left, WORD(WIDTH)), left, WORD(WIDTH)), BITS[32])
    spread = b.insert_element(ir.VectorType(BITS[32], WIDTH)(ir.Undefined), small, BITS[32](0))
    zeros = ir.Constant(ir.VectorType(BITS[32], WIDTH), [0] * WIDTH)
    spread = b.shuffle_vector(spread, spread, zeros)
    order = ir.Constant(ir.VectorType(BITS[32], WIDTH), list(range(WIDTH)))
    return b.icmp_signed("<", order, spread)


@intrinsic
def load(context, address, left, form):
    """Lanes from `address`, `left` of them (at most WIDTH); those beyond are 0."""

    def emit(cg, b, sig, args):
        kind = _stored(form)
        wide = ir.VectorType(kind, WIDTH)
        at = _pointer(b, args[0], wide)
        name = f"llvm.masked.load.v{WIDTH}{'f32' if kind == FLOAT else 'i16'}.p0"
        flags = ir.VectorType(ir.IntType(1), WIDTH)
        made = ir.FunctionType(wide, [at.type, BITS[32], flags, wide])
        function = b.module.declare_intrinsic(name, (), made)
        zero = ir.Constant(wide, [0] * WIDTH if kind != FLOAT else [0.0] * WIDTH)
        raw = b.call(function, [at, BITS[32](2), mask_of(b, args[1]), zero])
        return _decode(b, raw, form, WIDTH)

    return lanes(types.int64, types.int64, form), emit


@intrinsic
def load_all(context, address, form):
    """WIDTH lanes from `address`."""

    def emit(cg, b, sig, args):
        kind = _stored(form)
        at = _pointer(b, args[0], ir.VectorType(kind, WIDTH))
        return _decode(b, b.load(at, align=2), form, WIDTH)

    return lanes(types.int64, form), emit


@intrinsic
def store(context, address, left, value, form):
    """Write the first `left` lanes (at most WIDTH) to `address`, rounded to the form."""

    def emit(cg, b, sig, args):
        kind = _stored(form)
        wide = ir.VectorType(kind, WIDTH)
        at = _pointer(b, args[0], wide)
        name = f"llvm.masked.store.v{WIDTH}{'f32' if kind == FLOAT else 'i16'}.p0"
        flags = ir.VectorType(ir.IntType(1), WIDTH)
        made = ir.FunctionType(ir.VoidType(), [wide, at.type, BITS[32], flags])
        function = b.module.declare_intrinsic(name, (), made)
        raw = _encode(b, args[2], form, WIDTH)
        b.call(function, [raw, at, BITS[32](2), mask_of(b, args[1])])
        return cg.get_dummy_value()

    return types.void(types.int64, types.int64, lanes, form), emit


@intrinsic
def scalar(context, address, at, form):
    """Element `at` of the array at `address`, as float32."""

    def emit(cg, b, sig, args):
        kind = _stored(form)
        step = b.mul(args[1], WORD(4 if kind == FLOAT else 2))
        raw = b.load(_pointer(b, b.add(args[0], step), kind), align=2)
        return _decode(b, raw, form, 1)

    return types.float32(types.int64, types.int64, form), emit


@intrinsic
def put(context, address, at, value, form):
    """Element `at` of the array at `address` becomes `value`, rounded to the form."""

    def emit(cg, b, sig, args):
        kind = _stored(form)
        step = b.mul(args[1], WORD(4 if kind == FLOAT else 2))
        raw = _encode(b, args[2], form, 1)
        b.store(raw, _pointer(b, b.add(args[0], step), kind), align=2)
        return cg.get_dummy_value()

    return types.void(types.int64, types.int64, types.float32, form), emit


@intrinsic
def bits32(context, value):
    """The bits of a float32, as uint32."""

    def emit(cg, b, sig, args):
        return b.bitcast(args[0], BITS[32])

    return types.uint32(types.float32), emit


@intrinsic
def width_of(context, form):
    """Bytes of one element of the form."""
    size = 4 if form == types.float32 else 2

    def emit(cg, b, sig, args):
        return WORD(size)

    return types.int64(form), emit
