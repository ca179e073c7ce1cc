"""Conversion piece by piece: pieces of one source and target type are one range of elements."""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import types
from torch import Tensor

from backends.numba.memory import set_word, word
from backends.numba.search import last_not_above
from backends.numba.threads import intrinsic, kernel, share
from recis_core.ops.columns_unpack import (
    BASE,
    COUNT,
    SOURCE,
    SOURCES,
    START,
    TARGET,
    TARGETS,
    TO,
)

HALF = SOURCES.index("float16")


@intrinsic
def converted(context, address, source, target):
    """The `source` typed number at `address` as a `target`; float16 is passed as bool."""

    def emit(cg, b, sig, args):
        if source == types.boolean:
            raw = b.load(b.inttoptr(args[0], ir.IntType(16).as_pointer()), align=2)
            return b.fpext(b.bitcast(raw, ir.HalfType()), ir.FloatType())
        kind = cg.get_value_type(source)
        raw = b.load(b.inttoptr(args[0], kind.as_pointer()), align=1)
        return cg.cast(b, raw, source, target)

    return target(types.int64, source, target), emit


@intrinsic
def narrowed(context, number, target):
    """A number as a `target`: sums of int32 are int64 to the compiler."""

    def emit(cg, b, sig, args):
        return cg.cast(b, args[0], number, target)

    return target(number, target), emit


@kernel
def convert(begin, end, ends, starts, places, shifts, source, width, target, target_width, out):
    """Elements [begin, end) of all pieces; piece p holds elements ends[p]:ends[p+1]."""
    piece = last_not_above(ends, begin)
    at = begin
    while at < end:
        while ends[piece + 1] <= at:
            piece += 1
        stop = min(end, ends[piece + 1])
        inside = at - ends[piece]
        read, write = starts[piece] + inside * width, out + (places[piece] + inside) * target_width
        for i in range(stop - at):
            number = converted(read + i * width, source, target)
            if shifts is not None:
                number = narrowed(number + shifts[piece], target)
            set_word(write + i * target_width, number)
        at = stop


@kernel
def shift(starts, ends, bases, source, shifts):
    """What bounds of each piece are moved by: its base less its first element."""
    for piece in range(len(starts)):
        first = 0
        if ends[piece] < ends[piece + 1]:
            first = np.int64(word(starts[piece], source))
        shifts[piece] = bases[piece] - first


@kernel
def gaps(pieces, sizes, addresses, widths):
    """Clear what no piece names: before, between and after pieces, as met in their order."""
    reached = np.zeros(len(sizes), np.int64)
    for piece in range(len(pieces) + len(sizes)):
        target = piece - len(pieces)
        first, stop = 0, 0
        if target < 0:
            target = pieces[piece, TARGET]
            first = pieces[piece, TO]
            stop = first + pieces[piece, COUNT]
        else:
            first = stop = sizes[target]
        at = addresses[target] + reached[target] * widths[target]
        for byte in range((first - reached[target]) * widths[target]):
            set_word(at + byte, np.uint8(0))
        reached[target] = max(reached[target], stop)


def columns_unpack(
    buffer: Tensor,
    pieces: Tensor,
    ids: int,
    values: int,
    octets: int,
    bounds: int,
    ids_out: Tensor,
    values_out: Tensor,
    bytes_out: Tensor,
    bounds_out: Tensor,
) -> None:
    outs = (ids_out, values_out, bytes_out, bounds_out)
    table = pieces.numpy()
    described = [np.array(x) for x in ([len(o) for o in outs], [o.data_ptr() for o in outs])]
    gaps(table, *described, np.array([o.itemsize for o in outs]))
    kinds = table[:, SOURCE] * len(TARGETS) + table[:, TARGET]
    order = np.argsort(kinds, kind="stable")
    ordered = table[order]
    if not len(order):
        return
    firsts = np.flatnonzero(np.diff(kinds[order], prepend=-1)).tolist()
    for first, stop in zip(firsts, [*firsts[1:], len(order)], strict=True):
        unpack_kind(buffer, ordered[first:stop], outs[int(ordered[first, TARGET])])


def unpack_kind(buffer: Tensor, pieces: np.ndarray, out: Tensor) -> None:
    """Pieces of one source and target type."""
    source, target = int(pieces[0, SOURCE]), TARGETS[int(pieces[0, TARGET])]
    dtype = np.dtype(SOURCES[source])
    starts = buffer.data_ptr() + pieces[:, START]
    ends = np.concatenate([[0], np.cumsum(pieces[:, COUNT])])
    kind: Any = {"ids": np.int64, "values": np.float32, "bytes": np.uint8}.get(target)
    shifts = None
    if target == "bounds":
        kind = np.int32 if out.itemsize == 4 else np.int64
        shifts = np.empty(len(pieces), kind)
        shift(starts, ends, pieces[:, BASE].copy(), dtype.type(0), shifts)
    share(
        convert,
        int(ends[-1]),
        int(ends[-1]) * (dtype.itemsize + out.itemsize),
        ends,
        starts,
        pieces[:, TO].copy(),
        shifts,
        np.bool_(False) if source == HALF else dtype.type(0),
        dtype.itemsize,
        kind(0),
        out.itemsize,
        out.data_ptr(),
    )
