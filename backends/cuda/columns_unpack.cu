// columns_unpack: tiles of all pieces, and zeros where no piece comes, in one launch.
#include "arg.cuh"
#include "block_scan.cuh"

struct Piece {
    int64_t start, count, source, target, to, base;
};

enum Target { IDS, VALUES, OCTETS, BOUNDS };

struct Outputs {
    int64_t* ids;
    float* values;
    uint8_t* octets;
    void* bounds;
    bool wide;  // bounds are int64
    int64_t sizes[4];
};

__device__ inline int64_t width_of(int64_t source) {
    return source < 2 ? 1 : source < 4 || source == 8 ? 2 : source < 6 || source == 9 ? 4 : 8;
}

// A thread has EACH accesses in flight; bytes are copied four at a time.
constexpr int EACH = 8, TILE = EACH * THREADS;

__device__ inline int64_t tile_of(const Piece& piece) { return piece.target == OCTETS ? 4 * TILE : TILE; }

// This thread's elements of type S, all loaded before the first is stored; `from` is its first one, `left`
// how many there are from it on, of which every THREADS-th is its own.
template <typename S, typename F> __device__ void for_each(const uint8_t* from, int left, F put) {
    auto source = reinterpret_cast<const S*>(from) + threadIdx.x;
    S x[EACH];
#pragma unroll
    for (int k = 0; k < EACH; ++k)
        x[k] = k * THREADS < left ? __ldcs(source + k * THREADS) : S(0);
#pragma unroll
    for (int k = 0; k < EACH; ++k)
        if (k * THREADS < left) put(k * THREADS, x[k]);
}

template <typename F> __device__ void for_each_integer(const uint8_t* from, int64_t source, int left, F put) {
    switch (source) {
    case 0: return for_each<signed char>(from, left, put);
    case 1: return for_each<unsigned char>(from, left, put);
    case 2: return for_each<short>(from, left, put);
    case 3: return for_each<unsigned short>(from, left, put);
    case 4: return for_each<int>(from, left, put);
    case 5: return for_each<unsigned>(from, left, put);
    default: return for_each<long long>(from, left, put);
    }
}

template <typename F> __device__ void for_each_number(const uint8_t* from, int64_t source, int left, F put) {
    switch (source) {
    case 7: return for_each<unsigned long long>(from, left, put);
    case 8: return for_each<__half>(from, left, [=](int i, __half x) { put(i, __half2float(x)); });
    case 9: return for_each<float>(from, left, put);
    case 10: return for_each<double>(from, left, put);
    default: return for_each_integer(from, source, left, put);
    }
}

// `from` is a multiple of four, `to` any address: words of the target are joined of two of the source.
__device__ void copy_octets(const uint8_t* from, int count, uint8_t* to) {
    int head = int(-reinterpret_cast<uintptr_t>(to) & 3), words = max((count - head - 4) / 4, 0);
    int left = words - int(threadIdx.x);
    auto source = reinterpret_cast<const uint32_t*>(from) + threadIdx.x;
    auto target = reinterpret_cast<uint32_t*>(to + head) + threadIdx.x;
    uint32_t word[EACH];
#pragma unroll
    for (int k = 0; k < EACH; ++k)
        word[k] = k * THREADS < left
                      ? __funnelshift_r(source[k * THREADS], source[k * THREADS + 1], 8 * head)
                      : 0;
#pragma unroll
    for (int k = 0; k < EACH; ++k)
        if (k * THREADS < left) target[k * THREADS] = word[k];
    if (int(threadIdx.x) < head && int(threadIdx.x) < count) to[threadIdx.x] = from[threadIdx.x];
    for (int i = head + 4 * words + threadIdx.x; i < count; i += THREADS) to[i] = from[i];
}

__device__ int64_t first_bound(const uint8_t* from, int64_t source) {
    switch (source) {
    case 0: return *reinterpret_cast<const signed char*>(from);
    case 1: return *from;
    case 2: return *reinterpret_cast<const short*>(from);
    case 3: return *reinterpret_cast<const unsigned short*>(from);
    case 4: return *reinterpret_cast<const int*>(from);
    case 5: return *reinterpret_cast<const unsigned*>(from);
    default: return *reinterpret_cast<const long long*>(from);
    }
}

__device__ void unpack_tile(const uint8_t* buffer, const Piece& piece, int64_t tile, const Outputs& out) {
    int64_t at = tile * tile_of(piece), to = piece.to + at + threadIdx.x;
    int count = int(min(piece.count - at, tile_of(piece))), left = count - int(threadIdx.x);
    const uint8_t* from = buffer + piece.start + at * width_of(piece.source);
    if (piece.target == IDS) {
        int64_t* ids = out.ids + to;
        for_each_integer(from, piece.source, left, [=](int i, int64_t x) { __stcs(ids + i, x); });
    } else if (piece.target == VALUES) {
        float* values = out.values + to;
        for_each_number(from, piece.source, left, [=](int i, auto x) { __stcs(values + i, float(x)); });
    } else if (piece.target == OCTETS) {
        copy_octets(from, count, out.octets + piece.to + at);
    } else {
        int64_t shift = piece.base - first_bound(buffer + piece.start, piece.source);
        if (out.wide) {
            int64_t* bounds = static_cast<int64_t*>(out.bounds) + to;
            for_each_integer(from, piece.source, left, [=](int i, int64_t x) { bounds[i] = x + shift; });
        } else {
            int* bounds = static_cast<int*>(out.bounds) + to;
            for_each_integer(from, piece.source, left, [=](int i, int64_t x) { bounds[i] = int(x + shift); });
        }
    }
}

