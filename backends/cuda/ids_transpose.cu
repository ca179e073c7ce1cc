// ids_transpose: stable grouping of the values by distinct id (group.cuh). Past its limits, 2^31 values
// or 8 M distinct ids, a library radix sort of (inverse, segment) over the bits `distinct` needs.
#include "group_large.cuh"
#include "transpose.cuh"

// Segment of each value, written while tiles are sorted.
struct SegmentOf {
    Index offsets;
    int64_t segments;
    int32_t* out;
    int lanes;  // of a segment: one where segments are short, so that few blocks do, up to 32

    __device__ void operator()(int64_t block) const {
        int64_t s = (block * grouping::BLOCK + threadIdx.x) / lanes;
        if (s >= segments) return;
        int64_t end = offsets[s + 1];
        for (int64_t k = offsets[s] + threadIdx.x % lanes; k < end; k += lanes) out[k] = int32_t(s);
    }
};

struct Carry {
    const int32_t* segment_of;
    int32_t* segments;
    const void* weights;
    void* carried;
    int width;

    __device__ void operator()(uint32_t place, uint32_t i) const {
        // Through the read-only path, so that loads need not wait for the stores before them.
        segments[place] = __ldg(segment_of + i);
        if (width == 4) static_cast<uint32_t*>(carried)[place] = static_cast<const uint32_t*>(weights)[i];
        if (width == 2) static_cast<uint16_t*>(carried)[place] = static_cast<const uint16_t*>(weights)[i];
    }
};

// Where ids repeat much, a few of them usually repeat thousands of times, and whichever block gets
// such a bucket works alone: a radix sort takes as long whatever the ids are.
constexpr int64_t REPEATS = 4;

bool groups(const Arg* a) {
    return grouping::possible(a[0].n0, a[3].i) && a[1].n0 - 1 < int64_t(1) << 31 &&
           (a[0].n0 <= grouping::CAP || a[0].n0 < REPEATS * a[3].i);
}

int64_t group_scratch(const Arg* a) {
    return grouping::Work(nullptr, a[0].n0, a[3].i).bytes + padded(a[0].n0 * 4);
}

int64_t run_group(const Arg* a, void* scratch, cudaStream_t stream) {
    int64_t n = a[0].n0, segments = a[1].n0 - 1;
    grouping::Work work(scratch, n, a[3].i);
    auto* segment_of = reinterpret_cast<int32_t*>(static_cast<char*>(scratch) + work.bytes);
    int lanes = 1;
    while (lanes < 32 && segments * lanes * 8 < n) lanes *= 2;
    SegmentOf side{Index(a[1]), segments, segment_of, lanes};
    Carry out{segment_of, tensor<int32_t>(a[5]), a[2].data, a[6].data,
              a[2].data ? int(item_size(a[2].dtype)) : 0};
    WITH_INDEX(a[0], I, {
        grouping::group(tensor<const I>(a[0]), work, tensor<int32_t>(a[4]), out, side,
                        ceil_div(segments * lanes, grouping::BLOCK), stream);
    })
    return cudaGetLastError();
}

// The payload that travels: the segment alone, or with the weight's bits above it.
template <typename V>
__global__ void payload(Index offsets, int64_t segments, const void* weights, int width, V* out) {
    // A sub-warp a segment, so that long and short ones both write in a coalesced way.
    int64_t s = (int64_t(blockIdx.x) * blockDim.x + threadIdx.x) / 8;
    if (s >= segments) return;
    for (int64_t k = offsets[s] + threadIdx.x % 8; k < offsets[s + 1]; k += 8) {
        uint64_t bits = width == 4 ? static_cast<const uint32_t*>(weights)[k]
                        : width == 2 ? static_cast<const uint16_t*>(weights)[k]
                                     : 0;
        out[k] = V(s) | (sizeof(V) == 8 && width ? V(bits << 32) : V(0));
    }
}

__global__ void unzip(const uint64_t* sorted, int64_t n, int width, uint32_t* segments, void* weights) {
    int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
    if (i >= n) return;
    uint64_t v = sorted[i];
    segments[i] = uint32_t(v);
    if (width == 4) static_cast<uint32_t*>(weights)[i] = uint32_t(v >> 32);
    else static_cast<uint16_t*>(weights)[i] = uint16_t(v >> 32);
}

template <typename K, typename V> struct Layout {
    int64_t keys, values, sorted, total;

    Layout(int64_t n, int bits) {
        keys = padded(sort_scratch<K, V>(n, bits));
        values = keys + padded(n * sizeof(K));
        sorted = values + padded(n * sizeof(V));
        total = sorted + padded(n * sizeof(V));
    }
};

// args: inverse, offsets, weights, distinct; starts, segments, carried.
template <typename K, typename V> int64_t run(const Arg* a, void* scratch, cudaStream_t stream) {
    int64_t n = a[0].n0, segments = a[1].n0 - 1, distinct = a[3].i;
    int bits = bits_of(distinct), width = a[2].data ? int(item_size(a[2].dtype)) : 0;
    Layout<K, V> at(n, bits);
    char* base = static_cast<char*>(scratch);
    K* keys = reinterpret_cast<K*>(base + at.keys);
    V* values = reinterpret_cast<V*>(base + at.values);
    V* sorted = width ? reinterpret_cast<V*>(base + at.sorted) : static_cast<V*>(a[5].data);
    size_t bytes = at.keys;
    if (n) {
        payload<V><<<blocks_for(segments * 8), THREADS, 0, stream>>>(Index(a[1]), segments, a[2].data, width,
                                                                    values);
        cub::DeviceRadixSort::SortPairs(scratch, bytes, static_cast<const K*>(a[0].data), keys, values, sorted, n,
                                        0, bits, stream);
        if (width)
            unzip<<<blocks_for(n), THREADS, 0, stream>>>(reinterpret_cast<const uint64_t*>(sorted), n, width,
                                                        static_cast<uint32_t*>(a[5].data), a[6].data);
    }
    if (a[4].dtype == INT32)
        mark_starts<<<blocks_for(n + 1), THREADS, 0, stream>>>(keys, n, distinct, tensor<int32_t>(a[4]));
    else
        mark_starts<<<blocks_for(n + 1), THREADS, 0, stream>>>(keys, n, distinct, tensor<int64_t>(a[4]));
    return cudaGetLastError();
}

// More than 2^31 segments with weights would need a 96-bit payload.
template <typename F> int64_t choose(const Arg* a, F f) {
    bool wide_key = a[0].dtype == INT64, wide_segment = a[1].n0 - 1 >= int64_t(1) << 31;
    if (a[2].data && wide_segment) return -1;
    bool wide_value = wide_segment || a[2].data;
    if (wide_key && wide_value) return f(uint64_t{}, uint64_t{});
    if (wide_key) return f(uint64_t{}, uint32_t{});
    if (wide_value) return f(uint32_t{}, uint64_t{});
    return f(uint32_t{}, uint32_t{});
}

EXPORT int64_t ids_transpose_scratch(const Arg* a, void*, cudaStream_t) {
    if (groups(a)) return group_scratch(a);
    return choose(a, [&](auto k, auto v) {
        return Layout<decltype(k), decltype(v)>(a[0].n0, bits_of(a[3].i)).total + 256;
    });
}

EXPORT int64_t ids_transpose(const Arg* a, void* scratch, cudaStream_t stream) {
    if (groups(a)) return run_group(a, scratch, stream);
    return choose(a, [&](auto k, auto v) { return run<decltype(k), decltype(v)>(a, scratch, stream); });
}
