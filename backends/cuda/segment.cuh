// Sums of rows chosen by an index, segment by segment: forward pooling and its gradients alike.
//
// A segment belongs to a group of lanes: `width` lanes hold one row side by side, `parts` such
// sub-groups take its rows in turn and are added at the end, so that few long segments still
// fill the chip. What is longer than a sub-group should take row by row is left to segment_long.cuh.
// No atomics on values: deterministic.
#pragma once
#include "arg.cuh"
#include "launch.cuh"

// `I` reads index and offsets: `const int*` where both are int32, the common case, else `Index`. An
// index may say itself where rows lie (rows_pool.cu); by the others they are rows of `values`.
template <typename I> struct Position {
    using type = int64_t;
    using Offsets = I;
    static constexpr bool OF_VALUES = true, PLAIN = false;
};
template <> struct Position<const int*> {
    using type = int;
    using Offsets = const int*;
    static constexpr bool OF_VALUES = true, PLAIN = false;
};

// PLAIN: neither weights, factors nor means. Fewer registers leave room for more warps, which is what
// runs of short segments want.
struct Unweighted {
    const int* index;

    __device__ int operator[](int k) const { return __ldg(index + k); }
};
template <> struct Position<Unweighted> {
    using type = int;
    using Offsets = const int*;
    static constexpr bool OF_VALUES = true, PLAIN = true;
};

template <typename T, typename I> struct Segments {
    const T* values;
    T* out;
    I index;
    typename Position<I>::Offsets offsets;
    Floats weights;      // data null: all 1
    const float* factor; // per value row, by index; null: all 1 (mean's gradient)
    float* scale;        // 1 / Σw of each segment, written; null: plain sum
    int64_t count, dim, total;
    bool once;           // results are not to push values out of the cache
};

// Long segments are taken by a kernel that runs first and has nothing from the one of the short segments,
// which only skips them: a block looks through the offsets of a range of the values for parts of long
// segments and cuts them into pieces. A segment that goes on behind a range is added up in the end.
struct Pieces {
    static constexpr int64_t MEDIUM = 8, MOST_RANGE = 4096, RANGES = 512;
    int64_t longest;  // what is longer is cut into pieces
    int64_t size, apart, range, ranges, stride, total;
    int64_t* leaving;  // [ranges] the long segment that begins in the range and goes on behind it, or -1
    float* partial;    // [rows][stride], the last column Σw: sums of pieces, those of a part from its begin / apart on
    float* edges;      // [2 ranges][stride]: at 2 r of what came into range r, at 2 r + 1 of what begins there and goes on

    static int64_t round(int64_t bytes) { return (bytes + 255) / 256 * 256; }
    __host__ __device__ static int64_t up(int64_t begin, int64_t by) { return (begin + by - 1) / by; }

    // Rows of a piece: 32 in turn for each sub-group of a warp, of wide rows some more.
    static int64_t size_of(int64_t dim) {
        int64_t size = 512;
        while (size > 64 && size * dim > 4096) size /= 2;
        return size;
    }

    // As many ranges as blocks find room, but not so short that finding their segments is all there is to do.
    static int64_t range_of(int64_t n) {
        int64_t range = MOST_RANGE;
        while (range > 512 && n < range * RANGES) range /= 2;
        return range;
    }

    static int64_t stride_of(int64_t dim) { return up(dim, 4) * 4 + 4; }

    static int64_t bytes(int64_t n, int64_t dim) {
        int64_t ranges = up(n, range_of(n));
        return round(ranges * 8) + (up(n, size_of(dim) / 2) + 2 * ranges) * stride_of(dim) * 4;
    }

    // At least `longest` rows of a segment are summed where it is met.
    Pieces(void* scratch, int64_t n, int64_t dim, int64_t longest)
        : longest(longest < MEDIUM ? MEDIUM : longest), size(size_of(dim)), apart(size / 2), range(range_of(n)),
          ranges(up(n, range)), stride(stride_of(dim)), total(n), leaving(static_cast<int64_t*>(scratch)) {
        partial = reinterpret_cast<float*>(static_cast<char*>(scratch) + round(ranges * 8));
        edges = partial + up(n, apart) * stride;
    }

