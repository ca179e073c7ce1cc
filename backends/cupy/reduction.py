"""Row optimizers that take the gradients of pooled leaves where they lie and sum them on the way.

A row belongs to a group of lanes of one warp, as a segment does in segments.py, and its gradient is
only ever in registers. Slots of wide rows are asked for (into the L2) before the gradients are
summed and read after. Rows with many gradients are listed instead, as pieces that a warp each sums;
whoever ends the last piece of a row adds their sums in order, in two steps, and changes the row. No
atomics on values, so the result does not vary.
"""

from __future__ import annotations

from struct import pack, unpack
from typing import Any

import torch
from torch import Tensor

from backends.cupy.leaves import LEAVES
from backends.cupy.queue import Queue, Source, blocks_for, code
from backends.cupy.update import slots_of
from recis_core.blocks import Blocks

# Rows with more gradients are cut whatever the mean; blocks that share the pieces, four a
# multiprocessor of the largest chips; from how many columns on slots are asked for early.
MOST, SHARERS, EARLY = 256, 528, 32

TAIL = r"""
#ifndef ROWWISE
#define ROWWISE 0
INLINE float square(float, float, const float*) { return 0; }
#endif

INLINE void ask(const char* address) {
#ifdef __CUDA_ARCH__
    asm volatile("prefetch.global.L2 [%0];" ::"l"(address));
#endif
}

INLINE void ask_slots(const Work& w, const Group& group, const char* base) {
    for (int at = (group.part * group.width + group.lane) * N; at < w.dim;
         at += group.parts * group.width * N) {
#pragma unroll
        for (int s = 0; s <= SLOTS; ++s) ask(base + w.offset[s] + at * 4);
    }
}

// Changes row number i at `base` by the gradient whose columns every lane gets from of(column).
template <typename Of>
INLINE void change_row(const Work& w, const Group& group, i64 i, char* base, Of of) {
    float rate = w.rate.data ? w.rate[i] : 1.f;
    int across = group.width * N, column = group.lane * N;
    Sum g;
    if (ROWWISE) {
        float* kept = reinterpret_cast<float*>(base + w.offset[1]);
        float squares = 0;
        for (int at = column; at - column < w.dim; at += across) {
            g = of(at);
            if (at >= w.dim) break;
            auto old = AS_FLOATS(base + w.offset[0], w.weight).load<N>(at);
#pragma unroll
            for (int e = 0; e < N; ++e) squares += square(old.at[e], g.at[e], w.c);
        }
        squares = group.total(squares, 1, group.width);
        float s = *kept + squares / float(w.dim);
        rate = w.c[0] * rate / (sqrtf(s) + w.c[1]);
        // Every lane has read the old sum before the first one overwrites it.
        __syncwarp(group.members);
        if (group.lane + group.part == 0) *kept = s;
    }
    for (int first = 0; first < w.dim; first += across, column += across) {
        // Of a row that one turn of the lanes covers, the sum is at hand from the squares.
        if (!ROWWISE || w.dim > across) g = of(column);
        if (column >= w.dim || group.part) continue;
        base = now(base);
        Floats weight = AS_FLOATS(base + w.offset[0], w.weight);
        auto own = weight.load<N>(column);
        Pack<float, N> state[SLOTS + 1];
#pragma unroll
        for (int s = 0; s < SLOTS; ++s)
            state[s] = load_as<float, N>(base + w.offset[s + 1], column);
#pragma unroll
        for (int e = 0; e < N; ++e) {
            float at[SLOTS + 1];
#pragma unroll
            for (int s = 0; s < SLOTS; ++s) at[s] = state[s].at[e];
            apply(own.at[e], g.at[e], at, rate, w.c);
#pragma unroll
            for (int s = 0; s < SLOTS; ++s) state[s].at[e] = at[s];
        }
        weight.store<N>(column, own);
#pragma unroll
        for (int s = 0; s < SLOTS; ++s)
            store_as<float, N>(base + w.offset[s + 1], column, state[s]);
    }
}

INLINE i64 pieces_of(const Work& w, i64 length) { return (length + w.size - 1) / w.size; }

// Lists the pieces of row number i, by all lanes of its group.
INLINE void list_pieces(const Work& w, const Group& group, i64 i, i64 many) {
    int lane = group.part * group.width + group.lane;
    i64 first = 0, sums = 0;
    if (lane == 0) {
        first = i64(atomicAdd(w.found, u64(many)));
        if (many > 1) sums = i64(atomicAdd(w.found + 1, u64(many)));
    }
    first = __shfl_sync(group.members, first, group.first);
    sums = __shfl_sync(group.members, sums, group.first);
    for (i64 piece = lane; piece < many; piece += group.width * group.parts) {
        w.tasks[first + piece] = Task{i, piece, sums};
        if (many > 1 && (piece % FAN == 0 || piece == 1)) w.done[sums + piece] = 0;
    }
}

// Writes a row of `sums`; then whether the warp is the last of `many` that count in `counter`.
template <typename Of>
INLINE bool keep_sum(const Work& w, const Group& group, i64 at, int* counter, i64 many, Of of) {
    for (int base = 0; base < w.dim; base += group.width * N) {
        int column = base + group.lane * N;
        Sum sum = of(column);
        if (group.part || column >= w.dim) continue;
#pragma unroll
        for (int e = 0; e < N; ++e) __stcg(w.sums + at * w.dim + column + e, sum.at[e]);
    }
    __threadfence();
    __syncwarp();
    int before = threadIdx.x % 32 == 0 ? atomicAdd(counter, 1) : 0;
    bool last = __shfl_sync(~0u, before, 0) == many - 1;
    __threadfence();
    return last;
}

INLINE void change_by_piece(const Work& w, const Group& group, Task task) {
    i64 start = w.starts[At(task.row)], stop = w.starts[At(task.row + 1)];
    i64 many = pieces_of(w, stop - start), begin = start + task.piece * w.size;
    i64 end = begin + w.size < stop ? begin + w.size : stop;
    char* base = w.blocks[w.rows[task.row]];
    if (many == 1) ask_slots(w, group, base);
    i64 from = 0, count = 0, step = 1;  // of sums; none: of the piece itself
    auto of = [&](int column) {
        Sum sum;
        if (column < w.dim && count)
            sum_sums(w, from, count, step, group.part, group.parts, column, sum);
        else if (column < w.dim)
            sum_leaves<4>(w, At(begin + group.part), At(end), At(group.parts), column, sum);
        return group.over_parts(sum);
    };
    if (many > 1) {
        i64 near = task.piece / FAN * FAN, groups = (many + FAN - 1) / FAN;
        i64 beside = many - near < FAN ? many - near : FAN;
        int* done = w.done + task.sums;
        if (!keep_sum(w, group, task.sums + task.piece, done + near, beside, of)) return;
        from = task.sums + near, count = beside;
        if (groups > 1) {
            if (!keep_sum(w, group, from, done + 1, groups, of)) return;
            from = task.sums, count = groups, step = FAN;
        }
    }
    change_row(w, group, task.row, base, of);
}

#define PARAMETERS                                                                                \
    const u64 *pointers, i64 stride, i64 log2_rows, const void *rows, i64 rows_code,              \
        const void *grad, i64 grad_code, const void *scale, i64 scale_code, const void *starts,   \
        i64 starts_code, const void *segments, i64 segments_code, const void *weights,            \
        i64 weights_code, const void *rate, i64 rate_code, i64 count, i64 dim, i64 o0, i64 o1,    \
        i64 o2, i64 weight, i64 log2_width, i64 longest, i64 size, u64 *found, Task *tasks,       \
        int *done, float *sums, Two c0, Two c1, Two c2, Two c3
#define WORK                                                                                      \
    Work{{pointers, stride, log2_rows}, {rows, rows_code}, AS_FLOATS(grad, grad_code),            \
         AS_FLOATS(scale, scale_code), {starts, starts_code}, {segments, segments_code},          \
         AS_FLOATS(weights, weights_code), AS_FLOATS(rate, rate_code), count, {o0, o1, o2},       \
         weight, int(dim), int(log2_width), longest, size, found, tasks, done, sums,              \
         {c0.first, c0.second, c1.first, c1.second, c2.first, c2.second, c3.first, c3.second}}

KERNEL __launch_bounds__(256, 5) reduce_short(PARAMETERS, i64 log2_group, i64 early) {
    Work w = WORK;
    Group group(w.log2_width, int(log2_group));
    i64 i = THIS_THREAD >> log2_group;
    if (i >= count) return;
    At begin = w.starts[At(i)], end = w.starts[At(i + 1)];
    i64 row = w.rows[i];
    if (row < 0) return;
    if (i64(end) - i64(begin) > longest) {
        list_pieces(w, group, i, pieces_of(w, i64(end) - i64(begin)));
        return;  // the whole group, so that no shuffle waits for it
    }
    char* base = w.blocks[row];
    if (early) ask_slots(w, group, base);
    change_row(w, group, i, base, [&](int column) {
        Sum sum;
        if (column < dim)
            sum_leaves<2>(w, begin + group.part, end, At(group.parts), column, sum);
        return group.over_parts(sum);
    });
}

KERNEL __launch_bounds__(256, 4) reduce_long(PARAMETERS) {
    Work w = WORK;
    Group group(w.log2_width, 5);
    i64 many = i64(w.found[0]);
    for (i64 task = THIS_THREAD / 32; task < many; task += ALL_THREADS / 32)
        change_by_piece(w, group, w.tasks[task]);
}
"""


