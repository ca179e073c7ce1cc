// columns_unpack: a row of blocks a piece, all pieces in one launch.
#include "arg.cuh"

struct Piece {
    int64_t start, count, source, target, to, base;
};

template <typename T> __device__ T element(const uint8_t* p, int64_t i) {
    return __ldcs(reinterpret_cast<const T*>(p) + i);
}

__device__ int64_t integer(const uint8_t* p, int64_t source, int64_t i) {
    switch (source) {
    case 0: return reinterpret_cast<const int8_t*>(p)[i];
    case 1: return p[i];
    case 2: return element<short>(p, i);
    case 3: return element<unsigned short>(p, i);
    case 4: return element<int>(p, i);
    case 5: return element<unsigned>(p, i);
    default: return element<long long>(p, i);
    }
}

__device__ float real(const uint8_t* p, int64_t source, int64_t i) {
    switch (source) {
    case 7: return float(element<unsigned long long>(p, i));
    case 8: return __half2float(element<__half>(p, i));
    case 9: return element<float>(p, i);
    case 10: return float(element<double>(p, i));
    default: return float(integer(p, source, i));
    }
}

__global__ void unpack(const uint8_t* buffer, const Piece* pieces, int64_t count, int64_t* ids, float* values,
                       uint8_t* octets, void* bounds, bool wide) {
    for (int64_t which = blockIdx.y; which < count; which += gridDim.y) {
        Piece piece = pieces[which];
        const uint8_t* from = buffer + piece.start;
        int64_t first = piece.target == 3 && piece.count ? integer(from, piece.source, 0) : 0;
        for (int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x; i < piece.count;
             i += int64_t(gridDim.x) * blockDim.x) {
            int64_t to = piece.to + i;
            if (piece.target == 0) __stcs(ids + to, integer(from, piece.source, i));
            else if (piece.target == 1) __stcs(values + to, real(from, piece.source, i));
            else if (piece.target == 2) octets[to] = from[i];
            else {
                int64_t bound = integer(from, piece.source, i) - first + piece.base;
                if (wide) static_cast<int64_t*>(bounds)[to] = bound;
                else static_cast<int*>(bounds)[to] = int(bound);
            }
        }
    }
}

EXPORT int64_t columns_unpack(const Arg* a, void*, cudaStream_t stream) {
    int64_t count = a[1].n0;
    for (int k = 6; k < 10; ++k)
        if (a[k].n0) cudaMemsetAsync(a[k].data, 0, a[k].n0 * item_size(a[k].dtype), stream);
    if (count == 0) return cudaGetLastError();
    // About four blocks a multiprocessor in all, whatever the number of pieces.
    int64_t across = 1 + 132 * 16 / count, fitting = ceil_div(a[0].n0 / count, 4 * THREADS) + 1;
    dim3 grid(unsigned(across < fitting ? across : fitting), unsigned(count < 65535 ? count : 65535));
    unpack<<<grid, THREADS, 0, stream>>>(tensor<const uint8_t>(a[0]), tensor<const Piece>(a[1]), count,
                                         tensor<int64_t>(a[6]), tensor<float>(a[7]),
                                         tensor<uint8_t>(a[8]), a[9].data, a[9].dtype == INT64);
    return cudaGetLastError();
}
