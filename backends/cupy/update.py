"""Every row optimizer: a few elements of a row a thread, all slots of the row at once."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from backends.cupy.device import DEVICE
from backends.cupy.queue import CODE, Queue, Source, blocks_for, code, lanes_of
from recis_core.blocks import Blocks

HEAD = (
    DEVICE
    + r"""
struct Scalars { float at[8]; };

// What every optimizer is given; offsets are of the weight and of up to two slots of state.
struct Touched {
    Rows blocks;
    Index rows;
    Floats grad;
    const double* scale;
    Floats rate;
    i64 n, dim, offset[3], weight;
};
"""
)

TAIL = r"""
template <int N> INLINE void update(const Touched& t, i64 lanes, i64 shift, const Scalars& c) {
    float scale = t.scale ? float(*t.scale) : 1.f;
    for (i64 k = THIS_THREAD; k < t.n * lanes; k += ALL_THREADS) {
        i64 i = quotient(k, lanes, shift), at = (k - i * lanes) * N, row = t.rows[i];
        if (row < 0) continue;
        char* base = t.blocks[row];
        auto g = t.grad.load<N>(i * t.dim + at);
        Floats weight(base + t.offset[0], t.weight);
        auto w = weight.load<N>(at);
        Pack<float, N> state[SLOTS + 1];
#pragma unroll
        for (int s = 0; s < SLOTS; ++s)
            state[s] = load_as<float, N>(base + t.offset[s + 1], at);
        float rate = t.rate.data ? t.rate[i] : 1.f;
#pragma unroll
        for (int e = 0; e < N; ++e) {
            float own[SLOTS + 1];
#pragma unroll
            for (int s = 0; s < SLOTS; ++s) own[s] = state[s].at[e];
            apply(w.at[e], g.at[e] * scale, own, rate, c.at);
#pragma unroll
            for (int s = 0; s < SLOTS; ++s) state[s].at[e] = own[s];
        }
        weight.store<N>(at, w);
#pragma unroll
        for (int s = 0; s < SLOTS; ++s) store_as<float, N>(base + t.offset[s + 1], at, state[s]);
    }
}

#define UPDATE(NAME, N)                                                                           \
    KERNEL NAME(const u64* pointers, i64 stride, i64 log2_rows, const void* rows, i64 rows_code,  \
                const void* grad, i64 grad_code, const double* scale, const void* rate,           \
                i64 rate_code, i64 n, i64 dim, i64 o0, i64 o1, i64 o2, i64 weight, i64 lanes,     \
                i64 shift, double c0, double c1, double c2, double c3, double c4, double c5,      \
                double c6, double c7) {                                                           \
        update<N>({{pointers, stride, log2_rows}, {rows, rows_code}, {grad, grad_code}, scale,    \
                   {rate, rate_code}, n, dim, {o0, o1, o2}, weight},                              \
                  lanes, shift,                                                                   \
                  {{float(c0), float(c1), float(c2), float(c3), float(c4), float(c5), float(c6),  \
                    float(c7)}});                                                                 \
    }
UPDATE(update_4, 4)
UPDATE(update_1, 1)
"""


def rule(name: str, text: str) -> Source:
    """The source of one optimizer: `text` defines SLOTS and `apply(w, g, state, rate, scalars)`."""
    return Source(name, HEAD + text + TAIL)


def slots_of(blocks: Blocks, *names: str) -> tuple[list[int], int]:
    """Byte offsets of the weight and the state, and the weight's dtype; state is float32."""
    for name in names[1:]:
        if blocks.dtype(name) != torch.float32:
            raise TypeError(f"slot {name!r} has dtype {blocks.dtype(name)}, not torch.float32")
    return [blocks.slots[name].offset for name in names], CODE[blocks.dtype(names[0])]


def touched(
    blocks: Blocks, rows: Tensor, grad: Tensor, scale: Tensor | None, rate: Tensor | None
) -> tuple[Any, ...]:
    """Arguments that every optimizer's kernel begins with."""
    return (
        blocks.pointers, blocks.stride, blocks.log2_rows, rows, code(rows), grad, code(grad),
        scale, rate, code(rate), *grad.shape,
    )  # fmt: skip


def update(
    source: Source,
    blocks: Blocks,
    rows: Tensor,
    grad: Tensor,
    scale: Tensor | None,
    rate: Tensor | None,
    slots: tuple[str, ...],
    scalars: tuple[float, ...],
) -> None:
    """Run an optimizer's rule over the touched rows; `slots` begin with "weight"."""
    n, dim = grad.shape
    if n == 0 or dim == 0:
        return
    offsets, weight = slots_of(blocks, *slots)
    wide = dim % 4 == 0 and grad.data_ptr() % (4 * grad.itemsize) == 0
    each = 4 if wide else 1
    lanes = dim // each
    with Queue(rows.device) as queue:
        queue.launch(
            source, f"update_{each}", blocks_for(n * lanes),
            *touched(blocks, rows, grad, scale, rate),
            *offsets, *(0,) * (3 - len(offsets)), weight, lanes, lanes_of(lanes),
            *map(float, scalars), *(0.0,) * (8 - len(scalars)),
        )  # fmt: skip
