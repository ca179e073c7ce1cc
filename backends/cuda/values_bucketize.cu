// values_bucketize: upper bound among the boundaries of each element's column.
#include "columns.cuh"
#include <cmath>

// A warp takes SPAN consecutive elements, pairs of them a lane.
constexpr int PAIRS = 2;
constexpr int64_t SPAN = 64 * PAIRS;
using Pair = Pack<int64_t, 2>;

// NaN is below no boundary, so it ends past the last one.
__device__ inline bool passes(float x, float boundary) { return !(x < boundary); }

// How many of up to 32 boundaries, one a lane (infinity behind them), each x passes.
struct Lanes {
    float own, at3, at7, at11, at15, at19, at23, at27;
    int count;

    template <typename T> __device__ Lanes(const T* boundaries, int count, int lane)
        : own(lane < count ? widen(boundaries[lane]) : INFINITY), count(count) {
        at7 = __shfl_sync(~0u, own, 7), at15 = __shfl_sync(~0u, own, 15), at23 = __shfl_sync(~0u, own, 23);
        at3 = __shfl_sync(~0u, own, 3), at11 = __shfl_sync(~0u, own, 11);
        at19 = __shfl_sync(~0u, own, 19), at27 = __shfl_sync(~0u, own, 27);
    }

    __device__ int passed(float x) const {
        bool upper = passes(x, at15), next = passes(x, upper ? at23 : at7);
        float pivot = upper ? (next ? at27 : at19) : (next ? at11 : at3);
        int p = (upper ? 16 : 0) + (next ? 8 : 0) + (passes(x, pivot) ? 4 : 0);
        p += passes(x, __shfl_sync(~0u, own, p + 1)) ? 2 : 0;
        p += passes(x, __shfl_sync(~0u, own, p)) ? 1 : 0;
        p += passes(x, __shfl_sync(~0u, own, p)) ? 1 : 0;
        return p < count ? p : count;
    }
};

template <typename T> __device__ int64_t passed(float x, const T* boundaries, int64_t count) {
    int64_t low = 0, high = count;
    while (low < high) {
        int64_t middle = (low + high) / 2;
        if (passes(x, widen(boundaries[middle]))) low = middle + 1;
        else high = middle;
    }
    return low;
}

// The same among any number of boundaries, for all elements of a lane at once.
template <typename T> __device__ void pass(const Pack<float, 2>* x, const T* boundaries, int64_t count, Pair* p) {
    for (int k = 0; k < PAIRS; ++k) p[k] = {0, 0};
    for (int64_t step = count ? int64_t(1) << (63 - __clzll(count)) : 0; step; step /= 2)
#pragma unroll
        for (int k = 0; k < 2 * PAIRS; ++k) {
            int64_t& at = p[k / 2].at[k % 2];
            int64_t next = at + step;
            if (next <= count && passes(x[k / 2].at[k % 2], widen(__ldg(boundaries + next - 1)))) at = next;
        }
}

template <typename T>
__global__ void __launch_bounds__(THREADS) bucketize(Floats values, Index splits, int64_t columns,
                                                     const T* boundaries, Index bounds, int64_t n, bool aligned,
                                                     int64_t* out) {
    int64_t begin = (int64_t(blockIdx.x) * THREADS + threadIdx.x) / 32 * SPAN, end = begin + SPAN;
    int lane = threadIdx.x % 32;
    if (begin >= n) return;
    Pack<float, 2> x[PAIRS];
    bool whole = aligned && end <= n;
    if (whole) {
#pragma unroll
        for (int k = 0; k < PAIRS; ++k) x[k] = values.load<2>(begin + 64 * k + 2 * lane);
    }
    // The values are on their way while the column is looked for.
    int64_t column = column_of_warp(splits, columns, begin);
    int64_t start = bounds[column], count = bounds[column + 1] - start;
    if (whole && end <= splits[column + 1]) {
        Pair p[PAIRS];
        if (count <= 32) {
            Lanes lanes(boundaries + start, int(count), lane);
#pragma unroll
            for (int k = 0; k < PAIRS; ++k) p[k] = {lanes.passed(x[k].at[0]), lanes.passed(x[k].at[1])};
        } else {
            pass(x, boundaries + start, count, p);
        }
#pragma unroll
        for (int k = 0; k < PAIRS; ++k) reinterpret_cast<Pair*>(out + begin)[32 * k + lane] = p[k];
        return;
    }
    for (int64_t i = begin + lane; i < end && i < n; i += 32) {
        column = walk(splits, column, i);
        start = bounds[column];
        out[i] = passed(values[i], boundaries + start, bounds[column + 1] - start);
    }
}

EXPORT int64_t values_bucketize(const Arg* a, void*, cudaStream_t stream) {
    int64_t n = a[0].n0;
    bool aligned = access_width(2 * item_size(a[0].dtype), tensor<char>(a[0])) == 2 * item_size(a[0].dtype);
    aligned = aligned && access_width(16, tensor<char>(a[4])) == 16;
    unsigned grid = blocks_for(ceil_div(n, SPAN) * 32);
    if (n == 0) return cudaGetLastError();
    WITH_VALUES(a[2].dtype, T, {
        bucketize<T><<<grid, THREADS, 0, stream>>>(Floats(a[0]), Index(a[1]), a[1].n0 - 1, tensor<const T>(a[2]),
                                                   Index(a[3]), n, aligned, tensor<int64_t>(a[4]));
    })
    return cudaGetLastError();
}
