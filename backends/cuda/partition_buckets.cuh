// Second step of ids_partition: a bucket of all tiles' elements is deduped exactly and numbered.
#pragma once
#include "partition.cuh"

// Calls `body(place)` for the elements of the bucket in this thread's tiles.
template <int SPAN, typename F>
__device__ void each_place(const Work& work, const Shape& shape, int bucket, int from, int to, F body) {
    for (int tile = from; tile < to; ++tile) {
        const uint16_t* offsets = work.offsets + int64_t(tile) * (shape.buckets() + 1) + bucket;
        uint32_t start = __ldg(offsets), end = __ldg(offsets + 1);
        for (uint32_t k = start; k < end; ++k) body(uint32_t(tile) * SPAN + k);
    }
}

// The outputs that hold distinct pairs.
struct Distinct {
    int64_t* ids;
    int32_t* tables;
    unsigned long long* counts;
};

// Where a bucket's distinct pairs go: ids and tables from where these point on; they are numbered from
// `first` on among those of their owner.
struct Target {
    uint32_t first;
    int64_t* ids;
    int32_t* tables;

    template <bool ONE> __device__ void put(uint32_t k, int64_t id, int32_t table) const {
        ids[k] = id;
        if (!ONE || tables) tables[k] = table;
    }
};

// For all threads of the block; `total` pairs are counted. An owner's run begins where those of the owners
// before end: by now most often known, as blocks start in their order. If not, the pairs are staged, which
// is faster than to wait.
template <int BLOCK>
__device__ Target target_of(const Shape& shape, const Work& work, const Distinct& out, int bucket, uint32_t total) {
    __shared__ Run run;
    __shared__ uint32_t begin;
    int owner = bucket / shape.per, ready = 1;
    if (threadIdx.x == 0) {
        unsigned long long before = atomicAdd(work.counted + owner, 1ull << 32 | total);
        run = Run{0, uint32_t(before), total};
        begin = 0;
        if (int(before >> 32) == shape.per - 1) out.counts[owner] = run.first + total;
    }
    __syncthreads();
    for (int w = threadIdx.x; w < owner; w += BLOCK) {
        unsigned long long counted = *(volatile unsigned long long*)(work.counted + w);
        ready &= int(counted >> 32) == shape.per;
        atomicAdd(&begin, uint32_t(counted));
    }
    if (shape.world == 1) return {run.first, out.ids + run.first, out.tables + run.first};
    bool staged = __syncthreads_or(!ready);
    if (threadIdx.x == 0) {
        if (staged) run.at = uint32_t(atomicAdd(work.used + 1, (unsigned long long)total));
        else run.total = 0;
        work.runs[bucket] = run;
    }
    if (!staged) return {run.first, out.ids + begin + run.first, out.tables + begin + run.first};
    __syncthreads();
    return {run.first, work.staged + run.at, work.tables ? work.staged_tables + run.at : nullptr};
}

// A bucket too large for shared memory. `numbers` holds an element's cell, then DONE | its number.
template <int SPAN, int BLOCK, bool ONE>
__device__ void number_large(const Pairs& p, const Shape& shape, const Work& work, int bucket, uint32_t count,
                             int from, int to, const Distinct& out) {
    __shared__ unsigned long long taken;
    uint32_t size = count < 1u << 30 ? 2 * count : DONE - 1, total;
    if (threadIdx.x == 0) taken = atomicAdd(work.used, (unsigned long long)size);
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
    Target target = target_of<BLOCK>(shape, work, out, bucket, total);
    each_place<SPAN>(work, shape, bucket, from, to, [&](uint32_t place) {
        if (__ldcg(cells + __ldcg(work.numbers + place)) != place) return;
        target.put<ONE>(next, work.elements[place], ONE ? 0 : work.tables[place]);
        __stcg(work.numbers + place, DONE | (target.first + next++));
    });
    __syncthreads();
    each_place<SPAN>(work, shape, bucket, from, to, [&](uint32_t place) {
        uint32_t cell = __ldcg(work.numbers + place);
        if (!(cell & DONE)) __stcg(work.numbers + place, __ldcg(work.numbers + __ldcg(cells + cell)));
    });
}

// Values a bucket may have in shared memory: a little less than CAP, with which four blocks of CAP 4096
// would be some bytes too large for a multiprocessor of an H100.
BOTH constexpr int limit(int cap) { return cap - 64; }
BOTH constexpr int bucket_bytes(int cap) { return cap * 8 + limit(cap) * 6; }

template <int SPAN, int CAP, bool ONE>
__global__ void __launch_bounds__(CAP / bucket_each(CAP), CAP == 2048 ? 5 : 1024 / (CAP / bucket_each(CAP)))
    number_buckets(Pairs p, Shape shape, Work work, Distinct out) {
    constexpr int EACH = bucket_each(CAP), BLOCK = CAP / EACH, CELLS = 2 * CAP, WARPS = BLOCK / 32;
    constexpr int PLACE = CAP == 2048 ? 11 : CAP == 4096 ? 12 : 13;  // bits; the rest of a cell is the tag
    extern __shared__ uint32_t shared[];
    uint32_t *cells = shared, *places = shared + CELLS;                // [CELLS], [limit]
    auto* cell_of = reinterpret_cast<uint16_t*>(places + limit(CAP));  // [limit]
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
    if (count > limit(CAP)) {  // position CAP - 1 below a tag of ones would look EMPTY
        number_large<SPAN, BLOCK, ONE>(p, shape, work, bucket, count, from, to, out);
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
                uint32_t cell = uint32_t(hashed >> 40) % CELLS, tag = uint32_t(hashed) << PLACE;
                while (true) {
                    uint32_t found = *(volatile uint32_t*)(cells + cell);
                    if (found == EMPTY) {
                        found = atomicCAS(cells + cell, EMPTY, tag | e);
                        if (found == EMPTY) break;
                    }
                    if ((found ^ tag) >> PLACE == 0) {
                        if (!exact) break;
                        uint32_t other = places[found & (CAP - 1)];
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
            uint32_t e = threadIdx.x + k * BLOCK, speaker = e < count ? cells[cell_of[e]] & (CAP - 1) : EMPTY;
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
    Target target = target_of<BLOCK>(shape, work, out, bucket, total);
#pragma unroll
    for (int k = 0; k < EACH; ++k) {
        uint32_t e = threadIdx.x + k * BLOCK;
        bool own = speaks >> k & 1;
        unsigned all = __ballot_sync(~0u, own);
        if (own) {
            uint32_t next = before + __popc(all & ((1u << lane) - 1)), place = places[e];
            cells[cell_of[e]] = target.first + next;
            target.put<ONE>(next, work.elements[place], ONE ? 0 : work.tables[place]);
        }
        before += __popc(all);
    }
    __syncthreads();
#pragma unroll 4
    for (uint32_t e = threadIdx.x; e < count; e += BLOCK) work.numbers[places[e]] = cells[cell_of[e]];
}