def reducing(name: str, text: str) -> Source:
    """The source of one fused optimizer, of the text that `rule` or, row-wise, ROWWISE takes."""
    variants = tuple({"PLAIN": plain, "WIDE": wide} for plain, wide in ((1, 4), (0, 1)))
    return Source(name, LEAVES + text + TAIL, variants)


def reduce(
    source: Source,
    blocks: Blocks,
    rows: Tensor,
    leaves: tuple[Tensor, Tensor | None, Tensor, Tensor, Tensor | None],
    rate: Tensor | None,
    slots: tuple[str, ...],
    scalars: tuple[float, ...],
) -> None:
    """Run an optimizer's rule over the rows, each by the sum of its leaves' gradients.

    `leaves`: grad, scale, starts, segments, weights as declared; `slots` begin with "weight".
    """
    grad, scale, starts, segments, weights = leaves
    (count, n), dim = (len(rows), len(segments)), grad.shape[1]
    if count == 0 or dim == 0:
        return
    offsets, weight = slots_of(blocks, *slots)
    each = 4 if dim % 4 == 0 and grad.data_ptr() % (4 * grad.itemsize) == 0 else 1
    floats = [t.dtype for t in (grad, scale, weights, rate) if t is not None]
    plain = {*floats, blocks.dtype("weight")} == {torch.float32}
    plain = plain and starts.dtype == segments.dtype == torch.int32
    # Lanes beside each other for a gradient, then as many at once as leave each about four.
    log2_width = min(5, (-(-dim // each) - 1).bit_length())
    log2_parts = min(5 - log2_width, max(n // count // 4 - 1, 0).bit_length())
    longest = min(longest_of(n // count, log2_width, log2_parts), MOST)
    size = min(max(4096 // dim, 64), 512)
    macros = {"PLAIN": int(plain), "WIDE": each}
    with Queue(rows.device) as queue:
        places: list[Any] = [None] * 4
        if n > longest:
            # A row that is cut has more than `longest`, one with sums of its own more than `size`.
            tasks, own = n // size + n // longest, 2 * (n // size)
            places = queue.scratch(16, 24 * tasks, 4 * own, 4 * own * dim)
            queue.clear(places[0])
        work = (
            blocks.pointers, blocks.stride, blocks.log2_rows, rows, code(rows), grad, code(grad),
            scale, code(scale), starts, code(starts), segments, code(segments), weights,
            code(weights), rate, code(rate), count, dim, *offsets, *(0,) * (3 - len(offsets)),
            weight, log2_width, longest, size, *places, *pairs(scalars),
        )  # fmt: skip
        log2_group = log2_width + log2_parts
        grid = blocks_for(count << log2_group)
        queue.launch(source, "reduce_short", grid, *work, log2_group, int(dim >= EARLY), **macros)
        if n > longest:
            queue.launch(
                source, "reduce_long", min(SHARERS, blocks_for(32 * tasks)), *work, **macros
            )


def longest_of(mean: int, log2_width: int, log2_parts: int) -> int:
    """What a group takes itself: a longer row would keep the others of its warp waiting."""
    return max(2 * mean + 2, (32 if log2_width < 2 else 64) << log2_parts)


def pairs(scalars: tuple[float, ...]) -> list[int]:
    """Up to eight float32, two to a word, as kernels then read them without a register."""
    padded = (*scalars, *(0.0,) * (8 - len(scalars)))
    return list(unpack("<4q", pack("<8f", *padded)))
