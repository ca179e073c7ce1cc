// values_bucketize: upper bound among the boundaries of each element's column.
#include "columns.cuh"

__global__ void bucketize(Floats values, Index splits, int64_t columns, Floats boundaries, Index bounds, int64_t n,
                          int64_t* out) {
    int64_t begin = int64_t(blockIdx.x) * TILE, end = begin + TILE < n ? begin + TILE : n;
    __shared__ int64_t first;
    if (threadIdx.x == 0) first = column_of(splits, columns, begin);
    __syncthreads();
    int64_t column = first;
    for (int64_t i = begin + threadIdx.x; i < end; i += blockDim.x) {
        column = walk(splits, column, i);
        float x = values[i];
        int64_t start = bounds[column], low = start, high = bounds[column + 1];
        // NaN compares false with everything, so it ends past the last boundary.
        while (low < high) {
            int64_t middle = (low + high) / 2;
            if (x < boundaries[middle]) high = middle;
            else low = middle + 1;
        }
        __stcs(out + i, low - start);
    }
}

EXPORT int64_t values_bucketize(const Arg* a, void*, cudaStream_t stream) {
    int64_t n = a[0].n0;
    if (n)
        bucketize<<<unsigned(ceil_div(n, TILE)), THREADS, 0, stream>>>(
            Floats(a[0]), Index(a[1]), a[1].n0 - 1, Floats(a[2]), Index(a[3]), n, tensor<int64_t>(a[4]));
    return cudaGetLastError();
}