    bool any() const { return total > longest; }
    // Blocks of the kernel of the short segments that add up what several ranges have of a long one.
    __host__ __device__ unsigned joins() const { return total > longest ? unsigned(up(ranges, THREADS / 32)) : 0; }
};

template <int N> struct Sum {
    float at[N] = {};
    float weight = 0;
};

// Rows begin, begin + step, … below end of one segment, columns [column, column + N).
template <typename T, typename I, int N>
__device__ __forceinline__ void add(const Segments<T, I>& s, int64_t k, int64_t row, const Pack<T, N>& value,
                                    Sum<N>& sum) {
    if constexpr (Position<I>::PLAIN) {
#pragma unroll
        for (int e = 0; e < N; ++e) sum.at[e] += widen(value.at[e]);
        return;
    }
    float w = s.weights.data ? s.weights[k] : 1.f;
    if (s.factor) w *= __ldg(s.factor + row);
    sum.weight += w;
#pragma unroll
    for (int e = 0; e < N; ++e) sum.at[e] += w * widen(value.at[e]);
}

template <typename T, typename I, int N>
__device__ __forceinline__ Pack<T, N> fetch(const Segments<T, I>& s, int64_t row, int64_t column) {
    if constexpr (Position<I>::OF_VALUES)
        return *reinterpret_cast<const Pack<T, N>*>(s.values + row * s.dim + column);
    else
        return s.index.template fetch<T, N>(row, column);
}

// AHEAD rows in flight while there are as many, then the rest at once.
template <typename T, typename I, int N, int AHEAD>
__device__ __forceinline__ void accumulate(const Segments<T, I>& s, int64_t first, int64_t last, int step,
                                           int64_t column, Sum<N>& sum) {
    // Positions and rows are 32-bit where index and offsets are: half the registers, twice the warps.
    using K = typename Position<I>::type;
    K k = K(first), end = K(last);
    for (; k + (AHEAD - 1) * step < end; k += step * AHEAD) {
        K row[AHEAD];
        Pack<T, N> value[AHEAD];
#pragma unroll
        for (int j = 0; j < AHEAD; ++j) row[j] = s.index[k + j * step];
#pragma unroll
        for (int j = 0; j < AHEAD; ++j) value[j] = fetch<T, I, N>(s, row[j], column);
#pragma unroll
        for (int j = 0; j < AHEAD; ++j) add<T, I, N>(s, k + j * step, row[j], value[j], sum);
    }
    K row[AHEAD - 1];
    Pack<T, N> value[AHEAD - 1];
#pragma unroll
    for (int j = 0; j < AHEAD - 1; ++j) row[j] = k + j * step < end ? K(s.index[k + j * step]) : K(-1);
#pragma unroll
    for (int j = 0; j < AHEAD - 1; ++j)
        if (row[j] >= 0) value[j] = fetch<T, I, N>(s, row[j], column);
#pragma unroll
    for (int j = 0; j < AHEAD - 1; ++j)
        if (row[j] >= 0) add<T, I, N>(s, k + j * step, row[j], value[j], sum);
}

template <typename T, typename I, int N>
__device__ __forceinline__ void finish(const Segments<T, I>& s, int64_t segment, int64_t column,
                                       const Sum<N>& sum) {
    bool mean = !Position<I>::PLAIN && s.scale;
    float scale = 1.f;
    if (mean) {
        scale = sum.weight > 0 ? 1.f / sum.weight : 0.f;
        if (column == 0) s.scale[segment] = scale;
    }
    Pack<T, N> out;
#pragma unroll
    for (int e = 0; e < N; ++e) out.at[e] = narrow<T>(mean && scale == 0 ? 0.f : sum.at[e] * scale);
    auto* at = reinterpret_cast<Pack<T, N>*>(s.out + segment * s.dim + column);
    if constexpr (sizeof(out) == 16) {
        if (s.once) {
            __stcs(reinterpret_cast<uint4*>(at), *reinterpret_cast<uint4*>(&out));
            return;
        }
    }
    *at = out;
}

#include "segment_long.cuh"

