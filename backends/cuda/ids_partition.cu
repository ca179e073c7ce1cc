// ids_partition: dedupe in shared memory, twice; no sort, no atomic on device memory per value.
//
// 1. `collapse` takes a tile of values, drops most of its duplicates through a small table in shared
//    memory (a hot id leaves a tile about once) and writes what is left, grouped by bucket of the
//    hash, into the tile's own stretch of `elements`; `offsets` says where each bucket's run starts.
// 2. `number_buckets` gathers a bucket's runs from all tiles, dedupes them exactly in shared memory
//    and numbers the distinct pairs of its owner in the order in which buckets get so far: none waits
//    for another. Neighbouring buckets run at the same time and read neighbouring runs, so that device
//    memory sees whole lines.
// 3. `read_back` gives every value the number of the element that speaks for it in its tile. Where there
//    are several owners, whose runs begin where those of the owners before end, it adds that, and other
//    blocks of it bring to their places the distinct ids of buckets that were done before this was known.
//
// No probe leaves shared memory, where one hash table over all values would make each a random access
// to device memory. A bucket too large for shared memory (ids chosen to collide) takes a table in
// device memory. Order inside an owner's run varies from call to call.
#include "partition_buckets.cuh"
#include "partition_tiles.cuh"

// Sums of the counts of the owners before, in shared memory.
template <int BLOCK> __device__ void owners_begin(const unsigned long long* counts, int world, uint32_t* begins) {
    uint32_t before = 0;
    for (int w0 = 0; w0 < world; w0 += BLOCK) {
        int w = w0 + threadIdx.x;
        uint32_t total, own = w < world ? uint32_t(counts[w]) : 0, at = block_scan<BLOCK>(own, &total);
        if (w < world) begins[w] = before + at;
        before += total;
    }
    __syncthreads();
}

// Of several owners: shared memory for where their runs begin, and their elements in the tile.
inline int owner_bytes(int world) { return world > 1 ? world * 6 : 0; }

// Four numbers at once, where `to` is aligned to 16 bytes.
__device__ inline void put_four(int32_t* to, const Pack<int32_t, 4>& own) {
    __stcs(reinterpret_cast<int4*>(to), make_int4(own.at[0], own.at[1], own.at[2], own.at[3]));
}
__device__ inline void put_four(int64_t* to, const Pack<int64_t, 4>& own) {
    __stcs(reinterpret_cast<longlong2*>(to), make_longlong2(own.at[0], own.at[1]));
    __stcs(reinterpret_cast<longlong2*>(to) + 1, make_longlong2(own.at[2], own.at[3]));
}

template <int SPAN, bool SEVERAL, typename I>
__global__ void __launch_bounds__(SPAN / tile_each(SPAN))
    read_back(Work work, Shape shape, Distinct out, int64_t n, I* inverse, bool aligned) {
    constexpr int EACH = tile_each(SPAN), BLOCK = SPAN / EACH;
    extern __shared__ uint32_t begins[];  // [world], then uint16 edges [world]
    __shared__ __align__(16) uint32_t numbers[SPAN];
    wait_for_previous();
    int world = shape.world;
    auto* edges = reinterpret_cast<uint16_t*>(begins + world);
    if (SEVERAL) owners_begin<BLOCK>(out.counts, world, begins);
    if (SEVERAL && blockIdx.x >= unsigned(shape.tiles)) {
        int bucket = int(blockIdx.x) - shape.tiles;
        Run run = work.runs[bucket];
        uint32_t first = begins[bucket / shape.per] + run.first;
#pragma unroll 4
        for (uint32_t k = threadIdx.x; k < run.total; k += BLOCK) {
            out.ids[first + k] = __ldcs(work.staged + run.at + k);
            out.tables[first + k] = work.tables ? __ldcs(work.staged_tables + run.at + k) : 0;
        }
        return;
    }
    int64_t begin = int64_t(blockIdx.x) * SPAN;
    int size = int(n - begin < SPAN ? n - begin : SPAN);
    const uint16_t* offsets = work.offsets + int64_t(blockIdx.x) * (shape.buckets() + 1);
    int count = offsets[shape.buckets()];
    if (SEVERAL) {
        for (int w = threadIdx.x; w < world; w += BLOCK) edges[w] = offsets[w * shape.per];
        __syncthreads();
    }
    // The owner whose elements reach over `k`: elements lie owner by owner.
    auto begin_of = [&](int k) {
        int low = 0;
        for (int high = world; high - low > 1;) {
            int middle = (low + high) / 2;
            (edges[middle] <= k ? low : high) = middle;
        }
        return begins[low];
    };
    auto placed = [&](uint32_t own, int k) { return (own & ~DONE) + (SEVERAL ? begin_of(k) : 0); };
    const uint4* from = reinterpret_cast<const uint4*>(work.numbers + begin);
#pragma unroll 4
    for (int k = threadIdx.x; k < count / 4; k += BLOCK) {
        uint4 own = __ldcs(from + k);
        reinterpret_cast<uint4*>(numbers)[k] =
            make_uint4(placed(own.x, 4 * k), placed(own.y, 4 * k + 1), placed(own.z, 4 * k + 2), placed(own.w, 4 * k + 3));
    }
    for (int k = count / 4 * 4 + threadIdx.x; k < count; k += BLOCK)
        numbers[k] = placed(__ldcs(work.numbers + begin + k), k);
    __syncthreads();
    const uint2* places = reinterpret_cast<const uint2*>(work.places + begin);
    int fours = aligned ? size / 4 : 0;
#pragma unroll 4
    for (int k = threadIdx.x; k < fours; k += BLOCK) {
        uint2 four = __ldcs(places + k);
        put_four(inverse + begin + 4 * k, {I(numbers[four.x & 0xFFFF]), I(numbers[four.x >> 16]),
                                           I(numbers[four.y & 0xFFFF]), I(numbers[four.y >> 16])});
    }
    for (int k = 4 * fours + threadIdx.x; k < size; k += BLOCK)
        __stcs(inverse + begin + k, I(numbers[__ldcs(work.places + begin + k)]));
}

