// ids_partition: dedupe in shared memory, twice; no sort, no atomic on device memory per value.
//
// 1. `collapse` takes a tile of values, drops most of its duplicates through a small table in shared
//    memory (a hot id leaves a tile about once) and writes what is left, grouped by bucket of the
//    hash, into the tile's own stretch of `elements`; `offsets` says where each bucket's run starts.
// 2. `number_buckets` gathers a bucket's runs from all tiles, dedupes them exactly in shared memory
//    and numbers the distinct pairs of its owner in the order in which buckets get so far: one waits for
//    the owners before at most. Neighbouring buckets run at the same time and read neighbouring runs, so that device
//    memory sees whole lines.
// 3. `read_back` gives every value the number of the element that speaks for it in its tile.
//
// No probe leaves shared memory, where one hash table over all values would make each a random access
// to device memory. A bucket too large for shared memory (ids chosen to collide) takes a table in
// device memory. Order inside an owner's run varies from call to call.
#include "partition_buckets.cuh"
#include "partition_tiles.cuh"

template <int SPAN, typename I>
__global__ void __launch_bounds__(SPAN / tile_each(SPAN)) read_back(Work work, Shape shape, int64_t n, I* inverse) {
    constexpr int EACH = tile_each(SPAN), BLOCK = SPAN / EACH;
    __shared__ uint32_t numbers[SPAN];
    wait_for_previous();
    int64_t begin = int64_t(blockIdx.x) * SPAN;
    int size = int(n - begin < SPAN ? n - begin : SPAN);
    int count = work.offsets[int64_t(blockIdx.x) * (shape.buckets() + 1) + shape.buckets()];
#pragma unroll 8
    for (int k = threadIdx.x; k < count; k += BLOCK) numbers[k] = __ldcs(work.numbers + begin + k) & ~DONE;
    __syncthreads();
#pragma unroll 8
    for (int k = threadIdx.x; k < size; k += BLOCK)
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
    WITH_INDEX(a[8], I, {
        launch_after(read_back<SPAN, I>, shape.tiles, SPAN / tile_each(SPAN), 0, stream, work, shape, p.n,
                     tensor<I>(a[8]));
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
