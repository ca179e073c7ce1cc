// segment_tile: values, index, offsets, weights, length -> out; one vector of an output row a thread.
#include "arg.cuh"

template <int N>
__global__ void tile(Floats values, Index index, Index offsets, Floats weights, int64_t cells, int64_t length,
                     int lanes, Floats out) {
    for (int64_t t = int64_t(blockIdx.x) * blockDim.x + threadIdx.x; t < cells * lanes;
         t += int64_t(gridDim.x) * blockDim.x) {
        int64_t cell = (lanes & (lanes - 1)) ? t / lanes : t >> (__ffs(lanes) - 1);
        int64_t segment = cell / length, k = offsets[segment] + (cell - segment * length);
        Pack<float, N> value{};
        if (k < offsets[segment + 1]) {
            int64_t at = (t - cell * lanes) * N;
            value = values.load<N>(index[k] * (int64_t(lanes) * N) + at);
            if (weights.data) {
                float w = weights[k];
                for (int e = 0; e < N; ++e) value.at[e] *= w;
            }
        }
        out.store<N>(t * N, value);
    }
}

EXPORT int64_t segment_tile(const Arg* a, void*, cudaStream_t stream) {
    int64_t dim = a[0].n1, length = a[4].i, cells = (a[2].n0 - 1) * length;
    if (cells == 0 || dim == 0) return 0;
    auto launch = [&](auto elements) {
        constexpr int N = decltype(elements)::value;
        int lanes = int(dim / N);
        tile<N><<<blocks_for(cells * lanes), THREADS, 0, stream>>>(
            Floats(a[0]), Index(a[1]), Index(a[2]), Floats(a[3]), cells, length, lanes, Floats(a[5]));
    };
    int width = access_width(dim * item_size(a[0].dtype), tensor<char>(a[0]), tensor<char>(a[5]));
    switch (width / item_size(a[0].dtype)) {
    case 8: launch(std::integral_constant<int, 8>{}); break;
    case 4: launch(std::integral_constant<int, 4>{}); break;
    case 2: launch(std::integral_constant<int, 2>{}); break;
    default: launch(std::integral_constant<int, 1>{});
    }
    return cudaGetLastError();
}
