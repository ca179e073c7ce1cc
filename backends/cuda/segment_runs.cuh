// Runs of short segments, a warp each: the warp reads offsets, then its index side by side into shared
// memory, so that what is waited for at every row is the row alone. Included by segment.cuh.
#pragma once

// What a warp has read of its values that lie in short segments, in order.
template <typename I> struct Staged {
    using K = typename Position<I>::type;
    static constexpr bool WEIGHTED = !Position<I>::PLAIN;
    K* rows;
    float* weights;       // absent where sums are plain
    uint32_t* places;     // [segments + 1] where each one's values begin

    static __host__ __device__ int bytes(int capacity) {
        return (capacity * int(sizeof(K) + (WEIGHTED ? 4 : 0)) + 33 * 4 + 15) / 16 * 16;
    }

    __device__ Staged(void* shared, int capacity) {
        char* at = static_cast<char*>(shared) + threadIdx.x / 32 * bytes(capacity);
        rows = reinterpret_cast<K*>(at);
        weights = reinterpret_cast<float*>(rows + capacity);
        places = reinterpret_cast<uint32_t*>(weights + (WEIGHTED ? capacity : 0));
    }
};

// Segments first + [from, to) of the warp by one group of lanes: their values lie side by side, so AHEAD
// of them are in flight whatever their lengths. Those in `alone` are summed elsewhere.
template <typename T, typename I, int N, int AHEAD>
__device__ __forceinline__ void sum_staged(const Segments<T, I>& s, const Staged<I>& staged, int64_t first, int from,
                                           int to, unsigned alone, int64_t column) {
    using K = typename Position<I>::type;
    Sum<N> sum;
    int at = from;
    uint32_t last = staged.places[to], end = staged.places[from + 1];
    auto close = [&] {
        if (!(alone >> at & 1)) finish<T, I, N>(s, first + at, column, sum);
        sum = Sum<N>();
        ++at;
    };
    for (uint32_t k = staged.places[from]; k < last; k += AHEAD) {
        K row[AHEAD];
        Pack<T, N> value[AHEAD];
#pragma unroll
        for (int j = 0; j < AHEAD; ++j) row[j] = k + j < last ? staged.rows[k + j] : K(-1);
#pragma unroll
        for (int j = 0; j < AHEAD; ++j)
            if (row[j] >= 0) value[j] = fetch<T, I, N>(s, row[j], column);
#pragma unroll
        for (int j = 0; j < AHEAD; ++j) {
            if (row[j] < 0) break;
            while (k + j >= end) {
                close();
                end = staged.places[at + 1];
            }
            if constexpr (Position<I>::PLAIN) {
#pragma unroll
                for (int e = 0; e < N; ++e) sum.at[e] += widen(value[j].at[e]);
            } else {
                float w = staged.weights[k + j];
                sum.weight += w;
#pragma unroll
                for (int e = 0; e < N; ++e) sum.at[e] += w * widen(value[j].at[e]);
            }
        }
    }
    while (at < to) close();
}

