// ids_transpose: stable grouping of the values by distinct id (group.cuh). Where ids repeat, and past its
// limits, 2^31 values or 8 M distinct ids, a library radix sort of (inverse, segment) over the bits `distinct`
// needs.
#include "group_large.cuh"
#include "transpose.cuh"

// Segment of each value of a tile, counted from the one returned, the first value's: that one by search,
// then marks where segments begin and the maximum over the marks before. `out` is aligned to 16 bytes.
struct SegmentOf {
    Index offsets;
    int64_t segments;

    __device__ int64_t operator()(int64_t begin, int size, uint32_t* out) const {
        constexpr int SPAN = grouping::SPAN, BLOCK = grouping::BLOCK, EACH = SPAN / BLOCK;
        // The last segment that begins at `begin` or before, a block's width of probes a step.
        int64_t low = 0, high = segments;
        while (high - low > 1) {
            int64_t step = (high - low + BLOCK - 1) / BLOCK, probe = low + (threadIdx.x + 1) * step;
            low += step * __syncthreads_count(probe < high && offsets[probe] <= begin);
            high = high < low + step ? high : low + step;
        }
        for (int k = threadIdx.x; k < SPAN; k += BLOCK) out[k] = 0;
        __syncthreads();
        for (int64_t s = low + threadIdx.x; s < segments; s += BLOCK) {
            int64_t first = offsets[s] - begin;
            if (first >= size) break;
            if (first > 0 && offsets[s + 1] - begin > first) out[first] = uint32_t(s - low);
        }
        __syncthreads();
        // A thread's values are read and written four at once: one by one they would share few banks.
        using Side = Pack<uint32_t, 4>;
        Side* side = reinterpret_cast<Side*>(out) + threadIdx.x * (EACH / 4);
        Side own[EACH / 4];
        uint32_t most = 0;
#pragma unroll
        for (int k = 0; k < EACH; ++k) {
            if (k % 4 == 0) own[k / 4] = side[k / 4];
            own[k / 4].at[k % 4] = most = max(most, own[k / 4].at[k % 4]);
        }
        uint32_t before = block_maximum<BLOCK>(most);
#pragma unroll
        for (int k = 0; k < EACH; ++k) {
            own[k / 4].at[k % 4] = max(before, own[k / 4].at[k % 4]);
            if (k % 4 == 3) side[k / 4] = own[k / 4];
        }
        __syncthreads();
        return low;
    }
};

struct Carry {
    using Value = uint32_t;
    int32_t* segments;

    __device__ Value value(uint32_t, uint32_t segment) const { return segment; }
    __device__ void operator()(uint32_t place, Value segment) const { segments[place] = int32_t(segment); }
};

template <typename W> struct CarryWeights {
    using Value = uint2;  // segment, bits of the weight
    int32_t* segments;
    const W* weights;
    W* carried;

    __device__ Value value(uint32_t i, uint32_t segment) const { return make_uint2(segment, __ldg(weights + i)); }
    __device__ void operator()(uint32_t place, Value value) const {
        segments[place] = int32_t(value.x);
        carried[place] = W(value.y);
    }
};

// From so many values a distinct id on some are hot, whose buckets are large, and past so many buckets runs are
// too short to be gathered well: a radix sort is faster.
constexpr int64_t HOT = 4;

bool groups(const Arg* a) {
    int64_t n = a[0].n0, distinct = a[3].i;
    if (n >= HOT * distinct && n > grouping::CAP) return false;
    if (!grouping::possible(n, distinct) || a[1].n0 - 1 >= int64_t(1) << 31) return false;
    return grouping::Work(nullptr, n, distinct, 0).buckets <= grouping::MASKED_BUCKETS;
}

grouping::Work work_of(const Arg* a, void* scratch) {
    return grouping::Work(scratch, a[0].n0, a[3].i, sizeof(grouping::Tagged));
}

int64_t run_group(const Arg* a, void* scratch, cudaStream_t stream) {
    auto run = [&](auto out) {
        WITH_INDEX(a[0], I, {
            grouping::group<grouping::Tagged>(tensor<const I>(a[0]), work_of(a, scratch), tensor<int32_t>(a[4]),
                                              SegmentOf{Index(a[1]), a[1].n0 - 1}, out, stream);
        })
        return int64_t(cudaGetLastError());
    };
    auto* segments = tensor<int32_t>(a[5]);
    if (!a[2].data) return run(Carry{segments});
    if (item_size(a[2].dtype) == 4)
        return run(CarryWeights<uint32_t>{segments, tensor<const uint32_t>(a[2]), tensor<uint32_t>(a[6])});
    return run(CarryWeights<uint16_t>{segments, tensor<const uint16_t>(a[2]), tensor<uint16_t>(a[6])});
}

// A value that is marked: its segment and the bits of its weight lie at its number.
constexpr uint32_t MARK = 1u << 31;

// Bits of the weight 1.
inline uint32_t one_of(int dtype) { return dtype == FLOAT32 ? 0x3f800000u : dtype == FLOAT16 ? 0x3c00u : 0x3f80u; }

