// rows_scatter: one slot of many rows, a vector of up to 16 bytes a thread.
#include "arg.cuh"

template <typename V>
__global__ void scatter(Rows blocks, int64_t offset, Index rows, int64_t n, int lanes, const V* values) {
    for (int64_t t = int64_t(blockIdx.x) * blockDim.x + threadIdx.x; t < n * lanes;
         t += int64_t(gridDim.x) * blockDim.x) {
        int64_t i = (lanes & (lanes - 1)) ? t / lanes : t >> (__ffs(lanes) - 1);
        int64_t row = rows[i];
        if (row < 0) continue;
        reinterpret_cast<V*>(blocks.row(row) + offset)[t - i * lanes] = __ldcs(values + t);
    }
}

// Values in another dtype than the slot's are converted on the way.
__global__ void convert(Rows blocks, Arg slot, Index rows, int64_t n, Floats values) {
    for (int64_t t = int64_t(blockIdx.x) * blockDim.x + threadIdx.x; t < n * slot.n1;
         t += int64_t(gridDim.x) * blockDim.x) {
        int64_t i = t / slot.n1, row = rows[i];
        if (row < 0) continue;
        Floats out(blocks.row(row) + slot.n0, slot.dtype);
        out.store<1>(t - i * slot.n1, Pack<float, 1>{values[t]});
    }
}

EXPORT int64_t rows_scatter(const Arg* a, void*, cudaStream_t stream) {
    Rows blocks(a[0]);
    const Arg &slot = a[1], &values = a[3];
    Index rows(a[2]);
    int64_t n = a[2].n0, bytes = slot.n1 * item_size(slot.dtype);
    if (n == 0 || bytes == 0) return 0;
    auto launch = [&](auto vector) {
        using V = decltype(vector);
        int lanes = int(bytes / sizeof(V));
        scatter<V><<<blocks_for(n * lanes), THREADS, 0, stream>>>(blocks, slot.n0, rows, n, lanes,
                                                                 tensor<const V>(values));
    };
    if (values.dtype != slot.dtype) {
        convert<<<blocks_for(n * slot.n1), THREADS, 0, stream>>>(blocks, slot, rows, n, Floats(values));
        return cudaGetLastError();
    }
    switch (access_width(bytes, tensor<char>(values))) {
    case 16: launch(uint4{}); break;
    case 8: launch(uint2{}); break;
    case 4: launch(unsigned{}); break;
    default: launch((unsigned short)0);
    }
    return cudaGetLastError();
}
