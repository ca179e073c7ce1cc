// ids_mod: unsigned remainder by the modulus of each element's column.
#include "columns.cuh"

// Remainders by one modulus without division: the high word of x times the reciprocal is the quotient or
// one less, because the reciprocal is too small by less than one.
struct Modulus {
    uint64_t m, reciprocal;

    __device__ explicit Modulus(uint64_t m) : m(m), reciprocal(~0ull / m) {}

    __device__ uint64_t rest(uint64_t x) const {
        uint64_t r = x - __umul64hi(x, reciprocal) * m;
        return r >= m ? r - m : r;
    }
};

// A warp takes SPAN consecutive elements, pairs of them a lane.
constexpr int PAIRS = 2;
constexpr int64_t SPAN = 64 * PAIRS;
using Pair = Pack<uint64_t, 2>;

__device__ inline uint64_t rest_of(uint64_t x, uint64_t m) {
    // 64-bit division is slow; most ids or moduli let a cheaper one do.
    return x < m ? x : (m & (m - 1)) == 0 ? x & (m - 1) : (x | m) >> 32 ? x % m : uint32_t(x) % uint32_t(m);
}

__global__ void __launch_bounds__(THREADS) mod(const uint64_t* ids, Index splits, int64_t columns,
                                               const int64_t* moduli, int64_t n, bool aligned, uint64_t* out) {
    int64_t begin = (int64_t(blockIdx.x) * THREADS + threadIdx.x) / 32 * SPAN, end = begin + SPAN;
    int lane = threadIdx.x % 32;
    if (begin >= n) return;
    Pair x[PAIRS];
    bool whole = aligned && end <= n;
    if (whole) {
#pragma unroll
        for (int k = 0; k < PAIRS; ++k) x[k] = reinterpret_cast<const Pair*>(ids + begin)[32 * k + lane];
    }
    // The ids are on their way while the column is looked for.
    int64_t column = column_of_warp(splits, columns, begin);
    if (whole && end <= splits[column + 1]) {
        Modulus modulus(uint64_t(__ldg(moduli + column)));
#pragma unroll
        for (int k = 0; k < PAIRS; ++k) {
            Pair r{modulus.rest(x[k].at[0]), modulus.rest(x[k].at[1])};
            reinterpret_cast<Pair*>(out + begin)[32 * k + lane] = r;
        }
        return;
    }
    for (int64_t i = begin + lane; i < end && i < n; i += 32) {
        column = walk(splits, column, i);
        out[i] = rest_of(ids[i], uint64_t(__ldg(moduli + column)));
    }
}

EXPORT int64_t ids_mod(const Arg* a, void*, cudaStream_t stream) {
    int64_t n = a[0].n0;
    if (n)
        mod<<<blocks_for(ceil_div(n, SPAN) * 32), THREADS, 0, stream>>>(
            tensor<const uint64_t>(a[0]), Index(a[1]), a[2].n0, tensor<const int64_t>(a[2]), n,
            access_width(16, tensor<char>(a[0]), tensor<char>(a[3])) == 16, tensor<uint64_t>(a[3]));
    return cudaGetLastError();
}
