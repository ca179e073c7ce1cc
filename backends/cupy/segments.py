"""Sums of rows chosen by an index, segment by segment: pooling and its gradients alike.

A segment belongs to a group of lanes of one warp: some hold a row side by side, and several such
rows are under way at once, so that few long segments fill the chip too. Segments far longer than
the mean, which others would wait for, are listed instead, and cut into pieces of PIECE rows, a
block each; the last block to end adds a segment's pieces in order. No atomics on values, so the
result does not vary.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from backends.cupy.device import DEVICE
from backends.cupy.queue import SPELLING, THREADS, Queue, Source, blocks_for, code, width_of
from recis_core.blocks import Blocks

PIECE, LONG, LONGEST = 1024, 256, 4096
# Blocks that share the pieces: two a multiprocessor of the largest chips.
SHARERS = 264

SOURCE = Source(
    "segments",
    DEVICE
    + r"""
// VALUE: of rows and result. INDEX, OFFSET: int or i64. WIDE: elements a lane holds. AHEAD: rows a
// lane has under way. MEAN: divide by the weights' sum and write its inverse. LOCATED: the index
// names elements of `rows`, which say where in the blocks a row lies; -1 counts as zeros.
constexpr int N = WIDE;
constexpr i64 PIECE = 1024;

// Positions of 32-bit offsets are unsigned, so that a step past the last of 2^31 does not wrap.
template <typename O> struct Position { typedef i64 type; };
template <> struct Position<int> { typedef u32 type; };
typedef Position<OFFSET>::type At;

#if LOCATED
typedef i64 Row;
#else
typedef INDEX Row;
#endif

struct Work {
    const VALUE* values;
    Rows blocks;
    i64 slot;
    Index rows;
    const INDEX* index;
    const OFFSET* offsets;
    Floats weights, factor;  // null: all 1; factor is by row
    VALUE* out;
    float* scale;
    i64 dim;
};

struct Sum {
    float at[N] = {}, weight = 0;
};

INLINE void add(const Work& w, i64 k, i64 row, const Pack<VALUE, N>& value, Sum& sum) {
    float by = w.weights.data ? w.weights[k] : 1.f;
    if (w.factor.data) by *= w.factor[row];
    if (MEAN) sum.weight += by;
#pragma unroll
    for (int e = 0; e < N; ++e) sum.at[e] += by * widen(value.at[e]);
}

INLINE Row row_of(const Work& w, At k) {
    INDEX i = __ldg(w.index + k);
#if LOCATED
    return w.rows[i];
#else
    return i;
#endif
}

INLINE Pack<VALUE, N> fetch(const Work& w, Row row, i64 column) {
#if LOCATED
    const char* at = w.blocks[row] + w.slot;
    return *reinterpret_cast<const Pack<VALUE, N>*>(at + column * sizeof(VALUE));
#else
    return *reinterpret_cast<const Pack<VALUE, N>*>(w.values + i64(row) * w.dim + column);
#endif
}

// Rows first, first + step, ... below end, columns from `column`.
INLINE void sum_rows(const Work& w, i64 first, i64 last, int step, i64 column, Sum& sum) {
    At end = At(last);
    for (At k = At(first); k < end; k += step * AHEAD) {
        Row row[AHEAD];
        Pack<VALUE, N> value[AHEAD];
#pragma unroll
        for (int j = 0; j < AHEAD; ++j)
            row[j] = k + j * step < end ? row_of(w, k + j * step) : Row(-1);
#pragma unroll
        for (int j = 0; j < AHEAD; ++j)
            if (row[j] >= 0) value[j] = fetch(w, row[j], column);
#pragma unroll
        for (int j = 0; j < AHEAD; ++j)
            if (row[j] >= 0) add(w, k + j * step, row[j], value[j], sum);
    }
}

template <int M>
INLINE void finish(const Work& w, i64 segment, i64 column, const float* sum, float weight) {
    float scale = 1;
    if (MEAN) {
        scale = weight > 0 ? 1.f / weight : 0.f;
        if (column == 0) w.scale[segment] = scale;
    }
    Pack<VALUE, M> out;
#pragma unroll
    for (int e = 0; e < M; ++e) narrow(MEAN && scale == 0 ? 0.f : sum[e] * scale, out.at[e]);
    *reinterpret_cast<Pack<VALUE, M>*>(w.out + segment * w.dim + column) = out;
}

