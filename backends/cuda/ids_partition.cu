// ids_partition: dedupe in shared memory, twice; no sort, no atomic on device memory per value.
//
// 1. `collapse` takes a tile of values, drops most of its duplicates through a small table in shared
//    memory (a hot id leaves a tile about once) and writes what is left, grouped by bucket of the
//    hash, into the tile's own stretch of `elements`; `offsets` says where each bucket's run starts.
// 2. `number_buckets` gathers a bucket's runs from all tiles, dedupes them exactly in shared memory
//    and numbers the distinct pairs; buckets lie owner by owner, and a look-back over the buckets
//    before gives the first number (as a single-pass scan does). Neighbouring buckets run at the same
//    time and read neighbouring runs, so that device memory sees whole lines.
// 3. `read_back` gives every value the number of the element that speaks for it in its tile.
//
// No probe leaves shared memory, where one hash table over all values would make each a random access
// to device memory. A bucket too large for shared memory (ids chosen to collide) takes a table in
// device memory. Order inside an owner's run varies from call to call.
#include "block_scan.cuh"
#include "columns.cuh"
#include "hash.cuh"
#include "launch.cuh"
#include "lookback.cuh"

// Values a thread: fewer where a batch is small, so that it still brings enough warps.
BOTH constexpr int tile_each(int span) { return span <= 4096 ? 8 : 16; }
BOTH constexpr int bucket_each(int cap) { return cap <= 2048 ? 8 : 16; }
constexpr int MOST_BUCKETS = 16384, PROBES = 4, BATCH = 4;
constexpr uint32_t EMPTY = ~0u, DONE = 1u << 31, SPEAKS = 1u << 31;

struct Pairs {
    const int64_t* ids;
    Index splits, tables;
    const int64_t* salts;
    int64_t n, columns;
};

struct Shape {
    int world, per;  // owners, buckets of each
    int tiles;
    Owners owners;

    BOTH int buckets() const { return world * per; }
    // Owner from bits 0-15, bucket from 20-39; cells and tags take what is left.
    BOTH int bucket(uint64_t hashed) const {
        return owners.of(hashed) * per + int((hashed >> 20 & 0xFFFFF) * uint64_t(per) >> 20);
    }
};

// Everything between the kernels; in scratch.
struct Work {
    int64_t* elements;    // [n] ids, tile by tile, in a tile by bucket
    int32_t* tables;      // [n] likewise; null with a single table
    uint16_t* offsets;    // [tiles][buckets + 1]
    uint16_t* places;     // [n] where in its tile's stretch a value's speaker lies
    uint32_t* numbers;    // [n] of each element
    Progress* progress;   // [buckets]
    uint32_t* spare;      // [2 n] tables of buckets too large for shared memory
    unsigned long long* spare_used;
    int64_t bytes;

    Work(void* scratch, int64_t n, const Shape& shape, bool one_table) {
        char* at = static_cast<char*>(scratch);
        auto take = [&](int64_t size) { char* p = at; at += (size + 255) / 256 * 256; return p; };
        elements = reinterpret_cast<int64_t*>(take(n * 8));
        tables = reinterpret_cast<int32_t*>(take(one_table ? 0 : n * 4));
        offsets = reinterpret_cast<uint16_t*>(take(int64_t(shape.tiles) * (shape.buckets() + 1) * 2));
        places = reinterpret_cast<uint16_t*>(take(n * 2));
        numbers = reinterpret_cast<uint32_t*>(take(n * 4));
        progress = reinterpret_cast<Progress*>(take(int64_t(shape.buckets()) * 8));
        spare = reinterpret_cast<uint32_t*>(take(n * 8));
        spare_used = reinterpret_cast<unsigned long long*>(take(8));
        if (one_table) tables = nullptr;
        bytes = at - static_cast<char*>(scratch);
    }
};

