// rows_gather: one slot of many rows, vectors of up to 16 bytes.
#include "arg.cuh"

// Small blocks, and EACH rows' loads in flight a thread before the first store.
constexpr int BLOCK = 128, EACH = 4;

template <typename V, typename I>
__global__ void __launch_bounds__(BLOCK)
    gather(Rows blocks, int64_t offset, const I* rows, int64_t n, int lanes, V* out) {
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
    for (int j = 0; j < EACH; ++j) {
        value[j] = V{};
        if (row[j] >= 0) value[j] = *reinterpret_cast<const V*>(base[j] + blocks.offset(row[j]) + at[j]);
    }
#pragma unroll
    for (int j = 0; j < EACH; ++j)
        if (first + j * BLOCK < end) out[first + j * BLOCK] = value[j];
}

EXPORT int64_t rows_gather(const Arg* a, void*, cudaStream_t stream) {
    Rows blocks(a[0]);
    const Arg &slot = a[1], &out = a[3];
    int64_t n = a[2].n0, bytes = slot.n1 * item_size(slot.dtype);
    if (n == 0 || bytes == 0) return 0;
    auto launch = [&](auto vector) {
        using V = decltype(vector);
        int lanes = int(bytes / sizeof(V));
        unsigned grid = blocks_for(n * lanes, BLOCK * EACH);
        WITH_INDEX(a[2], I, {
            gather<<<grid, BLOCK, 0, stream>>>(blocks, slot.n0, tensor<const I>(a[2]), n, lanes, tensor<V>(out));
        })
    };
    switch (access_width(bytes, tensor<char>(out))) {
    case 16: launch(uint4{}); break;
    case 8: launch(uint2{}); break;
    case 4: launch(unsigned{}); break;
    default: launch((unsigned short)0);
    }
    return cudaGetLastError();
}
