// Long segments, cut into pieces of which each is summed by a warp: what waits for memory is then a warp,
// not a block, and a warp that is done takes the next piece of its block's range.
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
// AHEAD rows before the rows are; of plain sums fewer, whose registers leave room for the blocks of the
// short segments, which start while this kernel looks for long ones and mostly finds none.
template <typename T, typename I, int N>
__device__ __forceinline__ Sum<N> sum_rows(const Segments<T, I>& s, int64_t begin, int64_t end, int64_t column,
                                           int width_bits) {
    using K = typename Position<I>::type;
    constexpr int AHEAD = Position<I>::PLAIN ? 2 : 4;
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

// `many` rows of sums, the i-th at row_of(i), added up by a warp.
template <int N, typename RowOf>
__device__ Sum<N> sum_partial(const Pieces& pieces, int64_t many, int64_t column, int64_t dim, int width_bits,
                              RowOf row_of) {
    constexpr int AHEAD = 4;
    int parts = 32 >> width_bits;
    Sum<N> sum;
    for (int64_t p0 = threadIdx.x % 32 >> width_bits; p0 < many && column < dim; p0 += AHEAD * parts) {
        Pack<float, N> own[AHEAD] = {};
        float weight[AHEAD] = {};
#pragma unroll
        for (int j = 0; j < AHEAD; ++j) {
            if (p0 + j * parts >= many) break;
            const float* at = row_of(p0 + j * parts);
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

// Writes sums by columns, `of(column)`, into the row at `at`.
template <int N, typename Of>
__device__ void store_partial(const Pieces& pieces, float* at, int64_t dim, int width_bits, Of of) {
    int lane = threadIdx.x % 32, width = 1 << width_bits;
    for (int64_t base = 0; base < dim; base += int64_t(width) * N) {
        int64_t column = base + int64_t(lane & (width - 1)) * N;
        Sum<N> sum = of(column);
        if (lane >= width) continue;
        for (int e = 0; e < N && column < dim; ++e) __stcg(at + column + e, sum.at[e]);
        if (base == 0 && lane == 0) __stcg(at + pieces.stride - 1, sum.weight);
    }
}

// The last segment whose values begin at `at` or before, found by a warp.
template <typename O> __device__ int64_t segment_at(O offsets, int64_t count, int64_t at) {
    int64_t low = 0, high = count;
    while (high - low > 1) {
        int64_t step = (high - low + 32) / 33, probe = low + step * (threadIdx.x % 32 + 1);
        int before = __popc(__ballot_sync(~0u, probe < high && offsets[probe] <= at));
        if (low + step * (before + 1) < high) high = low + step * (before + 1);
        low += step * before;
    }
    return low;
}

// Parts of long segments in a block's range, cut into pieces; those of a part follow one another.
struct Tasks {
    static constexpr int MOST = Pieces::MOST_RANGE / (Pieces::MEDIUM + 1) + 3;
    int count, next;
    int64_t leaving;
    int64_t owner[MOST];
    uint16_t first[MOST], begin[MOST], end[MOST];  // first piece of the part; where the part lies in the range
    int done[MOST];                                // of the first piece: how many of the part are summed
    bool came[MOST], leaves[MOST];
};

// Puts the parts of long segments among values [base, last) into `tasks`. By the block.
template <typename T, typename I>
__device__ void find_parts(const Segments<T, I>& s, const Pieces& pieces, int64_t base, int64_t last, Tasks& tasks) {
    constexpr int EACH = 8;  // segments a thread looks at, side by side
    __shared__ int64_t ends[2];
    int warp = threadIdx.x / 32;
    if (warp < 2) ends[warp] = segment_at(s.offsets, s.count, warp ? last - 1 : base);
    if (threadIdx.x == 64) tasks.count = tasks.next = 0, tasks.leaving = -1;
    __syncthreads();
    using K = typename Position<I>::type;
    for (int64_t from = ends[0]; from <= ends[1]; from += EACH * THREADS) {
        K begin[EACH], end[EACH];
#pragma unroll
        for (int j = 0; j < EACH; ++j) {
            int64_t at = from + j * THREADS + threadIdx.x;
            begin[j] = at <= ends[1] ? K(s.offsets[at]) : K(0);
            end[j] = at <= ends[1] ? K(s.offsets[at + 1]) : K(0);
        }
#pragma unroll
        for (int j = 0; j < EACH; ++j) {
            if (end[j] - begin[j] <= pieces.longest) continue;
            int64_t at = from + j * THREADS + threadIdx.x;
            bool came = begin[j] < base, leaves = end[j] > last;
            int part = came ? 0 : int(begin[j] - base), stop = int((leaves ? last : end[j]) - base);
            int many = int(Pieces::up(stop - part, pieces.size)), task = atomicAdd(&tasks.count, many);
            if (leaves && !came) tasks.leaving = at;
            tasks.done[task] = 0;
            for (int i = task, first = task; i < first + many; ++i) {
                tasks.owner[i] = at, tasks.first[i] = uint16_t(first);
                tasks.begin[i] = uint16_t(part), tasks.end[i] = uint16_t(stop);
                tasks.came[i] = came, tasks.leaves[i] = leaves;
            }
        }
    }
    __syncthreads();
}

// A warp's piece of a part. Whoever completes a segment calls take(owner, of), where of(column) is the
// segment's Sum of a lane's columns; both by all lanes of a warp.
template <typename T, typename I, int N, typename Take>
__device__ void sum_piece(const Segments<T, I>& s, const Pieces& pieces, int64_t base, Tasks& tasks, int task,
                          int width_bits, Take take) {
    int first = tasks.first[task], piece = task - first;
    int64_t part = base + tasks.begin[task], stop = base + tasks.end[task], many = Pieces::up(stop - part, pieces.size);
    int64_t begin = part + piece * pieces.size, end = begin + pieces.size < stop ? begin + pieces.size : stop;
    bool came = tasks.came[task], whole = !came && !tasks.leaves[task];
    float* edge = pieces.edges + (blockIdx.x * int64_t(2) + !came) * pieces.stride;
    auto give = [&](auto of) {
        if (whole) take(tasks.owner[task], of);
        else store_partial<N>(pieces, edge, s.dim, width_bits, of);
    };
    auto own = [&](int64_t column) { return sum_rows<T, I, N>(s, begin, end, column, width_bits); };
    if (many == 1) return give(own);
    float* rows = pieces.partial + Pieces::up(part, pieces.apart) * pieces.stride;
    store_partial<N>(pieces, rows + piece * pieces.stride, s.dim, width_bits, own);
    __threadfence();
    __syncwarp();
    int before = threadIdx.x % 32 == 0 ? atomicAdd(&tasks.done[first], 1) : 0;
    if (__shfl_sync(~0u, before, 0) != many - 1) return;
    __threadfence();
    give([&](int64_t column) {
        return sum_partial<N>(pieces, many, column, s.dim, width_bits,
                              [&](int64_t i) { return rows + i * pieces.stride; });
    });
}

template <typename T, typename I, int N, typename Take>
__device__ void sum_long(const Segments<T, I>& s, const Pieces& pieces, int width_bits, Take take) {
    __shared__ Tasks tasks;
    let_next_start();
    int64_t base = blockIdx.x * pieces.range, last = base + pieces.range < s.total ? base + pieces.range : s.total;
    find_parts(s, pieces, base, last, tasks);
    if (threadIdx.x == 0) pieces.leaving[blockIdx.x] = tasks.leaving;
    while (tasks.count) {
        int task = threadIdx.x % 32 == 0 ? atomicAdd(&tasks.next, 1) : 0;
        task = __shfl_sync(~0u, task, 0);
        if (task >= tasks.count) break;
        sum_piece<T, I, N>(s, pieces, base, tasks, task, width_bits, take);
    }
}

// In the kernel after it, a warp a range: adds up the long segment that begins there and goes on behind.
template <typename T, typename I, int N, typename Take>
__device__ void join_ranges(const Segments<T, I>& s, const Pieces& pieces, int width_bits, Take take) {
    wait_for_previous();
    int64_t r = (int64_t(blockIdx.x) * THREADS + threadIdx.x) / 32;
    int64_t owner = r < pieces.ranges ? __ldcg(pieces.leaving + r) : -1;
    if (owner < 0) return;
    int64_t many = (int64_t(s.offsets[owner + 1]) - 1) / pieces.range - r + 1;
    take(owner, [&](int64_t column) {
        return sum_partial<N>(pieces, many, column, s.dim, width_bits, [&](int64_t i) {
            return pieces.edges + (i ? 2 * (r + i) : 2 * r + 1) * pieces.stride;
        });
    });
}

// What is done with the sum of a long segment: written.
template <typename T, typename I, int N> struct Written {
    const Segments<T, I>& s;
    int width_bits;

    template <typename Of> __device__ void operator()(int64_t segment, Of of) const {
        int lane = threadIdx.x % 32, width = 1 << width_bits;
        for (int64_t base = 0; base < s.dim; base += int64_t(width) * N) {
            int64_t column = base + int64_t(lane & (width - 1)) * N;
            Sum<N> sum = of(column);
            if (lane < width && column < s.dim) finish<T, I, N>(s, segment, column, sum);
        }
    }
};

template <typename T, typename I, int N>
__global__ void __launch_bounds__(THREADS, Position<I>::PLAIN ? 6 : N < 8 ? 4 : 2)
    long_segments(Segments<T, I> s, Pieces pieces, int width_bits) {
    sum_long<T, I, N>(s, pieces, width_bits, Written<T, I, N>{s, width_bits});
}

template <int N, typename T, typename I>
void launch_long(const Segments<T, I>& s, const Pieces& pieces, int width, cudaStream_t stream) {
    long_segments<T, I, N><<<unsigned(pieces.ranges), THREADS, 0, stream>>>(s, pieces, width);
}

template <typename T, typename I, int N>
__device__ __forceinline__ void join(const Segments<T, I>& s, const Pieces& pieces, int width_bits) {
    join_ranges<T, I, N>(s, pieces, width_bits, Written<T, I, N>{s, width_bits});
}

// The kernel of the short segments, on `grid` blocks and those that join.
template <typename... P, typename... A>
void launch_short(void (*kernel)(P...), const Pieces& pieces, unsigned grid, int shared, cudaStream_t stream, A... args) {
    if (pieces.any()) launch_after(kernel, pieces.joins() + grid, THREADS, shared, stream, args...);
    else kernel<<<grid, THREADS, shared, stream>>>(args...);
}
