// ids_hash: one thread a string.
#include "arg.cuh"
#include "hash.cuh"

__global__ void hash(const uint8_t* data, Index offsets, int64_t n, bool farm, int64_t* out) {
    int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
    if (i >= n) return;
    int64_t begin = offsets[i], size = offsets[i + 1] - begin;
    out[i] = int64_t(farm ? farm64(data + begin, size) : murmur64a(data + begin, size));
}

EXPORT int64_t ids_hash(const Arg* a, void*, cudaStream_t stream) {
    int64_t n = a[1].n0 - 1;
    if (n)
        hash<<<blocks_for(n), THREADS, 0, stream>>>(tensor<const uint8_t>(a[0]), Index(a[1]), n,
                                                   a[2].i == 0, tensor<int64_t>(a[3]));
    return cudaGetLastError();
}

// The host twins, for tests without a device.
EXPORT uint64_t farm64_host(const uint8_t* s, int64_t n) { return farm64(s, n); }
EXPORT uint64_t murmur64a_host(const uint8_t* s, int64_t n) { return murmur64a(s, n); }
EXPORT uint64_t mix64_host(uint64_t z) { return mix64(z); }
EXPORT int64_t owner_of_host(uint64_t hashed, int64_t world) { return owner_of(hashed, int(world)); }
