// Stable grouping of n values by a key below `distinct`: one partition by the key's high bits, then a
// counting sort of each bucket in shared memory.
//
// `sort_tiles` orders a tile by bucket within the tile's own stretch and says where runs start;
// `sort_buckets` gathers a bucket's runs, tile after tile, so that order stays stable, and counts
// them out; a bucket larger than CAP, as hot keys make, it leaves to group_large.cuh. A library radix
// sort makes three passes over keys and payloads for 20-bit keys; here four bytes a value (low bits of
// the key, position in the tile) and what the caller tags it with are written once and read once.
#pragma once
#include "arg.cuh"
#include "block_scan.cuh"
#include "launch.cuh"

namespace grouping {
constexpr int SPAN = 2048, BLOCK = 256, WARPS = BLOCK / 32, ROUNDS = SPAN / BLOCK;
static_assert(SPAN <= 2048, "a piece of a large bucket takes one tile more than is full");
constexpr int KEY_BITS = 10, KEYS = 1 << KEY_BITS, MOST_BUCKETS = 8192;
constexpr int CAP = 4096, CAP_ROUNDS = CAP / BLOCK, PIECE = CAP / 2, FULL = PIECE * 5 / 4;

inline bool possible(int64_t n, int64_t distinct) {
    return n > 0 && n < int64_t(1) << 31 && distinct <= int64_t(MOST_BUCKETS) * KEYS;
}

// Bits of the key that a bucket's keys differ in: fewer where keys repeat, so that buckets stay below CAP.
inline int key_bits(int64_t n, int64_t distinct) {
    int bits = KEY_BITS;
    while (bits > 0 && n << bits > FULL * distinct && distinct >> (bits - 1) < MOST_BUCKETS) --bits;
    return bits;
}

// A bucket of more than CAP values, cut into `pieces` where another PIECE of them is full: a piece has
// whole tiles and, as a tile has no more than PIECE values, fewer than CAP.
struct Large {
    int bucket, first, pieces;  // first: the first piece's number among all
    uint32_t base;                     // place of the bucket's first value
    int done;                          // pieces counted
};

// A value in its tile's stretch: low bits of the key, above them the position in the tile; and its tag.
using Plain = uint32_t;
using Tagged = uint2;
__device__ inline uint32_t packed(Plain e) { return e; }
__device__ inline uint32_t packed(Tagged e) { return e.x; }
__device__ inline uint32_t tag(Plain) { return 0; }
__device__ inline uint32_t tag(Tagged e) { return e.y; }

struct Work {
    void* elements;     // [n] Plain or Tagged
    uint16_t* offsets;  // [tiles][buckets + 1]
    Large* large;       // [n / CAP]
    int2* owners;       // [pieces] which of `large` a piece is of; its first tile
    uint32_t* counts;   // [pieces][KEYS] values of a key, then those in the pieces before
    int* taken;         // pieces and large buckets so far
    int64_t n, distinct, bytes;
    int bits, tiles, buckets, pieces;  // pieces: the most there can be

    Work(void* scratch, int64_t n, int64_t distinct, int64_t element)
        : n(n), distinct(distinct), bits(key_bits(n, distinct)), tiles(int(ceil_div(n, SPAN))),
          buckets(int(ceil_div(distinct, int64_t(1) << bits))), pieces(n > CAP ? int(n / PIECE + n / CAP) : 0) {
        char* at = static_cast<char*>(scratch);
        auto take = [&](int64_t size) { char* p = at; at += (size + 255) / 256 * 256; return p; };
        elements = take(n * element);
        offsets = reinterpret_cast<uint16_t*>(take(int64_t(tiles) * (buckets + 1) * 2));
        large = reinterpret_cast<Large*>(take(n / CAP * sizeof(Large)));
        owners = reinterpret_cast<int2*>(take(int64_t(pieces) * 8));
        counts = reinterpret_cast<uint32_t*>(take(int64_t(pieces) * KEYS * 4));
        taken = reinterpret_cast<int*>(take(8));
        bytes = at - static_cast<char*>(scratch);
    }

