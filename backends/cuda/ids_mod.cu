// ids_mod: unsigned remainder by the modulus of each element's column.
#include "columns.cuh"

__global__ void mod(const int64_t* ids, Index splits, int64_t columns, const int64_t* moduli, int64_t n,
                    int64_t* out) {
    int64_t begin = int64_t(blockIdx.x) * TILE, end = begin + TILE < n ? begin + TILE : n;
    __shared__ int64_t first;
    if (threadIdx.x == 0) first = column_of(splits, columns, begin);
    __syncthreads();
    int64_t column = first, last = -1;
    uint64_t m = 1;
    for (int64_t i = begin + threadIdx.x; i < end; i += blockDim.x) {
        column = walk(splits, column, i);
        if (column != last) m = uint64_t(__ldg(moduli + column)), last = column;
        uint64_t x = uint64_t(__ldcs(ids + i));
        // 64-bit division is slow; most ids or moduli let a cheaper one do.
        uint64_t r = x < m ? x : (m & (m - 1)) == 0 ? x & (m - 1) : (x | m) >> 32 ? x % m
                                                                                 : uint32_t(x) % uint32_t(m);
        __stcs(out + i, int64_t(r));
    }
}

EXPORT int64_t ids_mod(const Arg* a, void*, cudaStream_t stream) {
    int64_t n = a[0].n0;
    if (n)
        mod<<<unsigned(ceil_div(n, TILE)), THREADS, 0, stream>>>(
            tensor<const int64_t>(a[0]), Index(a[1]), a[2].n0, tensor<const int64_t>(a[2]), n,
            tensor<int64_t>(a[3]));
    return cudaGetLastError();
}