// A warp takes 1 << segments_bits segments, at least one for each of its groups of lanes.
template <typename T, typename I, int N, int AHEAD>
__global__ void __launch_bounds__(THREADS, Position<I>::PLAIN ? 5 : 4)
    staged_runs(Segments<T, I> s, Pieces pieces, int width_bits, int segments_bits, int capacity) {
    using K = typename Position<I>::type;
    extern __shared__ int64_t shared[];
    if (blockIdx.x < pieces.joins()) return join<T, I, N>(s, pieces, width_bits);
    Staged<I> staged(shared, capacity);
    int lane = threadIdx.x % 32, many = 1 << segments_bits;
    int64_t first = (int64_t(blockIdx.x - pieces.joins()) * THREADS + threadIdx.x) / 32 << segments_bits;
    int64_t segment = first + (lane < many ? lane : many);
    bool mine = lane < many && segment < s.count;
    int64_t begin = segment < s.count ? int64_t(s.offsets[segment]) : s.total;
    int64_t end = mine ? int64_t(s.offsets[segment + 1]) : begin;
    if (first >= s.count) return;
    uint32_t length = uint32_t(end - begin);
    unsigned alone = __ballot_sync(~0u, end - begin > pieces.longest);
    uint32_t place = alone >> lane & 1 ? 0 : length, own = place;
    for (int step = 1; step < 32; step *= 2) {
        uint32_t left = __shfl_up_sync(~0u, place, step);
        if (lane >= step) place += left;
    }
    uint32_t total = __shfl_sync(~0u, place, 31);
    place -= own;
    if (lane <= many) staged.places[lane] = place;
    if (lane == 31 && many == 32) staged.places[32] = total;
    K begins = K(__shfl_sync(~0u, begin, 0));
    for (uint32_t k0 = 0; k0 < total; k0 += 32) {
        uint32_t k = k0 + lane;
        K value = begins + K(k);
        for (unsigned left = alone; left; left &= left - 1) {
            int l = __ffs(int(left)) - 1;
            uint32_t before = __shfl_sync(~0u, place, l);
            K skipped = K(__shfl_sync(~0u, end - begin, l));
            if (k >= before) value += skipped;
        }
        if (k >= total) continue;
        K row = s.index[value];
        staged.rows[k] = row;
        if constexpr (!Position<I>::PLAIN) {
            float w = s.weights.data ? s.weights[value] : 1.f;
            if (s.factor) w *= __ldg(s.factor + row);
            staged.weights[k] = w;
        }
    }
    __syncwarp();
    int groups = 32 >> width_bits, each = many / groups, from = (lane >> width_bits) * each;
    int there = s.count - first < many ? int(s.count - first) : many, to = from + each < there ? from + each : there;
    if (from >= to) return;
    for (int64_t column = int64_t(lane & ((1 << width_bits) - 1)) * N; column < s.dim; column += int64_t(N) << width_bits)
        sum_staged<T, I, N, AHEAD>(s, staged, first, from, to, alone, column);
}

// As many segments a warp as leave enough warps to fill the chip and their values room.
template <int N, int AHEAD, typename T, typename I>
void launch_staged(const Segments<T, I>& s, const Pieces& pieces, int width, cudaStream_t stream) {
    constexpr int WARPS = THREADS / 32, FULL = 132 * 32, ROOM = 36 << 10;
    using S = Staged<I>;
    int bits = 5, least = 5 - width;
    while (bits > least && (s.count >> bits < FULL || S::bytes(int(pieces.longest) << bits) * WARPS > ROOM)) --bits;
    int capacity = int(pieces.longest) << bits, bytes = S::bytes(capacity) * WARPS;
    if (bytes > 48 << 10)
        cudaFuncSetAttribute(staged_runs<T, I, N, AHEAD>, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes);
    unsigned grid = blocks_for(ceil_div(s.count, int64_t(1) << bits) * 32);
    launch_short(staged_runs<T, I, N, AHEAD>, pieces, grid, bytes, stream, s, pieces, width, bits, capacity);
}

#include "segment_narrow.cuh"

// Narrow rows found through a table of their own gain nothing by what is staged.
template <int N, int AHEAD, typename T, typename I>
void launch_run(const Segments<T, I>& s, const Pieces& pieces, int width, cudaStream_t stream) {
    if constexpr (Position<I>::PLAIN) {
        if (width < 3) return launch_narrow<N>(s, pieces, width, stream);
    }
    if constexpr (!Position<I>::OF_VALUES) {
        if (width < 3) {
            unsigned grid = blocks_for(ceil_div(s.count, RUN) << width);
            launch_short(runs_of_segments<T, I, N, AHEAD>, pieces, grid, 0, stream, s, pieces, width);
            return;
        }
    }
    launch_staged<N, AHEAD>(s, pieces, width, stream);
}

template <typename T, typename I> constexpr bool is_plain(const Segments<T, I>&) { return Position<I>::PLAIN; }

// Calls launch(s), or, of sums without weights, launch(s) of segments that have none to look up.
template <typename T, typename I, typename Launch> void as_plain(const Segments<T, I>& s, Launch launch) {
    if constexpr (std::is_same<T, float>::value && std::is_same<I, const int*>::value) {
        if (!s.weights.data && !s.factor && !s.scale) {
            launch(Segments<T, Unweighted>{s.values,  s.out,   Unweighted{s.index}, s.offsets, s.weights, nullptr,
                                           nullptr,   s.count, s.dim,               s.total,   s.once});
            return;
        }
    }
    launch(s);
}