#define WORK_PARAMETERS                                                                           \
    const VALUE *values, const u64 *pointers, i64 stride, i64 log2_rows, i64 slot,                \
        const void *rows, i64 rows_code, const INDEX *index, const OFFSET *offsets,               \
        const void *weights, i64 weights_code, const void *factor, i64 factor_code, VALUE *out,   \
        float *scale, i64 dim
#define WORK                                                                                      \
    Work{values, {pointers, stride, log2_rows}, slot, {rows, rows_code}, index, offsets,          \
         {weights, weights_code}, {factor, factor_code}, out, scale, dim}

// A long segment and its first piece among all.
struct Long { i64 segment, first; };

// counts: long segments in the upper half, pieces in the lower, so that one atomic takes both and
// the list ascends by first piece.
KERNEL short_segments(WORK_PARAMETERS, i64 count, i64 log2_width, i64 log2_group, i64 longest,
                      u64* counts, Long* longs) {
    Work w = WORK;
    int width = 1 << log2_width, group = 1 << log2_group;
    i64 segment = THIS_THREAD >> log2_group;
    if (segment >= count) return;
    int lane = threadIdx.x & (group - 1), part = lane >> log2_width;
    unsigned members = group == 32 ? ~0u : ((1u << group) - 1) << (threadIdx.x & 31 & ~(group - 1));
    i64 begin = offsets[segment], end = offsets[segment + 1];
    if (end - begin > longest) {
        if (lane == 0) {
            u64 pieces = u64(end - begin + PIECE - 1) / PIECE;
            u64 taken = atomicAdd(counts, (u64(1) << 40) + pieces);
            longs[taken >> 40] = Long{segment, i64(taken & ((u64(1) << 40) - 1))};
        }
        return;  // the whole group, so that no shuffle waits for it
    }
    for (i64 base = 0; base < dim; base += i64(width) * N) {
        i64 column = base + i64(lane & (width - 1)) * N;
        Sum sum;
        if (column < dim) sum_rows(w, begin + part, end, group >> log2_width, column, sum);
        for (int step = width; step < group; step *= 2) {
#pragma unroll
            for (int e = 0; e < N; ++e) sum.at[e] += __shfl_xor_sync(members, sum.at[e], step);
            if (MEAN) sum.weight += __shfl_xor_sync(members, sum.weight, step);
        }
        if (part == 0 && column < dim) finish<N>(w, segment, column, sum.at, sum.weight);
    }
}

