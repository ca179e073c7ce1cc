// Long segments, cut into pieces of which each is summed by a warp: what waits for memory is then a warp,
// not a block, and a warp that is done takes the next piece of its block.
// Included by segment.cuh.
#pragma once

// `own` of the sub-groups of a warp, added: every lane has the sums of its columns.
template <int N> __device__ __forceinline__ Sum<N> over_parts(Sum<N> own, int width_bits) {
    for (int step = 1 << width_bits; step < 32; step *= 2) {
#pragma unroll
        for (int e = 0; e < N; ++e) own.at[e] += __shfl_xor_sync(~0u, own.at[e], step);
        own.weight += __shfl_xor_sync(~0u, own.weight, step);
    }
    return own;
}

// Rows begin to end of one segment, by a warp; a lane has columns [column, column + N). The index is read
// AHEAD rows before the rows are.
template <typename T, typename I, int N>
__device__ __forceinline__ Sum<N> sum_rows(const Segments<T, I>& s, int64_t begin, int64_t end, int64_t column,
                                           int width_bits) {
    using K = typename Position<I>::type;
    constexpr int AHEAD = 4;
    int step = 32 >> width_bits;
    Sum<N> sum;
    if (column < s.dim) {
        K k = K(begin) + K(threadIdx.x % 32 >> width_bits), last = K(end), row[AHEAD];
#pragma unroll
        for (int j = 0; j < AHEAD; ++j) row[j] = k + j * step < last ? K(s.index[k + j * step]) : K(-1);
        while (k < last) {
            Pack<T, N> value[AHEAD];
            K own[AHEAD];
#pragma unroll
            for (int j = 0; j < AHEAD; ++j)
                if ((own[j] = row[j]) >= 0) value[j] = fetch<T, I, N>(s, row[j], column);
            K at = k;
            k += AHEAD * step;
#pragma unroll
            for (int j = 0; j < AHEAD; ++j) row[j] = k + j * step < last ? K(s.index[k + j * step]) : K(-1);
#pragma unroll
            for (int j = 0; j < AHEAD; ++j)
                if (own[j] >= 0) add<T, I, N>(s, at + j * step, own[j], value[j], sum);
        }
    }
    return over_parts(sum, width_bits);
}

// Sums of pieces in `partial`: rows first, first + step, …, `many` of them, added up by a warp.
template <int N>
__device__ Sum<N> sum_partial(const Pieces& pieces, int64_t first, int64_t many, int step, int64_t column,
                              int64_t dim, int width_bits) {
    constexpr int AHEAD = 4;
    int parts = 32 >> width_bits;
    Sum<N> sum;
    for (int64_t p0 = threadIdx.x % 32 >> width_bits; p0 < many && column < dim; p0 += AHEAD * parts) {
        Pack<float, N> own[AHEAD] = {};
        float weight[AHEAD] = {};
#pragma unroll
        for (int j = 0; j < AHEAD; ++j) {
            if (p0 + j * parts >= many) break;
            const float* at = pieces.partial + (first + (p0 + j * parts) * step) * pieces.stride;
            if constexpr (N == 4) {
                *reinterpret_cast<float4*>(&own[j]) = __ldcg(reinterpret_cast<const float4*>(at + column));
            } else {
                for (int e = 0; e < N; ++e) own[j].at[e] = __ldcg(at + column + e);
            }
            weight[j] = __ldcg(at + pieces.stride - 1);
        }
#pragma unroll
        for (int j = 0; j < AHEAD; ++j) {
#pragma unroll
            for (int e = 0; e < N; ++e) sum.at[e] += own[j].at[e];
            sum.weight += weight[j];
        }
    }
    return over_parts(sum, width_bits);
}

// Writes sums by columns, `of(column)`, into a row of `partial`; then whether the warp is the last of
// `many` that count in `counter`.
template <int N, typename Of>
__device__ bool store_partial(const Pieces& pieces, int64_t row, int64_t dim, int width_bits, Of of, int* counter,
                              int64_t many) {
    int lane = threadIdx.x % 32, width = 1 << width_bits;
    float* at = pieces.partial + row * pieces.stride;
    for (int64_t base = 0; base < dim; base += int64_t(width) * N) {
        int64_t column = base + int64_t(lane & (width - 1)) * N;
        Sum<N> sum = of(column);
        if (lane >= width) continue;
        for (int e = 0; e < N && column < dim; ++e) __stcg(at + column + e, sum.at[e]);
        if (base == 0 && lane == 0) __stcg(at + pieces.stride - 1, sum.weight);
    }
    __threadfence();
    __syncwarp();
    int before = lane == 0 ? atomicAdd(counter, 1) : 0;
    bool last = __shfl_sync(~0u, before, 0) == many - 1;
    __threadfence();
    return last;
}

