"""columns_unpack: programs for every piece, and one for the zeros behind it, in one launch."""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from backends.triton.launch import INTERPRETED, below, launch
from recis_core.ops.columns_unpack import TARGETS

BLOCK = 2048
# Most programs that share a piece, and pieces looked at once when what is missing is looked for.
MOST, LOOK = 1 if INTERPRETED else 64, 128
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
def _copy(piece, part, across, buffer, ids, values, octets, bounds, BLOCK: tl.constexpr):
    at = tl.load(piece).to(tl.int64) + buffer.to(tl.int64)
    count, source = tl.load(piece + 1), tl.load(piece + 2).to(tl.int32)
    target, to, base = tl.load(piece + 3), tl.load(piece + 4), tl.load(piece + 5)
    for step in range(part * BLOCK, count, across * BLOCK):
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


@triton.jit
def _clear(out, begin, end, BLOCK: tl.constexpr):
    for step in range(begin, end, BLOCK):
        i = step + tl.arange(0, BLOCK)
        tl.store(out + i, tl.zeros([BLOCK], out.dtype.element_ty), mask=i < end)


@triton.jit
def _clear_after(
    which, pieces, count, ids, values, octets, bounds, sizes,
    BLOCK: tl.constexpr, LOOK: tl.constexpr,
):  # fmt: skip
    """Zeros from the end of piece `which` to where the next begins, or before the first of target
    `which - count`; the next in the table mostly says that there is nothing between."""
    target, begin, covered = which - count, which * 0, which * 0
    if which < count:
        target, length = tl.load(pieces + which * 6 + 3), tl.load(pieces + which * 6 + 1)
        begin = tl.load(pieces + which * 6 + 4) + length
        covered = (length == 0).to(tl.int64)
    size = tl.where(target == IDS, sizes[0], tl.where(target == VALUES, sizes[1], 0))
    size = tl.where(target == BYTES, sizes[2], tl.where(target == BOUNDS, sizes[3], size))
    size = size.to(tl.int64)
    end, looked = size, which * 0
    covered = tl.where(begin == size, 1, covered).to(tl.int64)
    after = tl.where(which < count, which + 1, 0)
    while (looked < count) & (covered == 0):
        k = looked + tl.arange(0, LOOK)
        row = tl.where(after + k < count, after + k, after + k - count)
        row = pieces + tl.where(k < count, row, 0) * 6
        to, length = tl.load(row + 4), tl.load(row + 1)
        same = (k < count) & (length > 0) & (tl.load(row + 3) == target)
        over = same & (to <= begin) & (begin < to + length)
        covered = tl.max(over.to(tl.int64))
        end = tl.minimum(end, tl.min(tl.where(same & (to > begin), to, size)))
        looked += LOOK
    end = tl.where(covered == 0, end, begin)
    if target == VALUES:
        _clear(values, begin, end, BLOCK)
    elif target == IDS:
        _clear(ids, begin, end, BLOCK)
    elif target == BYTES:
        _clear(octets, begin, end, BLOCK)
    else:
        _clear(bounds, begin, end, BLOCK)


@triton.jit(do_not_specialize=["count", "across", "n_ids", "n_values", "n_bytes", "n_bounds"])
def _unpack(
    buffer, pieces, count, across, ids, values, octets, bounds, n_ids, n_values, n_bytes, n_bounds,
    BLOCK: tl.constexpr, LOOK: tl.constexpr,
):  # fmt: skip
    program = tl.program_id(0).to(tl.int64)
    which = program // across
    if which < count:
        piece = pieces + which * 6
        _copy(piece, program % across, across, buffer, ids, values, octets, bounds, BLOCK)
    else:
        which = program - tl.cast(count, tl.int64) * across
        sizes = (n_ids, n_values, n_bytes, n_bounds)
        _clear_after(which, pieces, count, ids, values, octets, bounds, sizes, BLOCK, LOOK)


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
    # Typed loads need the alignment that pieces have within the buffer; torch's memory has it.
    aligned = buffer if buffer.data_ptr() % 16 == 0 else buffer.clone()
    count = len(pieces)
    across = min(MOST, below(1 + len(buffer) // (4 * BLOCK * max(count, 1))))
    launch(
        _unpack, count * across + count + len(TARGETS), aligned, pieces, count, across,
        ids_out, values_out, bytes_out, bounds_out, ids, values, octets, bounds,
        BLOCK=BLOCK, LOOK=LOOK,
    )  # fmt: skip