template <int SPAN, bool ONE>
__global__ void __launch_bounds__(SPAN / tile_each(SPAN), 1024 * tile_each(SPAN) / SPAN)
    collapse(Pairs p, Shape shape, Work work, unsigned long long* counts) {
    constexpr int EACH = tile_each(SPAN), BLOCK = SPAN / EACH;
    extern __shared__ uint32_t shared[];
    uint32_t *cells = shared, *runs = shared + SPAN;  // [SPAN], [buckets]
    __shared__ int64_t first;
    let_next_start();
    int buckets = shape.buckets(), size = int(p.n - int64_t(blockIdx.x) * SPAN < SPAN ? p.n % SPAN : SPAN);
    int64_t begin = int64_t(blockIdx.x) * SPAN;
    // What the next kernel counts in starts at zero.
    for (int b = blockIdx.x * BLOCK + threadIdx.x; b < buckets; b += gridDim.x * BLOCK) {
        work.progress[b] = 0;
        if (b < shape.world) counts[b] = 0;
        if (b == 0) *work.spare_used = 0;
    }
    if (!ONE && threadIdx.x == 0) first = column_of(p.splits, p.columns, begin);
    for (int c = threadIdx.x; c < SPAN; c += BLOCK) cells[c] = EMPTY;
    for (int b = threadIdx.x; b < buckets; b += BLOCK) runs[b] = 0;
    __syncthreads();
    int64_t column = ONE ? 0 : first, salt = __ldg(p.salts);
    // While probing: SPEAKS, or the position of a value with the same tag. Then, for speakers,
    // SPEAKS | bucket << 13 | rank in the run.
    uint32_t state[EACH];
    auto load = [&](int k0, int64_t* ids) {
#pragma unroll
        for (int k = 0; k < BATCH; ++k) {
            int local = threadIdx.x + (k0 + k) * BLOCK;
            if (local < size) ids[k] = __ldg(p.ids + begin + local);
        }
    };
    auto table_of = [&](int local) {
        if (ONE) return 0;
        column = walk(p.splits, column, begin + local);
        int32_t table = int32_t(p.tables[column]);
        salt = __ldg(p.salts + table);
        return table;
    };
#pragma unroll
    for (int k0 = 0; k0 < EACH; k0 += BATCH) {
        int64_t ids[BATCH];
        load(k0, ids);
#pragma unroll
        for (int k = 0; k < BATCH; ++k) {
            int local = threadIdx.x + (k0 + k) * BLOCK;
            if (local >= size) continue;
            table_of(local);
            uint64_t hashed = pair_hash(salt, ids[k]);
            unsigned at = unsigned(hashed >> 44) & (SPAN - 1);
            uint32_t tag = uint32_t(hashed) << 13;
            state[k0 + k] = SPEAKS;
            // A pair that finds no cell in PROBES speaks for itself: dropping duplicates here only
            // spares work later.
            for (int probe = 0; probe < PROBES; ++probe) {
                uint32_t found = *(volatile uint32_t*)(cells + at);
                if (found == EMPTY) {
                    found = atomicCAS(cells + at, EMPTY, tag | local);
                    if (found == EMPTY) break;
                }
                if ((found ^ tag) >> 13 == 0) {
                    state[k0 + k] = found & 8191;
                    break;
                }
                at = (at + 1) & (SPAN - 1);
            }
        }
    }
    __syncthreads();
    // Ids are compared now, many at once: a comparison inside the loop above would keep its warp
    // waiting for memory each time. A value whose tag misled it speaks for itself.
    if (!ONE) column = first;
#pragma unroll
    for (int k0 = 0; k0 < EACH; k0 += BATCH) {
        int64_t ids[BATCH], others[BATCH];
        load(k0, ids);
#pragma unroll
        for (int k = 0; k < BATCH; ++k) {
            int local = threadIdx.x + (k0 + k) * BLOCK;
            others[k] = ids[k];
            if (local < size && !(state[k0 + k] & SPEAKS)) others[k] = __ldg(p.ids + begin + state[k0 + k]);
        }
#pragma unroll
        for (int k = 0; k < BATCH; ++k) {
            int local = threadIdx.x + (k0 + k) * BLOCK;
            if (local >= size) continue;
            int32_t table = table_of(local);
            bool same = others[k] == ids[k];
            if (!ONE && same && !(state[k0 + k] & SPEAKS)) {
                int64_t i = begin + state[k0 + k];
                bool near = i >= p.splits[column] && i < p.splits[column + 1];
                same = near || int32_t(p.tables[column_of(p.splits, p.columns, i)]) == table;
            }
            if (same && !(state[k0 + k] & SPEAKS)) continue;
            int bucket = shape.bucket(pair_hash(salt, ids[k]));
            state[k0 + k] = SPEAKS | uint32_t(bucket) << 13 | atomicAdd(runs + bucket, 1u);
        }
    }
    __syncthreads();
    // Lengths of the runs to their starts; a thread has consecutive buckets.
    int each = (buckets + BLOCK - 1) / BLOCK, low = threadIdx.x * each;
    uint32_t own = 0, total;
    for (int b = low; b < low + each && b < buckets; ++b) own += runs[b];
    uint32_t at = block_scan<BLOCK>(own, &total);
    for (int b = low; b < low + each && b < buckets; ++b) {
        uint32_t length = runs[b];
        runs[b] = at;
        at += length;
    }
    auto* place_of = reinterpret_cast<uint16_t*>(cells);  // by position; the cells are done with
    __syncthreads();
    uint16_t* offsets = work.offsets + int64_t(blockIdx.x) * (buckets + 1);
    for (int b = threadIdx.x; b <= buckets; b += BLOCK) offsets[b] = uint16_t(b < buckets ? runs[b] : total);
    if (!ONE) column = first;
#pragma unroll
    for (int k0 = 0; k0 < EACH; k0 += BATCH) {
        int64_t ids[BATCH];
        load(k0, ids);
#pragma unroll
        for (int k = 0; k < BATCH; ++k) {
            int local = threadIdx.x + (k0 + k) * BLOCK;
            uint32_t own = state[k0 + k];
            if (local >= size || !(own & SPEAKS)) continue;
            uint32_t place = runs[(own & ~SPEAKS) >> 13] + (own & 8191);
            place_of[local] = uint16_t(place);
            work.elements[begin + place] = ids[k];
            if (!ONE) work.tables[begin + place] = table_of(local);
        }
    }
    __syncthreads();
#pragma unroll
    for (int k = 0; k < EACH; ++k) {
        int local = threadIdx.x + k * BLOCK;
        if (local < size)
            work.places[begin + local] = place_of[state[k] & SPEAKS ? uint32_t(local) : state[k]];
    }
}