// A warp's piece of segment `owner`, in `slot`. Whoever completes a segment calls take(owner, of), where
// of(column) is the segment's Sum of a lane's columns; both by all lanes of a warp.
template <typename T, typename I, int N, typename Take>
__device__ void sum_piece(const Segments<T, I>& s, const Pieces& pieces, int64_t slot, int64_t owner, int width_bits,
                          Take take) {
    constexpr int FAN = Pieces::FAN;
    int64_t start = s.offsets[owner], stop = s.offsets[owner + 1], many = pieces.count(start, stop);
    int64_t piece = slot - Pieces::up(start, Pieces::MEDIUM), first = Pieces::up(start, pieces.apart);
    int64_t begin = start + piece * pieces.size, end = begin + pieces.size < stop ? begin + pieces.size : stop;
    auto own = [&](int64_t column) { return sum_rows<T, I, N>(s, begin, end, column, width_bits); };
    if (many == 1) return take(owner, own);
    int64_t group = piece / FAN * FAN, groups = (many + FAN - 1) / FAN, near = many - group < FAN ? many - group : FAN;
    int* done = pieces.done + first;
    if (!store_partial<N>(pieces, first + piece, s.dim, width_bits, own, done + group, near)) return;
    auto added = [&](int64_t from, int64_t count, int step) {
        return [&pieces, &s, width_bits, from, count, step](int64_t column) {
            return sum_partial<N>(pieces, from, count, step, column, s.dim, width_bits);
        };
    };
    auto of_group = added(first + group, near, 1);
    if (groups == 1) return take(owner, of_group);
    if (!store_partial<N>(pieces, first + group, s.dim, width_bits, of_group, done + 1, groups)) return;
    take(owner, added(first, groups, FAN));
}

template <typename T, typename I, int N, typename Take>
__device__ void sum_long(const Segments<T, I>& s, const Pieces& pieces, int width_bits, Take take) {
    using K = typename Position<I>::type;
    constexpr int EACH = 8, TASKS = EACH * THREADS;  // slots a thread looks at, side by side
    __shared__ K owner[TASKS];
    __shared__ uint16_t place[TASKS];
    __shared__ int count, next;
    wait_for_previous();
    for (int64_t base = 0; base < pieces.slots; base += int64_t(TASKS) * gridDim.x) {
        if (threadIdx.x == 0) count = next = 0;
        __syncthreads();
        // Neighbouring pieces, as of a hot row, go to different blocks.
        auto slot_of = [&](int t, int j) { return base + (int64_t(t) * gridDim.x + blockIdx.x) * EACH + j; };
        K found[EACH];
#pragma unroll
        for (int j = 0; j < EACH; ++j) {
            int64_t slot = slot_of(threadIdx.x, j);
            found[j] = slot < pieces.slots ? pieces.owners<K>()[slot] : K(-1);
        }
#pragma unroll
        for (int j = 0; j < EACH; ++j) {
            if (found[j] < 0) continue;
            int task = atomicAdd(&count, 1);
            owner[task] = found[j];
            place[task] = uint16_t(threadIdx.x * EACH + j);
        }
        __syncthreads();
        while (true) {
            int task = threadIdx.x % 32 == 0 ? atomicAdd(&next, 1) : 0;
            task = __shfl_sync(~0u, task, 0);
            if (task >= count) break;
            int64_t slot = slot_of(place[task] / EACH, place[task] % EACH);
            sum_piece<T, I, N>(s, pieces, slot, owner[task], width_bits, take);
        }
        __syncthreads();
    }
}

template <typename T, typename I, int N>
__global__ void __launch_bounds__(THREADS, N < 8 ? 4 : 2)
    long_segments(Segments<T, I> s, Pieces pieces, int width_bits) {
    sum_long<T, I, N>(s, pieces, width_bits, [&](int64_t segment, auto of) {
        int lane = threadIdx.x % 32, width = 1 << width_bits;
        for (int64_t base = 0; base < s.dim; base += int64_t(width) * N) {
            int64_t column = base + int64_t(lane & (width - 1)) * N;
            Sum<N> sum = of(column);
            if (lane < width && column < s.dim) finish<T, I, N>(s, segment, column, sum);
        }
    });
}