// Tiles and buckets large enough that runs are long, small enough that they fill the chip.
template <typename F> int64_t with_sizes(int64_t n, F f) {
    if (n <= 3 << 20) return f(std::integral_constant<int, 4096>{}, std::integral_constant<int, 2048>{});
    if (n <= 8 << 20) return f(std::integral_constant<int, 8192>{}, std::integral_constant<int, 4096>{});
    return f(std::integral_constant<int, 8192>{}, std::integral_constant<int, 8192>{});
}

constexpr int64_t WAVE = 4 * 132;

inline Shape shape_of(int64_t n, int64_t world, int span, int cap) {
    // Four fifths full on average: 10 standard deviations of a uniform hash below the brim.
    int64_t count = ceil_div(n, cap / 5 * 4), most = MOST_BUCKETS / world;
    // Several owners: whole waves of blocks, four a multiprocessor of an H100.
    if (world > 1 && cap == 4096) count = ceil_div(count, WAVE) * WAVE;
    int64_t per = ceil_div(count, world);
    return {int(world), int(per < 1 ? 1 : per < most ? per : most), int(ceil_div(n, span)),
            Owners(int(world))};
}

// args: ids, splits, tables, salts, world; unique_ids, unique_tables, counts, inverse.
EXPORT int64_t ids_partition_scratch(const Arg* a, void*, cudaStream_t) {
    return with_sizes(a[0].n0, [&](auto span, auto cap) {
        return Work(nullptr, a[0].n0, shape_of(a[0].n0, a[4].i, span, cap), a[3].n0 == 1).bytes;
    });
}

template <int SPAN, int CAP, bool ONE>
int64_t run(const Arg* a, const Pairs& p, const Shape& shape, const Work& work, cudaStream_t stream) {
    Distinct out{tensor<int64_t>(a[5]), tensor<int32_t>(a[6]), tensor<unsigned long long>(a[7])};
    int collapse_bytes = (SPAN + shape.buckets()) * 4;
    cudaFuncSetAttribute(collapse<SPAN, ONE>, cudaFuncAttributeMaxDynamicSharedMemorySize, collapse_bytes);
    cudaFuncSetAttribute(number_buckets<SPAN, CAP, ONE>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                         bucket_bytes(CAP));
    collapse<SPAN, ONE><<<shape.tiles, SPAN / tile_each(SPAN), collapse_bytes, stream>>>(p, shape, work);
    launch_after(number_buckets<SPAN, CAP, ONE>, shape.buckets(), CAP / bucket_each(CAP), bucket_bytes(CAP), stream, p,
                 shape, work, out);
    int bytes = owner_bytes(shape.world), blocks = shape.tiles + (shape.world > 1 ? shape.buckets() : 0);
    WITH_INDEX(a[8], I, {
        auto* kernel = shape.world > 1 ? read_back<SPAN, true, I> : read_back<SPAN, false, I>;
        cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes);
        launch_after(kernel, blocks, SPAN / tile_each(SPAN), bytes, stream, work, shape, out, p.n, tensor<I>(a[8]),
                     reinterpret_cast<uintptr_t>(a[8].data) % 16 == 0);
    })
    return cudaGetLastError();
}

EXPORT int64_t ids_partition(const Arg* a, void* scratch, cudaStream_t stream) {
    Pairs p{tensor<const int64_t>(a[0]), Index(a[1]), Index(a[2]), tensor<const int64_t>(a[3]), a[0].n0, a[2].n0};
    int64_t world = a[4].i;
    if (p.n >> 31 || world > MOST_BUCKETS) return cudaErrorInvalidValue;
    if (p.n == 0) return cudaMemsetAsync(a[7].data, 0, world * 8, stream);
    return with_sizes(p.n, [&](auto span, auto cap) {
        Shape shape = shape_of(p.n, world, span, cap);
        Work work(scratch, p.n, shape, a[3].n0 == 1);
        return a[3].n0 == 1 ? run<span, cap, true>(a, p, shape, work, stream)
                            : run<span, cap, false>(a, p, shape, work, stream);
    });
}
