// rows_scatter: one slot of many rows, vectors of up to 16 bytes.
#include "arg.cuh"

// Small blocks, and EACH loads in flight a thread before the first store.
constexpr int BLOCK = 128, EACH = 4;

template <typename V, typename I>
__global__ void __launch_bounds__(BLOCK)
    scatter(Rows blocks, int64_t offset, const I* rows, int64_t n, int lanes, const V* values) {
    int64_t first = int64_t(blockIdx.x) * (BLOCK * EACH) + threadIdx.x, end = n * lanes;
    int64_t at[EACH], row[EACH];
    V value[EACH];
    // A loop a step of the chain, so that EACH chains advance together.
#pragma unroll
    for (int j = 0; j < EACH; ++j) at[j] = vector_row(first + j * BLOCK, lanes);
#pragma unroll
    for (int j = 0; j < EACH; ++j) row[j] = first + j * BLOCK < end ? int64_t(__ldg(rows + at[j])) : -1;
#pragma unroll
    for (int j = 0; j < EACH; ++j) at[j] = (first + j * BLOCK - at[j] * lanes) * int64_t(sizeof(V)) + offset;
    uint64_t base[EACH];
#pragma unroll
    for (int j = 0; j < EACH; ++j) base[j] = row[j] < 0 ? 0 : __ldg(blocks.pointers + blocks.block(row[j]));
#pragma unroll
    for (int j = 0; j < EACH; ++j) value[j] = row[j] < 0 ? V{} : values[first + j * BLOCK];
#pragma unroll
    for (int j = 0; j < EACH; ++j)
        if (row[j] >= 0) *reinterpret_cast<V*>(base[j] + blocks.offset(row[j]) + at[j]) = value[j];
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
        unsigned grid = blocks_for(n * lanes, BLOCK * EACH);
        WITH_INDEX(a[2], I, {
            scatter<<<grid, BLOCK, 0, stream>>>(blocks, slot.n0, tensor<const I>(a[2]), n, lanes,
                                                tensor<const V>(values));
        })
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
