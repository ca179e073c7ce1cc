// rows_gather: one slot of many rows, a vector of up to 16 bytes a thread.
#include "arg.cuh"

template <typename V>
__global__ void gather(Rows blocks, int64_t offset, Index rows, int64_t n, int lanes, V* out) {
    for (int64_t t = int64_t(blockIdx.x) * blockDim.x + threadIdx.x; t < n * lanes;
         t += int64_t(gridDim.x) * blockDim.x) {
        int64_t i = (lanes & (lanes - 1)) ? t / lanes : t >> (__ffs(lanes) - 1);
        int c = int(t - i * lanes);
        int64_t row = rows[i];
        V value{};
        if (row >= 0) value = __ldcs(reinterpret_cast<const V*>(blocks.row(row) + offset) + c);
        __stcs(out + t, value);
    }
}

EXPORT int64_t rows_gather(const Arg* a, void*, cudaStream_t stream) {
    Rows blocks(a[0]);
    const Arg &slot = a[1], &out = a[3];
    Index rows(a[2]);
    int64_t n = a[2].n0, bytes = slot.n1 * item_size(slot.dtype);
    if (n == 0 || bytes == 0) return 0;
    auto launch = [&](auto vector) {
        using V = decltype(vector);
        int lanes = int(bytes / sizeof(V));
        gather<V><<<blocks_for(n * lanes), THREADS, 0, stream>>>(blocks, slot.n0, rows, n, lanes,
                                                                tensor<V>(out));
    };
    switch (access_width(bytes, tensor<char>(out))) {
    case 16: launch(uint4{}); break;
    case 8: launch(uint2{}); break;
    case 4: launch(unsigned{}); break;
    default: launch((unsigned short)0);
    }
    return cudaGetLastError();
}