// Calls `body(place)` for the elements of the bucket in this thread's tiles.
template <int SPAN, typename F>
__device__ void each_place(const Work& work, const Shape& shape, int bucket, int from, int to, F body) {
    for (int tile = from; tile < to; ++tile) {
        const uint16_t* offsets = work.offsets + int64_t(tile) * (shape.buckets() + 1) + bucket;
        uint32_t start = __ldg(offsets), end = __ldg(offsets + 1);
        for (uint32_t k = start; k < end; ++k) body(uint32_t(tile) * SPAN + k);
    }
}

// Number of a bucket's first pair; its `total` pairs are counted. A single owner's buckets come in any
// order, so that none waits for another; those of several must lie owner by owner.
__device__ inline uint32_t first_number(const Shape& shape, const Work& work, int bucket, uint32_t total,
                                        unsigned long long* counts) {
    __shared__ uint32_t first;
    if (threadIdx.x == 0) first = uint32_t(atomicAdd(counts + bucket / shape.per, (unsigned long long)total));
    if (shape.world > 1) return look_back(work.progress, bucket, total);
    __syncthreads();
    return first;
}

// A bucket too large for shared memory. `numbers` holds an element's cell, then DONE | its number.
template <int SPAN, int BLOCK, bool ONE>
__device__ void number_large(const Pairs& p, const Shape& shape, const Work& work, int bucket, uint32_t count,
                             int from, int to, int64_t* unique_ids, int32_t* unique_tables,
                             unsigned long long* counts) {
    __shared__ unsigned long long taken;
    uint32_t size = count < 1u << 30 ? 2 * count : DONE - 1, total;
    if (threadIdx.x == 0) taken = atomicAdd(work.spare_used, (unsigned long long)size);
    __syncthreads();
    uint32_t *cells = work.spare + taken, mine = 0;
    for (uint32_t c = threadIdx.x; c < size; c += BLOCK) __stcg(cells + c, EMPTY);
    __syncthreads();
    each_place<SPAN>(work, shape, bucket, from, to, [&](uint32_t place) {
        int64_t id = work.elements[place];
        int32_t table = ONE ? 0 : work.tables[place];
        uint64_t hashed = pair_hash(__ldg(p.salts + table), id);
        uint32_t at = uint32_t((hashed >> 32) * uint64_t(size) >> 32);
        while (true) {
            uint32_t found = __ldcg(cells + at);
            if (found == EMPTY) found = atomicCAS(cells + at, EMPTY, place);
            if (found == EMPTY) ++mine;
            if (found == EMPTY || (work.elements[found] == id && (ONE || work.tables[found] == table))) break;
            at = at + 1 == size ? 0 : at + 1;
        }
        __stcg(work.numbers + place, at);
    });
    uint32_t next = block_scan<BLOCK>(mine, &total);
    next += first_number(shape, work, bucket, total, counts);
    each_place<SPAN>(work, shape, bucket, from, to, [&](uint32_t place) {
        if (__ldcg(cells + __ldcg(work.numbers + place)) != place) return;
        unique_ids[next] = work.elements[place];
        unique_tables[next] = ONE ? 0 : work.tables[place];
        __stcg(work.numbers + place, DONE | next++);
    });
    __syncthreads();
    each_place<SPAN>(work, shape, bucket, from, to, [&](uint32_t place) {
        uint32_t cell = __ldcg(work.numbers + place);
        if (!(cell & DONE)) __stcg(work.numbers + place, __ldcg(work.numbers + __ldcg(cells + cell)));
    });
}

