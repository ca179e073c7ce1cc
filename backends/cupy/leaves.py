"""CUDA text of sums of leaves' gradients, taken where they lie, by a group of lanes of one warp."""

from __future__ import annotations

from backends.cupy.device import DEVICE

LEAVES = (
    DEVICE
    + r"""
// PLAIN: all floats are float32, index and starts int32, as the engine's; else by code.
// WIDE: elements a lane holds.
constexpr int N = WIDE, FAN = 32;

#if PLAIN
typedef int Leaf;
typedef u32 At;  // unsigned, so that a step past the last of 2^31 does not wrap
struct Places {
    const int* data;
    INLINE Places(const void* data, i64) : data(static_cast<const int*>(data)) {}
    INLINE int operator[](At k) const { return __ldg(data + k); }
};
#define AS_FLOATS(ADDRESS, CODE) Floats(ADDRESS, FLOAT32)
#else
typedef i64 Leaf, At;
typedef Index Places;
#define AS_FLOATS(ADDRESS, CODE) Floats(ADDRESS, CODE)
#endif

struct alignas(8) Two { float first, second; };
struct Task { i64 row, piece, sums; };  // `sums`: where the sums of the row's pieces begin

struct Work {
    Rows blocks;
    Index rows;
    Floats grad, scale;  // of leaves; scale null: all 1
    Places starts, segments;
    Floats weights, rate;  // null: all 1
    i64 count, offset[3], weight;
    int dim, log2_width;
    i64 longest, size;  // gradients of a row that is not cut, and of a piece
    u64* found;         // pieces, and of these those with sums of their own
    Task* tasks;
    int* done;      // at every FAN-th piece of a row: those that ended; at its second: such groups
    float* sums;    // [.][dim]
    float c[8];
};

struct Sum { float at[N] = {}; };

// The same address, of which nothing is formed sooner: else slots' places are kept over the sum.
INLINE char* now(char* address) {
#ifdef __CUDA_ARCH__
    asm volatile("" : "+l"(address));
#endif
    return address;
}

// Gradients first, first + step, ... below end, columns from `column`.
template <int MANY>
INLINE void sum_leaves(const Work& w, At k, At end, At step, int column, Sum& sum) {
    for (; k < end; k += step * MANY) {
        Leaf leaf[MANY];
        Pack<float, N> value[MANY];
#pragma unroll
        for (int j = 0; j < MANY; ++j)
            leaf[j] = k + j * step < end ? w.segments[k + j * step] : Leaf(-1);
#pragma unroll
        for (int j = 0; j < MANY; ++j)
            if (leaf[j] >= 0) value[j] = w.grad.load<N>(i64(leaf[j]) * w.dim + column);
#pragma unroll
        for (int j = 0; j < MANY; ++j) {
            if (leaf[j] < 0) continue;
            float by = w.weights.data ? w.weights[k + j * step] : 1.f;
            if (w.scale.data) by *= w.scale[leaf[j]];
#pragma unroll
            for (int e = 0; e < N; ++e) sum.at[e] += by * value[j].at[e];
        }
    }
}

// Sums of pieces, `many` of them from `first` in steps.
INLINE void sum_sums(const Work& w, i64 first, i64 many, i64 step, int part, int parts, int column,
                     Sum& sum) {
    constexpr int MANY = 4;
    for (i64 p = part; p < many; p += parts * MANY) {
        Sum own[MANY];
#pragma unroll
        for (int j = 0; j < MANY; ++j) {
            if (p + j * parts >= many) continue;
            const float* from = w.sums + (first + (p + j * parts) * step) * w.dim + column;
#pragma unroll
            for (int e = 0; e < N; ++e) own[j].at[e] = __ldcg(from + e);
        }
#pragma unroll
        for (int j = 0; j < MANY; ++j)
#pragma unroll
            for (int e = 0; e < N; ++e) sum.at[e] += own[j].at[e];
    }
}

// `width` lanes hold a gradient side by side; `parts` such sub-groups take a row's in turn.
struct Group {
    unsigned members;
    int width, parts, part, lane, first;  // first: the lane of the warp it begins at

    INLINE Group(int log2_width, int log2_group) {
        int size = 1 << log2_group;
        width = 1 << log2_width;
        parts = size >> log2_width;
        first = threadIdx.x & 31 & ~(size - 1);
        members = size == 32 ? ~0u : ((1u << size) - 1) << first;
        part = (threadIdx.x & (size - 1)) >> log2_width;
        lane = threadIdx.x & (width - 1);
    }
    INLINE float total(float value, int from, int below) const {
        for (int step = from; step < below; step *= 2)
            value += __shfl_xor_sync(members, value, step);
        return value;
    }
    INLINE Sum over_parts(Sum sum) const {
#pragma unroll
        for (int e = 0; e < N; ++e) sum.at[e] = total(sum.at[e], width, width * parts);
        return sum;
    }
};
"""
)
