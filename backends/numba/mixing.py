"""The mixing functions of `recis_core.mixing`, word by word."""

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba.core import types

from backends.numba.threads import inlined, intrinsic

_M1, _M2 = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_S30, _S27, _S31 = np.uint64(30), np.uint64(27), np.uint64(31)
STEP = np.uint64(0x9E3779B97F4A7C15)


@inlined
def mix64(z):
    """SplitMix64's finaliser of a uint64."""
    z = (z ^ (z >> _S30)) * _M1
    z = (z ^ (z >> _S27)) * _M2
    return z ^ (z >> _S31)


@inlined
def hash_pair(salt, number):
    """uint64 hash of (table, id) by the table's salt, both int64."""
    return mix64(np.uint64(number) ^ np.uint64(salt))


@intrinsic
def bits_of(context, value):
    """The bits of a float64, as int64."""

    def emit(cg, b, sig, args):
        return b.bitcast(args[0], ir.IntType(64))

    return types.int64(types.float64), emit


@intrinsic
def float_of(context, value):
    """The float64 of these bits."""

    def emit(cg, b, sig, args):
        return b.bitcast(args[0], ir.DoubleType())

    return types.float64(types.int64), emit
