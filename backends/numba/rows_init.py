"""New rows drawn in place: bits, logarithm and cosine in loops that are vectorised."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from backends.numba.lanes import WIDTH, load, store, width_of
from backends.numba.memory import copy, prefetch, row_at
from backends.numba.mixing import STEP, bits_of, float_of, hash_pair, mix64
from backends.numba.rows import form_of_slot
from backends.numba.threads import inlined, kernel, share
from recis_core.blocks import Blocks
from recis_core.ops.rows_init import KINDS, REDRAWS

# Rows asked for ahead: computing one takes about as long as memory needs to answer.
AHEAD = 4
_CONSTANT, _UNIFORM, _NORMAL, _TRUNCATED = range(len(KINDS))
_24 = 2.0**-24
_LN2, _TWO_PI = math.log(2), 2 * math.pi
_MANTISSA, _ONE = (1 << 52) - 1, 1023 << 52
_TOP, _NEXT, _LOW = np.uint64(40), np.uint64(16), np.uint64(0xFFFFFF)


@inlined
def log_of_share(k):
    """ln(k / 2^24) of an int64 in [1, 2^24]; m in [0.7, 1.42), then the series of atanh."""
    bits = bits_of(np.float64(k))
    exponent = (bits >> 52) - (1023 + 24)
    m = float_of((bits & _MANTISSA) | _ONE)
    high = m > 1.4142135623730951
    m = m * 0.5 if high else m
    exponent = exponent + 1 if high else exponent
    s = (m - 1) / (m + 1)
    q = s * s
    series = 1 / 13 + q * (1 / 15)
    series = 1 / 9 + q * (1 / 11 + q * series)
    series = 1 / 5 + q * (1 / 7 + q * series)
    return np.float64(exponent) * _LN2 + 2 * s * (1 + q * (1 / 3 + q * series))


@inlined
def cosine_of_turns(j):
    """cos(2π j / 2^24) of an int64 in [0, 2^24): sin(π/2 - angle), its angle in [-π/2, π/2]."""
    folded = j if j <= 1 << 23 else (1 << 24) - j
    t = np.float64((1 << 22) - folded) * (_24 * _TWO_PI)
    q = t * t
    series = -1 / 1307674368000 + q * (1 / 355687428096000)
    series = -1 / 39916800 + q * (1 / 6227020800 + q * series)
    series = -1 / 5040 + q * (1 / 362880 + q * series)
    return t * (1 + q * (-1 / 6 + q * (1 / 120 + q * series)))


@inlined
def word_of(base, column, redraw):
    """The random word of a column and redraw of the row whose stream is `base`."""
    return mix64(base + np.uint64(1 + column + (redraw << 32)) * STEP)


@inlined
def gaussian(random):
    """A normal deviate from a word: Box-Muller."""
    u = np.int64(random >> _TOP) + 1
    v = np.int64((random >> _NEXT) & _LOW)
    return math.sqrt(-2 * log_of_share(u)) * cosine_of_turns(v)


@kernel
def draw_rows(
    begin,
    end,
    pointers,
    log2_rows,
    stride,
    rows,
    fresh,
    tables,
    ids,
    salts,
    seed,
    kind,
    a,
    b,
    line,
    filled,
    weight,
    dim,
    form,
):
    values = np.full(dim, np.float32(a))
    size, place = width_of(form), values.ctypes.data
    for i in range(begin, end):
        if i + AHEAD < end and fresh[i + AHEAD] and rows[i + AHEAD] >= 0:
            # Asked for while this row is computed: writing needs a line as reading does.
            prefetch(row_at(pointers, rows[i + AHEAD], log2_rows, stride), stride)
        if not fresh[i] or rows[i] < 0:
            continue
        row = row_at(pointers, rows[i], log2_rows, stride)
        for slot in range(len(filled)):
            copy(row + filled[slot, 0], line + filled[slot, 0], filled[slot, 1])
        if kind != _CONSTANT:
            base = mix64(hash_pair(salts[tables[i]], ids[i]) ^ seed)
            if kind == _UNIFORM:
                for c in range(dim):
                    u = np.float64(np.int64(word_of(base, c, 0) >> _TOP)) * _24
                    values[c] = np.float32(a + b * u)
            else:
                for c in range(dim):
                    values[c] = np.float32(a + b * gaussian(word_of(base, c, 0)))
            if kind == _TRUNCATED:
                for c in range(dim):
                    z = gaussian(word_of(base, c, 0))
                    redraw = 1
                    while abs(z) > 2 and redraw < REDRAWS:
                        z = gaussian(word_of(base, c, redraw))
                        redraw += 1
                    values[c] = np.float32(a + b * (z if abs(z) <= 2 else 0.0))
        for c in range(0, dim, WIDTH):
            lanes = load(place + 4 * c, dim - c, np.float32(0))
            store(row + weight + c * size, dim - c, lanes, form)


def rows_init(
    blocks: Blocks,
    rows: Tensor,
    fresh: Tensor,
    tables: Tensor,
    ids: Tensor,
    salts: Tensor,
    seed: int,
    kind: str,
    a: float,
    b: float,
) -> None:
    line, filled = fill_line(blocks)
    spread = b - a if kind == "uniform" else b
    share(
        draw_rows,
        len(rows),
        len(rows) * (blocks.stride + 8 * blocks.dim("weight")),
        blocks.pointers.numpy(),
        blocks.log2_rows,
        blocks.stride,
        rows.numpy(),
        fresh.numpy(),
        tables.numpy(),
        ids.numpy(),
        salts.numpy(),
        stream_of(seed),
        KINDS.index(kind),
        float(np.float32(a)),
        float(np.float32(spread)),
        line.data_ptr(),
        filled,
        blocks.slots["weight"].offset,
        blocks.dim("weight"),
        form_of_slot(blocks, "weight"),
    )


@kernel
def mixed(seed):
    return mix64(seed)


def stream_of(seed: int) -> np.uint64:
    """mix64 of the seed's low 64 bits, by which a pair's hash is turned into its stream."""
    return np.uint64(mixed(np.uint64(seed & (2**64 - 1))))


def fill_line(blocks: Blocks) -> tuple[Tensor, np.ndarray]:
    """A row of fills, and the (offset, bytes) of every slot but the weight."""
    line = torch.zeros(blocks.stride, dtype=torch.uint8)
    filled = []
    for slot in blocks.slots.values():
        if slot.name != "weight":
            line[slot.offset : slot.offset + slot.nbytes].view(slot.dtype).fill_(slot.fill)
            filled.append((slot.offset, slot.nbytes))
    return line, np.array(filled, np.int64).reshape(-1, 2)
