"""rows_norm: a fixed grid sums squares in float64; the last block adds the blocks in order."""

from __future__ import annotations

from torch import Tensor

from backends.cupy.device import DEVICE
from backends.cupy.queue import Queue, Source, code

BLOCKS = 264

SOURCE = Source(
    "rows_norm",
    DEVICE
    + r"""
constexpr int WARPS = 8;

INLINE double block_sum(double x) {
    __shared__ double warps[WARPS];
    for (int step = 16; step; step /= 2) x += __shfl_xor_sync(~0u, x, step);
    __syncthreads();
    if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = x;
    __syncthreads();
    x = 0;
    for (int w = 0; w < WARPS; ++w) x += warps[w];
    return x;
}

template <int N>
INLINE void norm(Floats values, i64 n, double* partial, unsigned* done, double* out) {
    __shared__ bool last;
    double sum = 0;
    for (i64 i = THIS_THREAD * N; i < n; i += ALL_THREADS * N) {
        auto v = values.load<N>(i);
        float run = 0;
#pragma unroll
        for (int e = 0; e < N; ++e) run += v.at[e] * v.at[e];
        sum += run;
    }
    sum = block_sum(sum);
    if (threadIdx.x == 0) {
        partial[blockIdx.x] = sum;
        __threadfence();
        last = atomicAdd(done, 1u) == gridDim.x - 1;
    }
    __syncthreads();
    if (!last) return;
    __threadfence();
    double total = 0;
    for (int b = threadIdx.x; b < gridDim.x; b += blockDim.x) total += __ldcg(partial + b);
    total = block_sum(total);
    if (threadIdx.x == 0) *out = sqrt(total);
}

KERNEL norm_4(const void* values, i64 dtype, i64 n, double* partial, unsigned* done, double* out) {
    norm<4>({values, dtype}, n, partial, done, out);
}
KERNEL norm_1(const void* values, i64 dtype, i64 n, double* partial, unsigned* done, double* out) {
    norm<1>({values, dtype}, n, partial, done, out);
}
""",
)


def rows_norm(values: Tensor, norm: Tensor) -> None:
    n = values.numel()
    wide = n % 4 == 0 and values.data_ptr() % (4 * values.itemsize) == 0
    with Queue(values.device) as queue:
        done, partial = queue.scratch(4, BLOCKS * 8)
        queue.clear(done)
        queue.launch(
            SOURCE, "norm_4" if wide else "norm_1", BLOCKS,
            values, code(values), n, partial, done, norm,
        )  # fmt: skip