// Needs CAP * 14 bytes of shared memory.
template <int SPAN, int CAP, bool ONE>
__global__ void __launch_bounds__(CAP / bucket_each(CAP), CAP == 2048 ? 5 : 1024 / (CAP / bucket_each(CAP)))
    number_buckets(Pairs p, Shape shape, Work work, int64_t* unique_ids, int32_t* unique_tables,
                   unsigned long long* counts) {
    constexpr int EACH = bucket_each(CAP), BLOCK = CAP / EACH, CELLS = 2 * CAP, WARPS = BLOCK / 32;
    extern __shared__ uint32_t shared[];
    uint32_t *cells = shared, *places = shared + CELLS;              // [CELLS], [CAP]
    auto* cell_of = reinterpret_cast<uint16_t*>(places + CAP);       // [CAP]
    __shared__ uint32_t speakers[WARPS];
    wait_for_previous();
    let_next_start();
    int bucket = blockIdx.x, each = (shape.tiles + BLOCK - 1) / BLOCK;
    int from = min(int(threadIdx.x) * each, shape.tiles), to = min(from + each, shape.tiles);
    uint32_t mine = 0, count;
    for (int tile = from; tile < to; ++tile) {
        const uint16_t* offsets = work.offsets + int64_t(tile) * (shape.buckets() + 1) + bucket;
        mine += uint32_t(__ldg(offsets + 1)) - __ldg(offsets);
    }
    for (int c = threadIdx.x; c < CELLS / 4; c += BLOCK)
        reinterpret_cast<uint4*>(cells)[c] = make_uint4(EMPTY, EMPTY, EMPTY, EMPTY);
    uint32_t at = block_scan<BLOCK>(mine, &count);
    if (count >= CAP) {  // position CAP - 1 below a tag of ones would look EMPTY
        number_large<SPAN, BLOCK, ONE>(p, shape, work, bucket, count, from, to, unique_ids, unique_tables, counts);
        return;
    }
    each_place<SPAN>(work, shape, bucket, from, to, [&](uint32_t place) { places[at++] = place; });
    __syncthreads();
    int64_t salt = __ldg(p.salts);
    uint32_t warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    // Equal tags count as equal pairs at first and are checked after, many at once; the few buckets
    // where a tag misleads (one in some hundred) are done again, comparing at once.
    uint32_t speaks, before;
    for (bool exact = false;; exact = true) {
#pragma unroll 1
        for (uint32_t e0 = threadIdx.x; e0 < count; e0 += 4 * BLOCK) {
            int64_t ids[4];
            int32_t tables[4];
#pragma unroll
            for (int k = 0; k < 4; ++k) {
                uint32_t e = e0 + k * BLOCK;
                if (e >= count) break;
                ids[k] = work.elements[places[e]];
                if (!ONE) tables[k] = work.tables[places[e]];
            }
#pragma unroll
            for (int k = 0; k < 4; ++k) {
                uint32_t e = e0 + k * BLOCK;
                if (e >= count) break;
                if (!ONE) salt = __ldg(p.salts + tables[k]);
                uint64_t hashed = pair_hash(salt, ids[k]);
                uint32_t cell = uint32_t(hashed >> 40) % CELLS, tag = uint32_t(hashed) << 13;
                while (true) {
                    uint32_t found = *(volatile uint32_t*)(cells + cell);
                    if (found == EMPTY) {
                        found = atomicCAS(cells + cell, EMPTY, tag | e);
                        if (found == EMPTY) break;
                    }
                    if ((found ^ tag) >> 13 == 0) {
                        if (!exact) break;
                        uint32_t other = places[found & 8191];
                        if (work.elements[other] == ids[k] && (ONE || work.tables[other] == tables[k])) break;
                    }
                    cell = (cell + 1) % CELLS;
                }
                cell_of[e] = uint16_t(cell);
            }
        }
        __syncthreads();
        // A warp numbers its speakers in the order of their lanes: consecutive stores.
        speaks = before = 0;
        bool misled = false;
#pragma unroll
        for (int k = 0; k < EACH; ++k) {
            uint32_t e = threadIdx.x + k * BLOCK, speaker = e < count ? cells[cell_of[e]] & 8191 : EMPTY;
            before += __popc(__ballot_sync(~0u, speaker == e));
            if (speaker == e) speaks |= 1u << k;
            if (!exact && e < count && speaker != e) {
                uint32_t own = places[e], other = places[speaker];
                misled |= work.elements[own] != work.elements[other];
                if (!ONE) misled |= work.tables[own] != work.tables[other];
            }
        }
        if (exact || !__syncthreads_or(misled)) break;
        for (int c = threadIdx.x; c < CELLS; c += BLOCK) cells[c] = EMPTY;
        __syncthreads();
    }
    uint32_t total = 0;
    if (lane == 0) speakers[warp] = before;
    __syncthreads();
    before = 0;
    for (int w = 0; w < WARPS; ++w) {
        if (w < int(warp)) before += speakers[w];
        total += speakers[w];
    }
    uint32_t base = first_number(shape, work, bucket, total, counts);
#pragma unroll
    for (int k = 0; k < EACH; ++k) {
        uint32_t e = threadIdx.x + k * BLOCK;
        bool own = speaks >> k & 1;
        unsigned all = __ballot_sync(~0u, own);
        if (own) {
            uint32_t number = base + before + __popc(all & ((1u << lane) - 1)), place = places[e];
            cells[cell_of[e]] = number;
            unique_ids[number] = work.elements[place];
            unique_tables[number] = ONE ? 0 : work.tables[place];
        }
        before += __popc(all);
    }
    __syncthreads();
#pragma unroll 4
    for (uint32_t e = threadIdx.x; e < count; e += BLOCK) work.numbers[places[e]] = cells[cell_of[e]];
}

