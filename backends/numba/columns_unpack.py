"""Every piece in one pass: ranges of all elements, sixteen converted at a time."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor

from backends.numba.conversion import convert_many, convert_one, size_of, stream_many
from backends.numba.memory import LINE, STREAMED, set_word
from backends.numba.search import last_not_above
from backends.numba.threads import function, inlined, kernel, share
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

_I8, _U8, _I16, _U16, _I32, _U32, _I64, _U64, _HALF, _FLOAT, _DOUBLE = range(len(SOURCES))
_IDS, _VALUES, _BYTES, _BOUNDS = range(len(TARGETS))
WIDTHS = np.array([np.dtype(name).itemsize for name in SOURCES])


@inlined
def stretch(read, write, n, shift, source, target, streaming):
    """n elements; with `streaming` whole lines go around the caches, as a copy that outgrows them
    would first read every line it writes."""
    width, step = size_of(source), size_of(target)
    i = 0
    if streaming:
        while i < n and (write + i * step) % LINE != 0:
            convert_one(read + i * width, write + i * step, shift, source, target)
            i += 1
        while i + 16 <= n:
            stream_many(read + i * width, write + i * step, shift, source, target)
            i += 16
    while i + 16 <= n:
        convert_many(read + i * width, write + i * step, shift, source, target)
        i += 16
    while i < n:
        convert_one(read + i * width, write + i * step, shift, source, target)
        i += 1


@function
def integers(source, read, write, n, shift, target, streaming):
    """A stretch of a source whose number in SOURCES is one of integers."""
    if source == _I8:
        stretch(read, write, n, shift, np.int8(0), target, streaming)
    elif source == _U8:
        stretch(read, write, n, shift, np.uint8(0), target, streaming)
    elif source == _I16:
        stretch(read, write, n, shift, np.int16(0), target, streaming)
    elif source == _U16:
        stretch(read, write, n, shift, np.uint16(0), target, streaming)
    elif source == _I32:
        stretch(read, write, n, shift, np.int32(0), target, streaming)
    elif source == _U32:
        stretch(read, write, n, shift, np.uint32(0), target, streaming)
    elif source == _I64:
        stretch(read, write, n, shift, np.int64(0), target, streaming)
    elif source == _U64:
        stretch(read, write, n, shift, np.uint64(0), target, streaming)


@function
def floats(source, read, write, n, streaming):
    """A stretch of a source whose number in SOURCES is one of floats."""
    if source == _HALF:
        # float16 is passed as bool: Numba has no such type.
        stretch(read, write, n, None, np.bool_(False), np.float32(0), streaming)
    elif source == _FLOAT:
        stretch(read, write, n, None, np.float32(0), np.float32(0), streaming)
    else:
        stretch(read, write, n, None, np.float64(0), np.float32(0), streaming)


@kernel
def convert(begin, end, ends, pieces, addresses, widths, out_widths, bound, streaming):
    """Elements [begin, end) of all pieces; piece p holds elements ends[p]:ends[p+1]."""
    piece = last_not_above(ends, begin)
    at = begin
    while at < end:
        while ends[piece + 1] <= at:
            piece += 1
        stop = min(end, ends[piece + 1])
        n, inside = stop - at, at - ends[piece]
        source, target = pieces[piece, SOURCE], pieces[piece, TARGET]
        first = pieces[piece, START]
        read = first + inside * widths[source]
        write = addresses[target] + (pieces[piece, TO] + inside) * out_widths[target]
        if target == _IDS:
            integers(source, read, write, n, None, np.int64(0), streaming)
        elif target == _BYTES:
            stretch(read, write, n, None, np.uint8(0), np.uint8(0), streaming)
        elif target == _BOUNDS:
            shift = pieces[piece, BASE] - integer_at(first, source)
            integers(source, read, write, n, shift, bound, streaming)
        elif source < _HALF:
            integers(source, read, write, n, None, np.float32(0), streaming)
        else:
            floats(source, read, write, n, streaming)
        at = stop


@function
def integer_at(address, source):
    """The number at `address`, of an integer source, as int64."""
    held = np.zeros(1, np.int64)
    integers(source, address, held.ctypes.data, 1, None, np.int64(0), False)
    return held[0]


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
    addresses = np.array([o.data_ptr() for o in outs])
    widths = np.array([o.itemsize for o in outs])
    gaps(table, np.array([len(o) for o in outs]), addresses, widths)
    if not len(table):
        return
    placed = table.copy()
    placed[:, START] += buffer.data_ptr()
    ends = np.concatenate([[0], np.cumsum(table[:, COUNT])])
    bound: Any = np.int32 if bounds_out.itemsize == 4 else np.int64
    written = sum(o.nbytes for o in outs)
    share(
        convert,
        int(ends[-1]),
        buffer.nbytes + written,
        ends,
        placed,
        addresses,
        WIDTHS,
        widths,
        bound(0),
        written >= STREAMED,
    )
