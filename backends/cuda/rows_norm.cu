// rows_norm: a fixed grid sums squares in float64; the last block adds the blocks in order.
#include "arg.cuh"

constexpr int BLOCKS = 264;

template <int N> __global__ void norm(Floats values, int64_t n, double* partial, unsigned* done, double* out) {
    __shared__ double shared[THREADS / 32];
    __shared__ bool last;
    double sum = 0;
    for (int64_t i = (int64_t(blockIdx.x) * blockDim.x + threadIdx.x) * N; i < n;
         i += int64_t(gridDim.x) * blockDim.x * N) {
        auto v = values.load<N>(i);
        float run = 0;
#pragma unroll
        for (int e = 0; e < N; ++e) run += v.at[e] * v.at[e];
        sum += run;
    }
    auto reduce = [&](double x) {
        for (int step = 16; step; step /= 2) x += __shfl_xor_sync(~0u, x, step);
        __syncthreads();
        if (threadIdx.x % 32 == 0) shared[threadIdx.x / 32] = x;
        __syncthreads();
        x = 0;
        for (int w = 0; w < THREADS / 32; ++w) x += shared[w];
        return x;
    };
    sum = reduce(sum);
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
    total = reduce(total);
    if (threadIdx.x == 0) *out = sqrt(total);
}

EXPORT int64_t rows_norm_scratch(const Arg*, void*, cudaStream_t) { return 256 + BLOCKS * 8; }

EXPORT int64_t rows_norm(const Arg* a, void* scratch, cudaStream_t stream) {
    int64_t n = a[0].n0 * a[0].n1;
    cudaMemsetAsync(scratch, 0, 256, stream);
    auto launch = [&](auto elements) {
        constexpr int N = decltype(elements)::value;
        norm<N><<<BLOCKS, THREADS, 0, stream>>>(
            Floats(a[0]), n, reinterpret_cast<double*>(static_cast<char*>(scratch) + 256),
            static_cast<unsigned*>(scratch), tensor<double>(a[1]));
    };
    bool aligned = access_width(16, tensor<char>(a[0])) == 16;
    if (n % 4 == 0 && aligned) launch(std::integral_constant<int, 4>{});
    else launch(std::integral_constant<int, 1>{});
    return cudaGetLastError();
}