template <int SPAN, typename I>
__global__ void __launch_bounds__(SPAN / tile_each(SPAN)) read_back(Work work, int buckets, int64_t n, I* inverse) {
    constexpr int EACH = tile_each(SPAN), BLOCK = SPAN / EACH;
    __shared__ uint32_t numbers[SPAN];
    wait_for_previous();
    int64_t begin = int64_t(blockIdx.x) * SPAN;
    int size = int(n - begin < SPAN ? n - begin : SPAN);
    int count = work.offsets[int64_t(blockIdx.x) * (buckets + 1) + buckets];
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

inline Shape shape_of(int64_t n, int64_t world, int span, int cap) {
    // Four fifths full on average: 10 standard deviations of a uniform hash below the brim.
    int64_t per = ceil_div(ceil_div(n, cap / 5 * 4), world), most = MOST_BUCKETS / world;
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
    auto* counts = tensor<unsigned long long>(a[7]);
    int collapse_bytes = (SPAN + shape.buckets()) * 4, bucket_bytes = CAP * 14;
    cudaFuncSetAttribute(collapse<SPAN, ONE>, cudaFuncAttributeMaxDynamicSharedMemorySize, collapse_bytes);
    cudaFuncSetAttribute(number_buckets<SPAN, CAP, ONE>, cudaFuncAttributeMaxDynamicSharedMemorySize, bucket_bytes);
    collapse<SPAN, ONE><<<shape.tiles, SPAN / tile_each(SPAN), collapse_bytes, stream>>>(p, shape, work, counts);
    launch_after(number_buckets<SPAN, CAP, ONE>, shape.buckets(), CAP / bucket_each(CAP), bucket_bytes, stream, p,
                 shape, work, tensor<int64_t>(a[5]), tensor<int32_t>(a[6]), counts);
    WITH_INDEX(a[8], I, {
        launch_after(read_back<SPAN, I>, shape.tiles, SPAN / tile_each(SPAN), 0, stream, work, shape.buckets(), p.n,
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