// Four consecutive short segments a group of lanes: their values lie side by side, so AHEAD of them
// are in flight whatever their lengths. A segment of two values alone would keep two.
constexpr int RUN = 4;

template <typename T, typename I, int N, int AHEAD>
__device__ void sum_run(const Segments<T, I>& s, int64_t first, int count, int64_t begin, int64_t last,
                        int64_t column) {
    using K = typename Position<I>::type;
    Sum<N> sum;
    int at = 0;
    K end = s.offsets[first + 1];
    for (K k0 = K(begin); k0 < K(last); k0 += AHEAD) {
        K row[AHEAD];
        Pack<T, N> value[AHEAD];
#pragma unroll
        for (int j = 0; j < AHEAD; ++j) row[j] = k0 + j < K(last) ? K(s.index[k0 + j]) : K(-1);
#pragma unroll
        for (int j = 0; j < AHEAD; ++j)
            if (row[j] >= 0) value[j] = fetch<T, I, N>(s, row[j], column);
#pragma unroll
        for (int j = 0; j < AHEAD; ++j) {
            if (row[j] < 0) break;
            while (k0 + j >= end) {
                finish<T, I, N>(s, first + at, column, sum);
                sum = Sum<N>();
                ++at;
                end = s.offsets[first + at + 1];
            }
            add<T, I, N>(s, k0 + j, row[j], value[j], sum);
        }
    }
    for (; at < count; ++at) {
        finish<T, I, N>(s, first + at, column, sum);
        sum = Sum<N>();
    }
}

template <typename T, typename I, int N, int AHEAD>
__global__ void __launch_bounds__(THREADS, Position<I>::PLAIN ? 5 : 4)
    runs_of_segments(Segments<T, I> s, Pieces pieces, int width_bits) {
    if (blockIdx.x < pieces.joins()) return join<T, I, N>(s, pieces, width_bits);
    int64_t first = ((int64_t(blockIdx.x - pieces.joins()) * THREADS + threadIdx.x) >> width_bits) * RUN;
    int width = 1 << width_bits, lane = threadIdx.x & (width - 1);
    int count = s.count - first < RUN ? int(s.count - first) : RUN;
    if (count <= 0) return;
    int64_t begin = s.offsets[first], end = begin;
    bool together = true;
#pragma unroll
    for (int i = 1; i <= RUN; ++i) {
        int64_t next = i <= count ? int64_t(s.offsets[first + i]) : end;
        together = together && next - end <= pieces.longest;
        end = next;
    }
    for (int64_t column = int64_t(lane) * N; column < s.dim; column += int64_t(width) * N) {
        if (together) {
            sum_run<T, I, N, AHEAD>(s, first, count, begin, end, column);
            continue;
        }
        for (int64_t segment = first; segment < first + count; ++segment) {
            int64_t from = s.offsets[segment], to = s.offsets[segment + 1];
            if (to - from <= pieces.longest) sum_run<T, I, N, AHEAD>(s, segment, 1, from, to, column);
        }
    }
}

template <typename T, typename I, int N, int AHEAD>
__global__ void __launch_bounds__(THREADS) short_segments(Segments<T, I> s, Pieces pieces, int width_bits,
                                                          int group_bits) {
    if (blockIdx.x < pieces.joins()) return join<T, I, N>(s, pieces, width_bits);
    int width = 1 << width_bits, group = 1 << group_bits, parts = group >> width_bits;
    int64_t segment = (int64_t(blockIdx.x - pieces.joins()) * blockDim.x + threadIdx.x) >> group_bits;
    if (segment >= s.count) return;
    unsigned members = group == 32 ? ~0u : ((1u << group) - 1) << ((threadIdx.x & 31) & ~(group - 1));
    int lane = threadIdx.x & (group - 1), part = lane >> width_bits;
    int64_t begin = s.offsets[segment], end = s.offsets[segment + 1];
    if (end - begin > pieces.longest) return;  // the whole group, so no shuffle below waits for it
    for (int64_t base = 0; base < s.dim; base += int64_t(width) * N) {
        int64_t column = base + int64_t(lane & (width - 1)) * N;
        Sum<N> sum;
        if (column < s.dim) accumulate<T, I, N, AHEAD>(s, begin + part, end, parts, column, sum);
        for (int step = width; step < group; step *= 2) {
#pragma unroll
            for (int e = 0; e < N; ++e) sum.at[e] += __shfl_xor_sync(members, sum.at[e], step);
            sum.weight += __shfl_xor_sync(members, sum.weight, step);
        }
        if (part == 0 && column < s.dim) finish<T, I, N>(s, segment, column, sum);
    }
}
#include "segment_runs.cuh"