// partial: [pieces][dim + 1], the last one the weights' sum; done: pieces ended, by long segment.
KERNEL long_segments(WORK_PARAMETERS, i64 log2_width, const u64* counts, const Long* longs,
                     unsigned* done, float* partial) {
    extern __shared__ float parts_of[];  // [parts][width * N + 1]
    __shared__ bool last;
    Work w = WORK;
    int width = 1 << log2_width, parts = blockDim.x >> log2_width, part = threadIdx.x >> log2_width;
    int lane = threadIdx.x & (width - 1), across = width * N + 1;
    i64 many = i64(*counts >> 40), pieces = i64(*counts & ((u64(1) << 40) - 1));
    for (i64 task = blockIdx.x; task < pieces; task += gridDim.x) {
        i64 low = 0, high = many;
        while (high - low > 1) {
            i64 middle = (low + high) / 2;
            if (longs[middle].first <= task) low = middle;
            else high = middle;
        }
        i64 segment = longs[low].segment, first = longs[low].first;
        i64 start = offsets[segment], stop = offsets[segment + 1];
        i64 begin = start + (task - first) * PIECE;
        i64 end = begin + PIECE < stop ? begin + PIECE : stop;
        for (i64 base = 0; base < dim; base += i64(width) * N) {
            i64 column = base + i64(lane) * N;
            Sum sum;
            if (column < dim) sum_rows(w, begin + part, end, parts, column, sum);
            __syncthreads();
            for (int e = 0; e < N; ++e) parts_of[part * across + lane * N + e] = sum.at[e];
            if (lane == 0) parts_of[part * across + width * N] = sum.weight;
            __syncthreads();
            for (int c = threadIdx.x; c < across; c += blockDim.x) {
                float total = 0;
                for (int p = 0; p < parts; ++p) total += parts_of[p * across + c];
                if (c == width * N) partial[task * (dim + 1) + dim] = total;
                else if (base + c < dim) partial[task * (dim + 1) + base + c] = total;
            }
        }
        __threadfence();
        __syncthreads();
        i64 own = (stop - start + PIECE - 1) / PIECE;
        if (threadIdx.x == 0) last = atomicAdd(done + low, 1u) == own - 1;
        __syncthreads();
        if (!last) continue;
        __threadfence();
        const float* from = partial + first * (dim + 1);
        for (i64 column = threadIdx.x; column < dim; column += blockDim.x) {
            float total = 0, weight = 0;
            for (i64 p = 0; p < own; ++p) {
                total += __ldcg(from + p * (dim + 1) + column);
                weight += __ldcg(from + p * (dim + 1) + dim);
            }
            finish<1>(w, segment, column, &total, weight);
        }
        __syncthreads();
    }
}
""",
    tuple(
        {"VALUE": v, "INDEX": i, "OFFSET": o, "WIDE": n, "AHEAD": a, "MEAN": m, "LOCATED": b}
        for v, i, o, n, a, m, b in (
            ("float", "int", "int", 4, 4, 0, 0),
            ("float", "int", "int", 4, 2, 1, 0),
            ("float", "i64", "i64", 1, 4, 0, 0),
            ("Half", "int", "i64", 8, 4, 1, 0),
            ("Bfloat", "i64", "int", 2, 2, 0, 0),
            ("float", "int", "int", 4, 4, 0, 1),
            ("Half", "i64", "i64", 1, 2, 0, 1),
        )
    ),
)


@dataclass(frozen=True)
class Located:
    """Rows read where they lie: element i of `rows` says which row of the blocks i is."""

    blocks: Blocks
    slot: str
    rows: Tensor

    def words(self) -> tuple[Any, ...]:
        b = self.blocks
        place = b.pointers, b.stride, b.log2_rows, b.slots[self.slot].offset
        return (None, *place, self.rows, code(self.rows))


def pool(
    queue: Queue,
    values: Tensor | Located,
    index: Tensor,
    offsets: Tensor,
    weights: Tensor | None,
    out: Tensor,
    *,
    factor: Tensor | None = None,
    scale: Tensor | None = None,
) -> None:
    """out[s] = Σ weights·factor[index]·values[index] over segment s; with `scale` the mean, and
    1 / Σ weights into it."""
    (count, n), dim = (len(offsets) - 1, len(index)), out.shape[1]
    if count == 0 or (dim == 0 and scale is None):
        return
    if dim == 0:
        raise ValueError("segment_mean: argument 'values' has no columns")
    addresses = (out,) if isinstance(values, Located) else (values, out)
    each = max(1, width_of(dim * out.itemsize, *addresses) // out.itemsize)
    # Lanes beside each other for a row, then as many rows at once as leave each about four.
    log2_width = min(5, (-(-dim // each) - 1).bit_length())
    log2_group = log2_width + min(5 - log2_width, max(n // count // 4 - 1, 0).bit_length())
    macros = {
        "VALUE": SPELLING[out.dtype], "INDEX": SPELLING[index.dtype],
        "OFFSET": SPELLING[offsets.dtype], "WIDE": each, "AHEAD": 2 if n < 3 * count else 4,
        "MEAN": int(scale is not None), "LOCATED": int(isinstance(values, Located)),
    }  # fmt: skip
    place = values.words() if isinstance(values, Located) else (values, *(0,) * 6)
    work = (
        *place, index, offsets, weights, code(weights), factor, code(factor), out, scale, dim
    )  # fmt: skip
    longest = min(max(4 * (n // count), LONG), LONGEST)
    cut = n > longest
    most = n // longest + 1
    marks = longs = partial = None
    if cut:
        marks, longs, partial = queue.scratch(
            8 + 4 * most, 16 * most, 4 * (dim + 1) * (n // PIECE + most)
        )
        queue.clear(marks)
    queue.launch(
        SOURCE, "short_segments", blocks_for(count << log2_group),
        *work, count, log2_width, log2_group, longest, marks, longs, **macros,
    )  # fmt: skip
    if marks is not None:
        shared = 4 * (THREADS >> log2_width) * ((each << log2_width) + 1)
        queue.launch(
            SOURCE, "long_segments", SHARERS, *work, log2_width, marks, longs, marks[8:], partial,
            shared=shared, **macros,
        )  # fmt: skip