struct Gap {
    int64_t target, begin, end;
};

// What no piece names from the end of piece `which` on, or, where there is no such piece, from the
// beginning of target `which - count`. The next piece in the table mostly says that it is nothing.
__device__ Gap gap_after(const Piece* pieces, int64_t count, int64_t which, const Outputs& out) {
    int64_t target = which < count ? pieces[which].target : which - count;
    int64_t begin = which < count ? pieces[which].to + pieces[which].count : 0, end = out.sizes[target];
    if (begin == end || (which < count && pieces[which].count == 0)) return {0, 0, 0};
    for (int64_t k = threadIdx.x % 32; k < count + threadIdx.x % 32; k += 32) {
        bool covers = false;
        if (k < count) {
            int64_t at = which < count ? which + 1 + k : k;
            Piece next = pieces[at < count ? at : at - count];
            if (next.target == target && next.count) {
                covers = next.to <= begin && begin < next.to + next.count;
                if (next.to > begin && next.to < end) end = next.to;
            }
        }
        if (__any_sync(~0u, covers)) return {0, 0, 0};
    }
    for (int step = 16; step; step /= 2) end = min(end, __shfl_xor_sync(~0u, end, step));
    return {target, begin, end};
}

__device__ void clear(const Gap& gap, const Outputs& out) {
    for (int64_t i = gap.begin + threadIdx.x; i < gap.end; i += THREADS) {
        if (gap.target == IDS) out.ids[i] = 0;
        else if (gap.target == VALUES) out.values[i] = 0;
        else if (gap.target == OCTETS) out.octets[i] = 0;
        else if (out.wide) static_cast<int64_t*>(out.bounds)[i] = 0;
        else static_cast<int*>(out.bounds)[i] = 0;
    }
}

__device__ void clear_gaps(const Piece* pieces, int64_t count, const Outputs& out) {
    constexpr int WARPS = THREADS / 32;
    __shared__ Gap gaps[WARPS];
    for (int64_t first = int64_t(blockIdx.x) * WARPS; first < count + 4; first += int64_t(gridDim.x) * WARPS) {
        int64_t which = first + threadIdx.x / 32;
        Gap gap = which < count + 4 ? gap_after(pieces, count, which, out) : Gap{0, 0, 0};
        if (threadIdx.x % 32 == 0) gaps[threadIdx.x / 32] = gap;
        __syncthreads();
        for (int w = 0; w < WARPS; ++w) clear(gaps[w], out);
        __syncthreads();
    }
}

// Pieces whose tiles are numbered at once.
constexpr int RUN = 4, MOST = RUN * THREADS;

__global__ void __launch_bounds__(THREADS, 5) unpack(const uint8_t* buffer, const Piece* pieces, int64_t count,
                                                     const __grid_constant__ Outputs out) {
    __shared__ uint32_t ends[MOST];
    for (int64_t first = 0; first < count; first += MOST) {
        uint32_t own[RUN], sum = 0, total;
        for (int k = 0; k < RUN; ++k) {
            int64_t which = first + threadIdx.x * RUN + k;
            if (which < count) {
                uint32_t tile = uint32_t(tile_of(pieces[which]));
                sum += uint32_t((pieces[which].count + tile - 1) / tile);
            }
            own[k] = sum;
        }
        uint32_t before = block_scan<THREADS>(sum, &total);
        for (int k = 0; k < RUN; ++k) ends[threadIdx.x * RUN + k] = before + own[k];
        __syncthreads();
        for (uint32_t tile = blockIdx.x; tile < total; tile += gridDim.x) {
            int which = 0;
            for (int step = MOST / 2; step; step /= 2)
                if (ends[which + step - 1] <= tile) which += step;
            unpack_tile(buffer, pieces[first + which], tile - (which ? ends[which - 1] : 0), out);
        }
        __syncthreads();
    }
    clear_gaps(pieces, count, out);
}

EXPORT int64_t columns_unpack(const Arg* a, void*, cudaStream_t stream) {
    Outputs out{tensor<int64_t>(a[6]), tensor<float>(a[7]), tensor<uint8_t>(a[8]), a[9].data, a[9].dtype == INT64,
                {a[6].n0, a[7].n0, a[8].n0, a[9].n0}};
    int device = 0, processors = 1;
    cudaGetDevice(&device);
    cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, device);
    int64_t largest = a[0].n0 + a[6].n0 + a[7].n0 + a[8].n0 + a[9].n0;
    // Four times as many blocks as are resident: pieces differ in what a tile of them costs.
    int64_t filling = 20 * processors;
    if (largest == 0) return cudaGetLastError();
    int64_t needed = ceil_div(largest, TILE) + a[1].n0;
    unpack<<<unsigned(needed < filling ? needed : filling), THREADS, 0, stream>>>(
        tensor<const uint8_t>(a[0]), tensor<const Piece>(a[1]), a[1].n0, out);
    return cudaGetLastError();
}