inline int log2_up(int64_t n, int most) {
    int bits = 0;
    while (bits < most && (int64_t(1) << bits) < n) ++bits;
    return bits;
}

// Narrow results written past the cache were measured to be slower, unless there are few of them.
inline bool once(int64_t row, int64_t total, int64_t count) { return row >= 128 || total >= 3 * count; }

// What a sub-group takes row by row: twice the mean, so that few segments of a like length are cut, and
// some; a longer one would keep the others of its warp waiting.
inline int64_t longest_of(int64_t total, int64_t count, int parts_bits) {
    return 2 * (total / count) + 2 + (Pieces::MEDIUM << parts_bits);
}

template <typename T, typename I>
int64_t launch_segments(const Segments<T, I>& s, void* scratch, cudaStream_t stream) {
    auto launch = [&](auto elements) {
        constexpr int N = decltype(elements)::value;
        int width = log2_up((s.dim + N - 1) / N, 5);
        // Enough rows in flight for each lane, but no idle sub-group: about four rows a part.
        int parts = log2_up(s.total / s.count / 4, 5 - width);
        int64_t longest = longest_of(s.total, s.count, parts);
        // Bags lie among positions of tiles, so the mean says less; measured at the sizes of `mse bench`.
        int64_t bag = width == 3 || width == 4 ? 16 : 32;
        if (!Position<I>::OF_VALUES && longest < bag) longest = bag;
        Pieces pieces(scratch, s.total, s.dim, longest);
        bool run = false;
        as_plain(s, [&](auto given) {
            if (pieces.any()) launch_long<N>(given, pieces, width, stream);
            // Narrow rows that have to be looked for gain nothing from runs unless segments are very short.
            run = s.total < (width >= 2 ? 8 : is_plain(given) ? 5 : 3) * s.count;
            if (run) launch_run<N, 16 / (N < 4 ? 4 : N)>(given, pieces, width, stream);
        });
        if (!run) {
            unsigned grid = blocks_for(s.count << (width + parts));
            launch_short(short_segments<T, I, N, 4>, pieces, grid, 0, stream, s, pieces, width, width + parts);
        }
    };
    int elements = access_width(s.dim * int64_t(sizeof(T)), s.values, s.out) / int(sizeof(T));
    if constexpr (sizeof(T) == 2) {
        if (elements >= 8) return launch(std::integral_constant<int, 8>{}), cudaGetLastError();
    }
    if (elements >= 4) launch(std::integral_constant<int, 4>{});
    else if (elements >= 2) launch(std::integral_constant<int, 2>{});
    else launch(std::integral_constant<int, 1>{});
    return cudaGetLastError();
}

// Records in the order values, index, offsets, weights, out; factor and scale as in `Segments`.
// A template, so that only who calls it compiles its kernels.
template <int = 0>
int64_t run_segments(const Arg& values, const Arg& index, const Arg& offsets, const Arg& weights,
                            const Arg& out, const float* factor, float* scale, void* scratch,
                            cudaStream_t stream) {
    int64_t count = offsets.n0 - 1, dim = values.n1;
    if (count == 0 || dim == 0) return 0;
    WITH_VALUES(values.dtype, T, {
        auto run = [&](auto of_values, auto of_segments) {
            Segments<T, decltype(of_values)> s{tensor<T>(values), tensor<T>(out), of_values, of_segments,
                                               Floats(weights),   factor,         scale,     count,
                                               dim,               index.n0,       once(dim * sizeof(T), index.n0, count)};
            return launch_segments(s, scratch, stream);
        };
        if (index.dtype != INT32 || offsets.dtype != INT32) return run(Index(index), Index(offsets));
        return run(tensor<const int>(index), tensor<const int>(offsets));
    })
    return 0;
}
