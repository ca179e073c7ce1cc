"""Arithmetic of lanes inside kernels, and sums of them in one fixed order.

Importing it also lets kernels write + - * / for lanes.
"""

from __future__ import annotations

import operator
from typing import Any

from llvmlite import ir
from numba.core import types
from numba.core.imputils import lower_builtin
from numba.core.typing.templates import AbstractTemplate, infer_global, signature

from backends.numba.lanes import (
    BITS,
    COUNTS,
    DOUBLES,
    FLOAT,
    WIDTH,
    WORD,
    counted,
    doubles,
    lanes,
    mask_of,
)
from backends.numba.threads import intrinsic


@intrinsic
def spread(context, value):
    """The same float32 in every lane."""

    def emit(cg, b, sig, args):
        wide = ir.VectorType(FLOAT, WIDTH)
        one = b.insert_element(wide(ir.Undefined), args[0], BITS[32](0))
        zeros = ir.Constant(ir.VectorType(BITS[32], WIDTH), [0] * WIDTH)
        return b.shuffle_vector(one, one, zeros)

    return lanes(types.float32), emit


@intrinsic
def root(context, a):
    """Square root of each lane."""

    def emit(cg, b, sig, args):
        kind = args[0].type
        made = ir.FunctionType(kind, [kind])
        return b.call(b.module.declare_intrinsic(f"llvm.sqrt.v{WIDTH}f32", (), made), args)

    return lanes(lanes), emit


def _sum(b: ir.IRBuilder, value: Any) -> Any:
    half = WIDTH
    while half > 1:
        half //= 2
        picks = [
            ir.Constant(ir.VectorType(BITS[32], half), [*range(k, k + half)]) for k in (0, half)
        ]
        low, high = (b.shuffle_vector(value, value, pick) for pick in picks)
        value = b.fadd(low, high)
    return b.extract_element(value, BITS[32](0))


@intrinsic
def total(context, a):
    """Sum of the lanes, float64, in one fixed order: halves onto each other."""

    def emit(cg, b, sig, args):
        return _sum(b, b.fpext(args[0], DOUBLES))

    return types.float64(lanes), emit


@intrinsic
def squared(context, a):
    """The square of each lane, in float64."""

    def emit(cg, b, sig, args):
        value = b.fpext(args[0], DOUBLES)
        return b.fmul(value, value)

    return doubles(lanes), emit


@intrinsic
def add(context, a, more):
    """Sums of float64 lanes."""

    def emit(cg, b, sig, args):
        return b.fadd(*args)

    return doubles(doubles, doubles), emit


@intrinsic
def sum_of(context, a):
    """Sum of float64 lanes, in the order of `total`."""

    def emit(cg, b, sig, args):
        return _sum(b, args[0])

    return types.float64(doubles), emit


@intrinsic
def halves_below(context, a, left, limit):
    """Of the first `left` lanes, two for each below `limit` and one for each equal to it."""

    def emit(cg, b, sig, args):
        one = b.insert_element(ir.VectorType(FLOAT, WIDTH)(ir.Undefined), args[2], BITS[32](0))
        zeros = ir.Constant(COUNTS, [0] * WIDTH)
        wide = b.shuffle_vector(one, one, zeros)
        flags = mask_of(b, args[1])
        made = ir.FunctionType(BITS[16], [BITS[16]])
        ones = b.module.declare_intrinsic("llvm.ctpop.i16", (), made)
        # Those below are among those not above: together they count them twice.
        found = [
            b.zext(b.call(ones, [b.bitcast(b.and_(past, flags), BITS[16])]), WORD)
            for past in (b.fcmp_ordered("<", args[0], wide), b.fcmp_ordered("<=", args[0], wide))
        ]
        return b.add(*found)

    return types.int64(lanes, types.int64, types.float32), emit


@intrinsic
def nothing_counted(context):
    """A count of 0 for each lane."""

    def emit(cg, b, sig, args):
        return ir.Constant(COUNTS, [0] * WIDTH)

    return counted(), emit


@intrinsic
def count_not_above(context, counts, value, limits):
    """`counts` with 1 added to each lane whose limit is not below `value`, or is NaN."""

    def emit(cg, b, sig, args):
        wide = ir.VectorType(FLOAT, WIDTH)
        one = b.insert_element(wide(ir.Undefined), args[1], BITS[32](0))
        zeros = ir.Constant(COUNTS, [0] * WIDTH)
        past = b.fcmp_unordered("ule", b.shuffle_vector(one, one, zeros), args[2])
        # True is -1 when its sign is spread.
        return b.sub(args[0], b.sext(past, COUNTS))

    return counted(counted, types.float32, lanes), emit


@intrinsic
def store_counts(context, address, left, counts):
    """Write the first `left` counts to `address` as int64."""

    def emit(cg, b, sig, args):
        wide = ir.VectorType(WORD, WIDTH)
        at = b.inttoptr(args[0], wide.as_pointer())
        flags = ir.VectorType(ir.IntType(1), WIDTH)
        made = ir.FunctionType(ir.VoidType(), [wide, at.type, BITS[32], flags])
        function = b.module.declare_intrinsic(f"llvm.masked.store.v{WIDTH}i64.p0", (), made)
        b.call(function, [b.zext(args[2], wide), at, BITS[32](8), mask_of(b, args[1])])
        return cg.get_dummy_value()

    return types.void(types.int64, types.int64, counted), emit


def _arithmetic(function: Any, instruction: str) -> None:
    """Let kernels write `a + b` for lanes."""

    class Template(AbstractTemplate):
        key = function

        def generic(self, args, kws):
            if args == (lanes, lanes):
                return signature(lanes, lanes, lanes)
            return None

    def emit(cg, b, sig, args):
        return getattr(b, instruction)(*args)

    # As Any: Numba declares these to return None, yet they return decorators.
    typed: Any = infer_global(function)
    lowered: Any = lower_builtin(function, lanes, lanes)
    typed(Template)
    lowered(emit)


for _function, _instruction in (
    (operator.add, "fadd"),
    (operator.sub, "fsub"),
    (operator.mul, "fmul"),
    (operator.truediv, "fdiv"),
):
    _arithmetic(_function, _instruction)