// The payload that travels. In 8 bytes the segment with the weight's bits above it, or alone. In 4 the segment,
// as most weights are 1; the number of a value with another weight, marked, whose segment and weight are in `apart`.
template <typename V>
__global__ void __launch_bounds__(grouping::BLOCK)
    payload(SegmentOf segment_of, const void* weights, int width, uint32_t one, int64_t n, V* out, uint2* apart) {
    constexpr int SPAN = grouping::SPAN;
    alignas(16) __shared__ uint32_t tags[SPAN];
    int64_t begin = int64_t(blockIdx.x) * SPAN;
    int size = int(n - begin < SPAN ? n - begin : SPAN);
    int64_t first = segment_of(begin, size, tags);
    for (int k = threadIdx.x; k < size; k += grouping::BLOCK) {
        uint32_t bits = width == 4 ? static_cast<const uint32_t*>(weights)[begin + k]
                        : width == 2 ? static_cast<const uint16_t*>(weights)[begin + k]
                                     : one;
        V value = V(first + tags[k]);
        if (sizeof(V) == 8 && width) value |= V(uint64_t(bits) << 32);
        if (sizeof(V) == 4 && bits != one) {
            apart[begin + k] = make_uint2(uint32_t(value), bits);
            value = V(MARK | uint32_t(begin + k));
        }
        out[begin + k] = value;
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

// Segments and weights of sorted payloads of 4 bytes, which lie where the segments are to be.
__global__ void look_up(const uint2* apart, uint32_t one, int64_t n, int width, uint32_t* segments, void* weights) {
    int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
    if (i >= n) return;
    uint32_t v = segments[i], bits = one;
    if (v & MARK) {
        uint2 own = __ldg(apart + (v & ~MARK));
        segments[i] = own.x;
        bits = own.y;
    }
    if (width == 4) static_cast<uint32_t*>(weights)[i] = bits;
    else static_cast<uint16_t*>(weights)[i] = uint16_t(bits);
}

// `beside`, of weighted values: sorted payloads of 8 bytes, or what 4 are too few for.
template <typename K, typename V> struct Layout {
    int64_t keys, values, beside, total;

    Layout(int64_t n, int bits, bool weighted) {
        keys = padded(sort_scratch<K, V>(n, bits));
        values = keys + padded(n * sizeof(K));
        beside = values + padded(n * sizeof(V));
        total = beside + (weighted ? padded(n * 8) : 0);
    }
};

// args: inverse, offsets, weights, distinct; starts, segments, carried.
template <typename K, typename V> int64_t run(const Arg* a, void* scratch, cudaStream_t stream) {
    int64_t n = a[0].n0, segments = a[1].n0 - 1, distinct = a[3].i;
    int bits = bits_of(distinct), width = a[2].data ? int(item_size(a[2].dtype)) : 0;
    uint32_t one = one_of(a[2].dtype);
    bool zipped = width && sizeof(V) == 8;
    Layout<K, V> at(n, bits, width);
    char* base = static_cast<char*>(scratch);
    K* keys = reinterpret_cast<K*>(base + at.keys);
    V* values = reinterpret_cast<V*>(base + at.values);
    V* sorted = zipped ? reinterpret_cast<V*>(base + at.beside) : static_cast<V*>(a[5].data);
    auto* apart = reinterpret_cast<uint2*>(base + at.beside);
    size_t bytes = at.keys;
    if (n) {
        SegmentOf segment_of{Index(a[1]), segments};
        payload<V><<<blocks_for(n, grouping::SPAN), grouping::BLOCK, 0, stream>>>(segment_of, a[2].data, width, one, n,
                                                                                  values, apart);
        cub::DeviceRadixSort::SortPairs(scratch, bytes, static_cast<const K*>(a[0].data), keys, values, sorted, n,
                                        0, bits, stream);
        if (zipped)
            unzip<<<blocks_for(n), THREADS, 0, stream>>>(reinterpret_cast<const uint64_t*>(sorted), n, width,
                                                        static_cast<uint32_t*>(a[5].data), a[6].data);
        else if (width)
            look_up<<<blocks_for(n), THREADS, 0, stream>>>(apart, one, n, width, static_cast<uint32_t*>(a[5].data),
                                                          a[6].data);
    }
    if (a[4].dtype == INT32)
        mark_starts<<<blocks_for(n + 1), THREADS, 0, stream>>>(keys, n, distinct, tensor<int32_t>(a[4]));
    else
        mark_starts<<<blocks_for(n + 1), THREADS, 0, stream>>>(keys, n, distinct, tensor<int64_t>(a[4]));
    return cudaGetLastError();
}

// More than 2^31 segments with weights would need a 96-bit payload; segments of a tile are told apart by
// 32 bits.
template <typename F> int64_t choose(const Arg* a, F f) {
    bool wide_key = a[0].dtype == INT64, wide_segment = a[1].n0 - 1 >= int64_t(1) << 31;
    if ((a[2].data && wide_segment) || (a[1].n0 - 1) >> 32) return -1;
    bool wide_value = wide_segment || (a[2].data && a[0].n0 >> 31);
    if (wide_key && wide_value) return f(uint64_t{}, uint64_t{});
    if (wide_key) return f(uint64_t{}, uint32_t{});
    if (wide_value) return f(uint32_t{}, uint64_t{});
    return f(uint32_t{}, uint32_t{});
}

EXPORT int64_t ids_transpose_scratch(const Arg* a, void*, cudaStream_t) {
    if (groups(a)) return work_of(a, nullptr).bytes;
    return choose(a, [&](auto k, auto v) {
        return Layout<decltype(k), decltype(v)>(a[0].n0, bits_of(a[3].i), a[2].data).total + 256;
    });
}

EXPORT int64_t ids_transpose(const Arg* a, void* scratch, cudaStream_t stream) {
    if (groups(a)) return run_group(a, scratch, stream);
    return choose(a, [&](auto k, auto v) { return run<decltype(k), decltype(v)>(a, scratch, stream); });
}
