// Short segments of narrow rows, plainly summed, a warp a run of them. All rows of the run are under way to
// shared memory at once, side by side, whatever the segments' lengths; from there each segment is
// summed by the lanes of one row, neighbours by neighbours, so that results are written side by side too.
// Included by segment_runs.cuh.
#pragma once

// Copies that do not pass through registers (cp.async).
template <int BYTES> __device__ __forceinline__ void copy_async(void* shared, const void* global) {
#ifdef __CUDA_ARCH__
    auto to = unsigned(__cvta_generic_to_shared(shared));
    if constexpr (BYTES == 16) asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(to), "l"(global) : "memory");
    else asm volatile("cp.async.ca.shared.global [%0], [%1], %2;" ::"r"(to), "l"(global), "n"(BYTES) : "memory");
#else
    for (int i = 0; i < BYTES; ++i) static_cast<char*>(shared)[i] = static_cast<const char*>(global)[i];
#endif
}

__device__ __forceinline__ void wait_for_copies() {
#ifdef __CUDA_ARCH__
    asm volatile("cp.async.wait_all;" ::: "memory");
#endif
}

// `many` segments from `first` on, one a lane, and where their values lie. Those of long ones are left out:
// `place` counts the others.
struct NarrowRun {
    int begin, length, place, begins, total;
    unsigned alone;  // lanes of long segments

    __device__ __forceinline__ NarrowRun(const Segments<float, Unweighted>& s, int64_t longest, int64_t first, int many) {
        int lane = threadIdx.x % 32;
        int64_t segment = first + (lane < many ? lane : many);
        begin = segment < s.count ? s.offsets[segment] : int(s.total);
        int end = lane < many && segment < s.count ? s.offsets[segment + 1] : begin;
        length = end - begin;
        begins = __shfl_sync(~0u, begin, 0);
        place = begin - begins;
        total = __shfl_sync(~0u, end, 31) - begins;
        alone = __ballot_sync(~0u, length > int(longest));
        if (!alone) return;
        int own = is_alone(lane) ? 0 : length, sum = own;
        for (int step = 1; step < 32; step *= 2) {
            int left = __shfl_up_sync(~0u, sum, step);
            if (lane >= step) sum += left;
        }
        total = __shfl_sync(~0u, sum, 31);
        place = sum - own;
    }

    __device__ __forceinline__ bool is_alone(int lane) const { return alone >> lane & 1; }

    // Where the k-th value of short segments is among all values.
    __device__ __forceinline__ int value(int k) const {
        int at = begins + k;
        for (unsigned left = alone; left; left &= left - 1) {
            int l = __ffs(int(left)) - 1;
            int before = __shfl_sync(~0u, place, l), skipped = __shfl_sync(~0u, length, l);
            if (k >= before) at += skipped;
        }
        return at;
    }
};

// A row has 1 << W vectors of N elements, a lane each; a group of lanes sums B segments. The run's rows are
// brought ROWS32 * 32 at a time. Shared memory holds six blocks of the widest rows.
template <int N, int W, int B, int ROWS32>
__global__ void __launch_bounds__(THREADS, W == 2 ? 6 : 8) narrow_runs(Segments<float, Unweighted> s, Pieces pieces) {
    constexpr int WIDTH = 1 << W, GROUPS = 32 >> W, MANY = B * GROUPS, ROOM = ROWS32 * 32;
    __shared__ Pack<float, N> tiles[THREADS / 32][ROOM * WIDTH];
    if (blockIdx.x < pieces.joins()) return join<float, Unweighted, N>(s, pieces, W);
    int lane = threadIdx.x % 32, column = (lane & (WIDTH - 1)) * N, group = lane >> W;
    int64_t first = (int64_t(blockIdx.x - pieces.joins()) * THREADS + threadIdx.x) / 32 * MANY;
    if (first >= s.count) return;
    NarrowRun run(s, pieces.longest, first, MANY);
    Pack<float, N>* tile = tiles[threadIdx.x / 32] + (lane & (WIDTH - 1));
    const float* values = s.values + column;
    int dim = int(s.dim);
    Sum<N> sum[B];
    for (int base = 0; base < run.total; base += ROOM) {
        int here = run.total - base, row[ROWS32];
#pragma unroll
        for (int c = 0; c < ROWS32; ++c) {
            if (c * 32 >= here) break;
            int k = base + c * 32 + lane, at = run.value(k);
            row[c] = k < run.total ? __ldcs(s.index.index + at) : -1;
        }
#pragma unroll
        for (int c = 0; c < ROWS32; ++c) {
            if (c * 32 >= here) break;
#pragma unroll
            for (int i = 0; i < WIDTH; ++i) {
                int of = __shfl_sync(~0u, row[c], i * GROUPS + group), to = c * 32 + i * GROUPS + group;
                if (of >= 0 && column < dim) copy_async<N * 4>(tile + to * WIDTH, values + int64_t(of) * dim);
            }
        }
        wait_for_copies();
        __syncwarp();
#pragma unroll
        for (int b = 0; b < B; ++b) {
            int l = b * GROUPS + group, from = __shfl_sync(~0u, run.place, l) - base;
            int last = min(from + __shfl_sync(~0u, run.is_alone(lane) ? 0 : run.length, l), ROOM);
#pragma unroll 2
            for (int k = max(from, 0); k < last; ++k) {
#pragma unroll
                for (int e = 0; e < N; ++e) sum[b].at[e] += tile[k * WIDTH].at[e];
            }
        }
        __syncwarp();
    }
    if (column >= dim) return;
#pragma unroll
    for (int b = 0; b < B; ++b) {
        int l = b * GROUPS + group;
        if (first + l < s.count && !run.is_alone(l)) finish<float, Unweighted, N>(s, first + l, column, sum[b]);
    }
}

// Sixteen segments a warp, of rows of one vector as many as it has lanes.
template <int N> void launch_narrow(const Segments<float, Unweighted>& s, const Pieces& pieces, int width,
                                    cudaStream_t stream) {
    auto launch = [&](auto bits) {
        constexpr int W = decltype(bits)::value, B = W == 2 ? 2 : 1, MANY = B * (32 >> W), LEAST = MANY / 8;
        unsigned grid = blocks_for(ceil_div(s.count, MANY) * 32);
        // What the segments have on average, and some.
        if (MANY * s.total <= 24 * LEAST * s.count)
            launch_short(narrow_runs<N, W, B, LEAST>, pieces, grid, 0, stream, s, pieces);
        else
            launch_short(narrow_runs<N, W, B, LEAST + 1>, pieces, grid, 0, stream, s, pieces);
    };
    if (width == 0) launch(std::integral_constant<int, 0>{});
    else if (width == 1) launch(std::integral_constant<int, 1>{});
    else launch(std::integral_constant<int, 2>{});
}