    __device__ int keys() const { return 1 << bits; }

    // Where the bucket's run starts in the tile's stretch; after it, where it ends.
    __device__ const uint16_t* run(int tile, int bucket) const {
        return offsets + int64_t(tile) * (buckets + 1) + bucket;
    }

    // After the piece's last tile.
    __device__ int end_of(const Large& of, int piece) const {
        return piece + 1 < of.first + of.pieces ? owners[piece + 1].y : tiles;
    }

    template <typename E> __device__ E* of() const { return static_cast<E*>(elements); }
};

// Up to here each warp of `sort_tiles` has a lane mask a bucket beside its counters: 48 KiB a block.
constexpr int MASKED_BUCKETS = 1024;

// Rank of this lane among all that had its key, in this round and before; a negative key has none.
// Lanes of equal key find one another by `masks`, all zero between calls, or by a match.
template <bool MASKED> __device__ inline uint32_t rank_of(int key, uint16_t* counters, uint32_t* masks) {
    unsigned own = 1u << threadIdx.x % 32, peers = 0;
    if (MASKED) {
        if (key >= 0) atomicOr(masks + key, own);
        __syncwarp();
        if (key >= 0) peers = masks[key];
    } else {
        peers = __match_any_sync(~0u, key);
    }
    unsigned before = peers & (own - 1);
    uint32_t rank = 0;
    if (key >= 0) rank = counters[key] + __popc(before);
    __syncwarp();
    if (key >= 0 && before == 0) {
        counters[key] += uint16_t(__popc(peers));
        if (MASKED) masks[key] = 0;
    }
    __syncwarp();
    return rank;
}

// Counters of a warp: four of them are read at once.
__host__ __device__ inline int stride_of(int buckets) { return (buckets + 3) / 4 * 4; }

// Each warp's count of a bucket becomes the first place of its values in the tile; a thread has EACH
// buckets side by side, and its `offsets` say where they start.
template <int EACH>
__device__ __forceinline__ void place_buckets(uint16_t* counters, int buckets, uint16_t* offsets) {
    using Side = Pack<uint16_t, EACH>;
    int stride = stride_of(buckets), low = threadIdx.x * EACH;
    auto side = [&](int w) { return reinterpret_cast<Side*>(counters + w * stride + low); };
    uint32_t own[EACH] = {}, sum = 0, total;
#pragma unroll
    for (int w = 0; w < WARPS; ++w) {
        Side count = low < stride ? *side(w) : Side{};
#pragma unroll
        for (int b = 0; b < EACH; ++b) own[b] += count.at[b];
    }
#pragma unroll
    for (int b = 0; b < EACH; ++b) sum += own[b];
    uint32_t at = block_scan<BLOCK>(sum, &total);
    uint32_t place[EACH];
#pragma unroll
    for (int b = 0; b < EACH; ++b) {
        place[b] = at;
        if (low + b < buckets) offsets[low + b] = uint16_t(at);
        at += own[b];
    }
#pragma unroll
    for (int w = 0; w < WARPS; ++w) {
        if (low >= stride) break;
        Side count = *side(w), first;
#pragma unroll
        for (int b = 0; b < EACH; ++b) {
            first.at[b] = uint16_t(place[b]);
            place[b] += count.at[b];
        }
        *side(w) = first;
    }
    if (threadIdx.x == 0) offsets[buckets] = uint16_t(total);
}

// The same for any number of buckets.
__device__ inline void place_many_buckets(uint16_t* counters, int buckets, uint16_t* offsets) {
    int stride = stride_of(buckets), each = (buckets + BLOCK - 1) / BLOCK;
    int low = threadIdx.x * each, high = min(low + each, buckets);
    uint32_t own = 0, total;
    for (int b = low; b < high; ++b)
        for (int w = 0; w < WARPS; ++w) own += counters[w * stride + b];
    uint32_t at = block_scan<BLOCK>(own, &total);
    for (int b = low; b < high; ++b) {
        offsets[b] = uint16_t(at);
        for (int w = 0; w < WARPS; ++w) {
            uint32_t count = counters[w * stride + b];
            counters[w * stride + b] = uint16_t(at);
            at += count;
        }
    }
    if (threadIdx.x == 0) offsets[buckets] = uint16_t(total);
}

// Shared memory of `sort_tiles`, in bytes: masks, then in their place the ordered elements; counters; tags.
template <typename E> struct Layout {
    int counters, tags, bytes;

    __host__ __device__ Layout(int buckets, bool masked) {
        int masks = masked ? WARPS * stride_of(buckets) * 4 : 0, ordered = SPAN * int(sizeof(E));
        counters = masks > ordered ? masks : ordered;
        tags = counters + WARPS * stride_of(buckets) * 2;
        bytes = tags + (sizeof(E) == 8 ? SPAN * 4 : 0);
    }
};

// If E has tags, `tags(begin, size, out)` returns the least one of values [begin, begin + size) and fills
// `out` [size] in shared memory with what each is more.
template <typename E, bool MASKED, typename K, typename Tags>
__global__ void __launch_bounds__(BLOCK, 4) sort_tiles(const K* keys, Work work, Tags tags) {
    extern __shared__ uint32_t shared[];
    let_next_start();
    int buckets = work.buckets, stride = stride_of(buckets), warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    Layout<E> layout(buckets, MASKED);
    E* ordered = reinterpret_cast<E*>(shared);
    uint32_t* masks = shared + warp * stride;
    uint16_t* counters = reinterpret_cast<uint16_t*>(shared + layout.counters / 4);
    uint32_t* tag_of = shared + layout.tags / 4;
    int64_t begin = int64_t(blockIdx.x) * SPAN;
    int size = int(work.n - begin < SPAN ? work.n - begin : SPAN);
    if (blockIdx.x == 0 && threadIdx.x < 2) work.taken[threadIdx.x] = 0;
    uint32_t key[ROUNDS], rank[ROUNDS];
#pragma unroll
    for (int r = 0; r < ROUNDS; ++r) {
        int local = warp * (SPAN / WARPS) + r * 32 + lane;
        key[r] = local < size ? uint32_t(keys[begin + local]) : ~0u;
    }
    for (int c = threadIdx.x; c < WARPS * stride / 2; c += BLOCK) reinterpret_cast<uint32_t*>(counters)[c] = 0;
    if (MASKED)
        for (int c = threadIdx.x; c < WARPS * stride; c += BLOCK) shared[c] = 0;
    uint32_t first_tag = 0;
    if constexpr (sizeof(E) == sizeof(Tagged)) first_tag = uint32_t(tags(begin, size, tag_of));
    __syncthreads();
#pragma unroll
    for (int r = 0; r < ROUNDS; ++r)
        rank[r] = rank_of<MASKED>(key[r] == ~0u ? -1 : int(key[r] >> work.bits), counters + warp * stride, masks);
    __syncthreads();
    uint16_t* offsets = work.offsets + int64_t(blockIdx.x) * (buckets + 1);
    if (stride <= BLOCK) place_buckets<1>(counters, buckets, offsets);
    else if (stride <= 2 * BLOCK) place_buckets<2>(counters, buckets, offsets);
    else if (stride <= 4 * BLOCK) place_buckets<4>(counters, buckets, offsets);
    else place_many_buckets(counters, buckets, offsets);
    __syncthreads();
    // Through shared memory, so that stores are consecutive.
#pragma unroll
    for (int r = 0; r < ROUNDS; ++r) {
        if (key[r] == ~0u) continue;
        uint32_t place = counters[warp * stride + (key[r] >> work.bits)] + rank[r];
        uint32_t local = warp * (SPAN / WARPS) + r * 32 + lane;
        uint32_t packed = (key[r] & (work.keys() - 1)) | local << KEY_BITS;
        if constexpr (sizeof(E) == sizeof(Tagged)) ordered[place] = Tagged{packed, first_tag + tag_of[local]};
        else ordered[place] = packed;
    }
    __syncthreads();
    for (int e = threadIdx.x; e < size; e += BLOCK) work.of<E>()[begin + e] = ordered[e];
}

// Up to CAP values of a bucket, ranked by key within a warp. `Out` makes a Value of a value's number
// and tag: out.value(i, tag).
template <typename E, typename Out> struct Chunk {
    using Value = typename Out::Value;
    union Memory {
        struct {
            union {
                uint32_t places[CAP];
                uint32_t masks[WARPS][KEYS];
                Value ordered[CAP];
            };
            uint16_t counters[WARPS][KEYS];  // of a warp's values; then of those in the warps before
            uint16_t counts[KEYS];
            uint32_t cursors[KEYS];
        };
    };
    uint32_t ranked[CAP_ROUNDS];  // rank in the warp above the key's low bits
    Value value[CAP_ROUNDS];
    uint32_t share;  // of a warp

    // Values [begin, begin + CAP) of the `count` in the runs of all threads' tiles; `side` threads side by
    // side have tiles [from, to), and their first value is number `first`. Ends in a barrier.
    __device__ __forceinline__ void rank(const Work& work, const Out& out, Memory& memory, int bucket, int from,
                                         int to, uint32_t first, uint32_t begin, uint32_t count, int side = 1) {
        int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
        uint32_t size = min(count - begin, uint32_t(CAP)), at = first;
        share = (size + BLOCK - 1) / BLOCK * 32;
        // Of each warp only what the bucket's keys need, two counters at once.
        int keys = work.keys(), half = keys > 1 ? work.bits - 1 : 0;
        for (int c = threadIdx.x; c < WARPS << half; c += BLOCK)
            reinterpret_cast<uint32_t*>(memory.counters[c >> half])[c & ((1 << half) - 1)] = 0;
        for (int tile = from; tile < to && at < begin + size; ++tile) {
            uint32_t start = __ldg(work.run(tile, bucket)), end = __ldg(work.run(tile, bucket) + 1);
            for (uint32_t k = start + (threadIdx.x & (side - 1)); k < end; k += side) {
                uint32_t place = at + k - start - begin;
                if (place < size) memory.places[place] = uint32_t(tile) * SPAN + k;
            }
            at += end - start;
        }
        __syncthreads();
#pragma unroll
        for (int r = 0; r < CAP_ROUNDS; ++r) {
            uint32_t e = warp * share + r * 32 + lane;
            ranked[r] = ~0u;
            if (r * 32 < share && e < size) {
                uint32_t place = memory.places[e];
                E element = __ldg(work.of<E>() + place);
                ranked[r] = packed(element) & (KEYS - 1);
                value[r] = out.value((place & ~(SPAN - 1u)) + (packed(element) >> KEY_BITS), tag(element));
            }
        }
        __syncthreads();  // the places are read: masks may take their place
        for (int c = threadIdx.x; c < WARPS << work.bits; c += BLOCK)
            memory.masks[c >> work.bits][c & (keys - 1)] = 0;
        __syncthreads();
#pragma unroll
        for (int r = 0; r < CAP_ROUNDS; ++r)
            if (r * 32 < share)
                ranked[r] |= rank_of<true>(int(ranked[r]), memory.counters[warp], memory.masks[warp]) << KEY_BITS;
        __syncthreads();
        for (int k = threadIdx.x; k < 1 << half; k += BLOCK) {  // two counters a word
            uint32_t sum = 0;
            for (int w = 0; w < WARPS; ++w) {
                auto& own = reinterpret_cast<uint32_t*>(memory.counters[w])[k];
                uint32_t before = sum;
                sum += own;
                own = before;
            }
            reinterpret_cast<uint32_t*>(memory.counts)[k] = sum;
        }
        __syncthreads();
    }

    // `body(place, value)` of each; cursors are the first places of the keys.
    template <typename F> __device__ __forceinline__ void each(const Memory& memory, F body) const {
#pragma unroll
        for (int r = 0; r < CAP_ROUNDS; ++r) {
            if (r * 32 >= share || ranked[r] == ~0u) continue;
            uint32_t low = ranked[r] & (KEYS - 1);
            body(memory.cursors[low] + memory.counters[threadIdx.x / 32][low] + (ranked[r] >> KEY_BITS), value[r]);
        }
    }
};

// For all threads of the block: enters a bucket of more than CAP values for group_large.cuh; this thread
// has tiles [from, to), before which there are `at` values.
__device__ inline void enter_large(const Work& work, int bucket, uint32_t base, uint32_t count, int from, int to,
                                   uint32_t at) {
    __shared__ int first, which;
    int pieces = int((count - 1) / PIECE) + 1;
    if (threadIdx.x == 0) {
        first = atomicAdd(work.taken, pieces);
        which = atomicAdd(work.taken + 1, 1);
        work.large[which] = Large{bucket, first, pieces, base, 0};
    }
    __syncthreads();
    if (threadIdx.x == 0) work.owners[first] = make_int2(which, 0);
    for (int tile = from; tile < to; ++tile) {
        uint32_t own = uint32_t(__ldg(work.run(tile, bucket) + 1)) - __ldg(work.run(tile, bucket));
        int piece = int((at + own) / PIECE);  // one more, where this tile fills one
        if (piece > int(at / PIECE) && piece < pieces) work.owners[first + piece] = make_int2(which, tile + 1);
        at += own;
    }
}

// `out(place, value)`: the value that out.value made comes at `place`.
template <typename E, typename Out>
__global__ void __launch_bounds__(BLOCK, 4) sort_buckets(Work work, int32_t* starts, Out out) {
    extern __shared__ uint32_t shared[];
    auto& memory = *reinterpret_cast<typename Chunk<E, Out>::Memory*>(shared);
    wait_for_previous();
    let_next_start();
    int bucket = blockIdx.x, each = (work.tiles + BLOCK - 1) / BLOCK;
    int from = min(int(threadIdx.x) * each, work.tiles), to = min(from + each, work.tiles);
    // In every tile, what comes before the bucket's run is of the buckets before.
    uint32_t mine = 0, before = 0, count, base;
    for (int tile = from; tile < to; ++tile) {
        uint32_t start = __ldg(work.run(tile, bucket));
        before += start;
        mine += uint32_t(__ldg(work.run(tile, bucket) + 1)) - start;
    }
    block_scan<BLOCK>(before, &base);
    uint32_t first = block_scan<BLOCK>(mine, &count);
    if (bucket == work.buckets - 1 && threadIdx.x == 0) starts[work.distinct] = int32_t(work.n);
    if (count > CAP) {
        enter_large(work, bucket, base, count, from, to, first);
        return;
    }
    Chunk<E, Out> chunk;
    chunk.rank(work, out, memory, bucket, from, to, first, 0, count);
    // Counts of the keys to their first places.
    constexpr int OWN_KEYS = KEYS / BLOCK;
    uint32_t sum = 0, total, keys = work.keys();
    for (uint32_t k = 0; k < OWN_KEYS && threadIdx.x * OWN_KEYS + k < keys; ++k)
        sum += memory.counts[threadIdx.x * OWN_KEYS + k];
    uint32_t at = block_scan<BLOCK>(sum, &total);
    for (uint32_t k = 0; k < OWN_KEYS && threadIdx.x * OWN_KEYS + k < keys; ++k) {
        uint32_t key = threadIdx.x * OWN_KEYS + k;
        int64_t whole = (int64_t(bucket) << work.bits) + key;
        if (whole < work.distinct) starts[whole] = int32_t(base + at);
        memory.cursors[key] = at;
        at += memory.counts[key];
    }
    __syncthreads();
    // Through shared memory, so that stores are consecutive.
    chunk.each(memory, [&](uint32_t place, typename Out::Value value) { memory.ordered[place] = value; });
    __syncthreads();
#pragma unroll 4
    for (uint32_t e = threadIdx.x; e < count; e += BLOCK) out(base + e, memory.ordered[e]);
}
}  // namespace grouping
