// Long segments: a warp sums one that gives each of its lanes ROWS at the most, else a block each piece.
// Included by segment.cuh.
#pragma once

// Sums over the warps of a block, in order: `own` of the first `many` lanes of each, N + 1 values a lane.
template <int N> struct Warps {
    float at[THREADS / 32][32 * N + 1];

    // Value c of the N * many + 1, the last one the weight.
    __device__ float total(int c) const {
        float sum = 0;
#pragma unroll
        for (int w = 0; w < THREADS / 32; ++w) sum += at[w][c];
        return sum;
    }
};

// Rows begin to end of one segment summed by the block into partial [dim + 1].
template <typename T, typename I, int N>
__device__ void sum_piece(const Segments<T, I>& s, int64_t begin, int64_t end, int width_bits, float* partial) {
    __shared__ Warps<N> warps;
    int width = 1 << width_bits, parts = THREADS >> width_bits;
    int part = threadIdx.x >> width_bits, lane = threadIdx.x & (width - 1);
    for (int64_t base = 0; base < s.dim; base += int64_t(width) * N) {
        int64_t column = base + int64_t(lane) * N;
        Sum<N> sum;
        if (column < s.dim) accumulate<T, I, N, 4>(s, begin + part, end, parts, column, sum);
        for (int step = width; step < 32; step *= 2) {
#pragma unroll
            for (int e = 0; e < N; ++e) sum.at[e] += __shfl_xor_sync(~0u, sum.at[e], step);
            sum.weight += __shfl_xor_sync(~0u, sum.weight, step);
        }
        __syncthreads();
        float* own = warps.at[threadIdx.x / 32];
        if (threadIdx.x % 32 < unsigned(width))
            for (int e = 0; e < N; ++e) own[lane * N + e] = sum.at[e];
        if (threadIdx.x % 32 == 0) own[width * N] = sum.weight;
        __syncthreads();
        for (int c = threadIdx.x; c <= width * N; c += THREADS) {
            if (c < width * N && base + c < s.dim) __stcg(partial + base + c, warps.total(c));
            if (c == width * N && base == 0) __stcg(partial + s.dim, warps.total(c));
        }
    }
}

// Rows of `partial` added up in order into the first: threads side by side take columns, groups of such
// threads the rows in turn.
__device__ inline void add_pieces(float* partial, int pieces, int64_t columns) {
    constexpr int AHEAD = 8;
    __shared__ float of_part[THREADS];
    int side = 1;
    while (side < columns && side < THREADS) side *= 2;
    int parts = THREADS / side, part = threadIdx.x / side;
    for (int64_t base = 0; base < columns; base += side) {
        int64_t column = base + threadIdx.x % side;
        float sum = 0;
        for (int p0 = part; p0 < pieces && column < columns; p0 += AHEAD * parts) {
            float own[AHEAD];
#pragma unroll
            for (int j = 0; j < AHEAD; ++j)
                own[j] = p0 + j * parts < pieces ? __ldcg(partial + int64_t(p0 + j * parts) * columns + column) : 0.f;
#pragma unroll
            for (int j = 0; j < AHEAD; ++j) sum += own[j];
        }
        of_part[threadIdx.x] = sum;
        __syncthreads();
        if (part == 0 && column < columns) {
            for (int p = 1; p < parts; ++p) sum += of_part[p * side + threadIdx.x];
            __stcg(partial + column, sum);
        }
        __syncthreads();
    }
}

constexpr int ROWS = 32;

template <typename T, typename I, int N>
__device__ void sum_by_warp(const Segments<T, I>& s, int64_t segment, int width_bits) {
    int width = 1 << width_bits, lane = threadIdx.x % 32, part = lane >> width_bits;
    int64_t begin = s.offsets[segment], end = s.offsets[segment + 1];
    for (int64_t base = 0; base < s.dim; base += int64_t(width) * N) {
        int64_t column = base + int64_t(lane & (width - 1)) * N;
        Sum<N> sum;
        if (column < s.dim) accumulate<T, I, N, 4>(s, begin + part, end, 32 >> width_bits, column, sum);
        for (int step = width; step < 32; step *= 2) {
#pragma unroll
            for (int e = 0; e < N; ++e) sum.at[e] += __shfl_xor_sync(~0u, sum.at[e], step);
            sum.weight += __shfl_xor_sync(~0u, sum.weight, step);
        }
        if (part == 0 && column < s.dim) finish<T, I, N>(s, segment, column, sum);
    }
}

// One block a piece; the block that completes a segment hands its sums, [dim] and Σw in device memory,
// to `take(segment, sums)`. Segments of up to `few` rows are left to `small(segment)`, called by a warp.
template <typename T, typename I, int N, typename Take, typename Small>
__device__ void sum_long(const Segments<T, I>& s, const Pieces& pieces, int width_bits, Take take, int few,
                         Small small) {
    __shared__ int64_t found[THREADS], lone[THREADS];
    __shared__ int count, lone_count;
    __shared__ bool last;
    wait_for_previous();
    for (int64_t base = blockIdx.x; base < pieces.slots; base += int64_t(THREADS) * gridDim.x) {
        int64_t own = base + int64_t(threadIdx.x) * gridDim.x;
        bool used = own < pieces.slots && pieces.segment[own] >= 0;
        if (!__syncthreads_or(used)) continue;
        if (threadIdx.x == 0) count = lone_count = 0;
        __syncthreads();
        if (used) {
            int64_t segment = pieces.segment[own];
            if (s.offsets[segment + 1] - s.offsets[segment] > few) found[atomicAdd(&count, 1)] = own;
            else lone[atomicAdd(&lone_count, 1)] = segment;
        }
        __syncthreads();
        for (int task = threadIdx.x / 32; task < lone_count; task += THREADS / 32) small(lone[task]);
        for (int task = 0; task < count; ++task) {
            int64_t slot = found[task], segment = pieces.segment[slot], columns = s.dim + 1;
            int64_t start = s.offsets[segment], stop = s.offsets[segment + 1];
            int64_t piece = slot - Pieces::up(start, MEDIUM), first = Pieces::up(start, Pieces::APART);
            int64_t begin = start + piece * PIECE, end = begin + PIECE < stop ? begin + PIECE : stop;
            int many = Pieces::count(start, stop);
            float* sums = pieces.partial + (many > 1 ? first + piece : pieces.rows + blockIdx.x) * columns;
            sum_piece<T, I, N>(s, begin, end, width_bits, sums);
            __syncthreads();
            if (many > 1) {
                __threadfence();
                __syncthreads();
                if (threadIdx.x == 0) last = atomicAdd(pieces.done + first, 1) == many - 1;
                __syncthreads();
                if (!last) continue;
                __threadfence();
                sums = pieces.partial + first * columns;
                add_pieces(sums, many, columns);
            }
            take(segment, sums);
            __syncthreads();
        }
    }
}

template <typename T, typename I, int N>
__global__ void __launch_bounds__(THREADS, N < 8 ? 4 : 2) long_segments(Segments<T, I> s, Pieces pieces, int width_bits) {
    sum_long<T, I, N>(s, pieces, width_bits, [&](int64_t segment, const float* sums) {
        for (int64_t column = threadIdx.x; column < s.dim; column += THREADS) {
            Sum<1> sum;
            sum.at[0] = __ldcg(sums + column);
            sum.weight = __ldcg(sums + s.dim);
            finish<T, I, 1>(s, segment, column, sum);
        }
    }, ROWS << (5 - width_bits), [&](int64_t segment) { sum_by_warp<T, I, N>(s, segment, width_bits); });
}
