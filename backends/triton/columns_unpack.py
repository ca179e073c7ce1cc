"""columns_unpack: a column of programs a piece, all pieces in one launch."""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from backends.triton.fill import fill
from backends.triton.launch import INTERPRETED, launch
from recis_core.ops.columns_unpack import TARGETS

# Programs that share a piece; each takes every ACROSS-th block of it.
BLOCK, ACROSS = 1024, 1 if INTERPRETED else 8
IDS, VALUES, BYTES, BOUNDS = (tl.constexpr(TARGETS.index(t)) for t in TARGETS)


@triton.jit
def _integers(at, source, i, mask):
    """int64 elements i of the integer array at an address, by its dtype's place in SOURCES."""
    if source == 0:
        found = tl.load(at.to(tl.pointer_type(tl.int8)) + i, mask=mask, other=0).to(tl.int64)
    elif source == 1:
        found = tl.load(at.to(tl.pointer_type(tl.uint8)) + i, mask=mask, other=0).to(tl.int64)
    elif source == 2:
        found = tl.load(at.to(tl.pointer_type(tl.int16)) + i, mask=mask, other=0).to(tl.int64)
    elif source == 3:
        found = tl.load(at.to(tl.pointer_type(tl.uint16)) + i, mask=mask, other=0).to(tl.int64)
    elif source == 4:
        found = tl.load(at.to(tl.pointer_type(tl.int32)) + i, mask=mask, other=0).to(tl.int64)
    elif source == 5:
        found = tl.load(at.to(tl.pointer_type(tl.uint32)) + i, mask=mask, other=0).to(tl.int64)
    else:
        found = tl.load(at.to(tl.pointer_type(tl.int64)) + i, mask=mask, other=0)
    return found


@triton.jit
def _floats(at, source, i, mask):
    """float32 elements of an array of any dtype."""
    if source == 7:
        found = tl.load(at.to(tl.pointer_type(tl.uint64)) + i, mask=mask, other=0).to(tl.float32)
    elif source == 8:
        found = tl.load(at.to(tl.pointer_type(tl.float16)) + i, mask=mask, other=0).to(tl.float32)
    elif source == 9:
        found = tl.load(at.to(tl.pointer_type(tl.float32)) + i, mask=mask, other=0)
    elif source == 10:
        found = tl.load(at.to(tl.pointer_type(tl.float64)) + i, mask=mask, other=0).to(tl.float32)
    else:
        found = _integers(at, source, i, mask).to(tl.float32)
    return found


@triton.jit
def _unpack(buffer, pieces, ids, values, octets, bounds, BLOCK: tl.constexpr, ACROSS: tl.constexpr):
    piece = pieces + (tl.program_id(0) // ACROSS).to(tl.int64) * 6
    at = tl.load(piece).to(tl.int64) + buffer.to(tl.int64)
    count, source = tl.load(piece + 1), tl.load(piece + 2).to(tl.int32)
    target, to, base = tl.load(piece + 3), tl.load(piece + 4), tl.load(piece + 5)
    begin = (tl.program_id(0) % ACROSS).to(tl.int64) * BLOCK
    for step in range(begin, count, ACROSS * BLOCK):
        i = step + tl.arange(0, BLOCK)
        mask = i < count
        if target == VALUES:
            tl.store(values + to + i, _floats(at, source, i, mask), mask=mask)
        elif target == IDS:
            tl.store(ids + to + i, _integers(at, source, i, mask), mask=mask)
        elif target == BYTES:
            raw = tl.load(at.to(tl.pointer_type(tl.uint8)) + i, mask=mask)
            tl.store(octets + to + i, raw, mask=mask)
        else:
            none = tl.zeros_like(i)
            shift = base - _integers(at, source, none, mask)
            bound = _integers(at, source, i, mask) + shift
            tl.store(bounds + to + i, bound.to(bounds.dtype.element_ty), mask=mask)


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
    for out in (ids_out, values_out, bytes_out, bounds_out):
        fill(out, 0)
    # Typed loads need the alignment that pieces have within the buffer; torch's memory has it.
    aligned = buffer if buffer.data_ptr() % 16 == 0 else buffer.clone()
    launch(
        _unpack, len(pieces) * ACROSS, aligned, pieces, ids_out, values_out, bytes_out, bounds_out,
        BLOCK=BLOCK, ACROSS=ACROSS,
    )  # fmt: skip
