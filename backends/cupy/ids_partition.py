"""ids_partition: one hash table of positions finds each pair's first claimant, then numbers them.

1. `claim`: every value looks for its pair in open addressing at most half full; a cell has 24 bits
   of hash and the position of the value that took it, so only likely equals are compared.
2. `settle` adds up how many pairs each owner has; `number` gives claimants their places, owner by
   owner; `read_back` gives every value the number of its pair's claimant.
Order inside an owner's run varies from call to call.
"""

from __future__ import annotations

from torch import Tensor

from backends.cupy.columns import COLUMNS
from backends.cupy.device import DEVICE
from backends.cupy.hashes import hashes
from backends.cupy.queue import Queue, Source, blocks_for, code

EACH = 4
SPAN = 256 * EACH
# Owners whose counts a block keeps in shared memory.
MOST_SHARED = 1024

SOURCE = Source(
    "ids_partition",
    DEVICE
    + hashes()
    + COLUMNS
    + r"""
constexpr int EACH = 4, SPAN = 256 * EACH, MOST_SHARED = 1024, PLACE_BITS = 40;
constexpr u64 EMPTY = ~u64(0), PLACE = (u64(1) << PLACE_BITS) - 1;

struct Pairs {
    const i64* ids;
    Index splits, tables;
    const i64* salts;
    i64 n, columns, one_table;

    INLINE i64 table_of(i64 i) const {
        return one_table ? 0 : tables[column_of(splits, 0, columns, i)];
    }
};

#define PAIRS_PARAMETERS                                                                          \
    const i64 *ids, const void *splits, i64 splits_code, const void *tables, i64 tables_code,     \
        const i64 *salts, i64 n, i64 columns, i64 one_table
#define PAIRS                                                                                     \
    Pairs{ids, {splits, splits_code}, {tables, tables_code}, salts, n, columns, one_table}

// Positions i = begin + thread + k * 256 of a block, so that accesses are side by side.
INLINE i64 position(int k) { return i64(blockIdx.x) * SPAN + threadIdx.x + k * 256; }

// `chosen` lanes of one owner add to its counter at once; each gets its place.
INLINE u64 join(bool chosen, int owner, u32* own, u64* counts, bool shared) {
    unsigned peers = __match_any_sync(~0u, chosen ? owner : -1);
    int lane = threadIdx.x % 32, leader = __ffs(peers) - 1;
    u64 at = 0;
    if (chosen && lane == leader)
        at = shared ? u64(atomicAdd(own + owner, u32(__popc(peers))))
                    : atomicAdd(counts + owner, u64(__popc(peers)));
    at = __shfl_sync(~0u, at, leader);
    return at + __popc(peers & ((1u << lane) - 1));
}

KERNEL claim(PAIRS_PARAMETERS, i64 world, u64* cells, u64 size, u64* counts, i64 code,
             void* inverse) {
    extern __shared__ u32 own[];  // [world], where it fits
    bool shared = world <= MOST_SHARED;
    Pairs p = PAIRS;
    i64 block = i64(blockIdx.x) * SPAN;
    Columns columns_here(p.splits, p.columns, block, block + SPAN < n ? block + SPAN : n);
    for (int w = threadIdx.x; shared && w < world; w += 256) own[w] = 0;
    __syncthreads();
    i64 id[EACH];
    u64 hashed[EACH], at[EACH], found[EACH];
    int table[EACH];
    // All first cells are under way before the first is looked at.
#pragma unroll
    for (int k = 0; k < EACH; ++k) {
        i64 i = position(k);
        if (i >= n) continue;
        id[k] = __ldg(ids + i);
        table[k] = one_table ? 0 : int(p.tables[columns_here.of(p.splits, i)]);
        hashed[k] = pair_hash(__ldg(salts + table[k]), id[k]);
        at[k] = __umul64hi(hashed[k], size);
        found[k] = __ldcg(cells + at[k]);
    }
#pragma unroll
    for (int k = 0; k < EACH; ++k) {
        i64 i = position(k);
        bool first = false;
        if (i < n) {
            // The owner is the lowest 16 bits' matter, the cell the highest ones'.
            u64 mine = (hashed[k] >> 16) << PLACE_BITS | u64(i);
            for (;;) {
                if (found[k] == EMPTY) found[k] = atomicCAS(cells + at[k], EMPTY, mine);
                if (found[k] == EMPTY) {
                    first = true;
                    put(inverse, code, i, i);
                    break;
                }
                if ((found[k] ^ mine) >> PLACE_BITS == 0) {
                    i64 other = i64(found[k] & PLACE);
                    if (__ldg(ids + other) == id[k] &&
                        (one_table || p.table_of(other) == table[k])) {
                        put(inverse, code, i, other);
                        break;
                    }
                }
                if (++at[k] == size) at[k] = 0;
                found[k] = __ldcg(cells + at[k]);
            }
        }
        join(first, first && world > 1 ? owner_of(hashed[k], int(world)) : 0, own, counts, shared);
    }
    __syncthreads();
    for (int w = threadIdx.x; shared && w < world; w += 256)
        if (own[w]) atomicAdd(counts + w, u64(own[w]));
}

// cursors[w]: pairs of the owners before w. One block of 32 lanes.
KERNEL settle(const u64* counts, i64 world, u64* cursors) {
    u64 carried = 0;
    for (i64 base = 0; base < world; base += 32) {
        i64 w = base + threadIdx.x;
        u64 own = w < world ? counts[w] : 0, at = own;
        for (int step = 1; step < 32; step *= 2) {
            u64 left = __shfl_up_sync(~0u, at, step);
            if (threadIdx.x >= step) at += left;
        }
        if (w < world) cursors[w] = carried + at - own;
        carried += __shfl_sync(~0u, at, 31);
    }
}

KERNEL number(PAIRS_PARAMETERS, i64 world, u64* cursors, i64 code, const void* inverse,
              void* numbers, i64* unique_ids, int* unique_tables) {
    extern __shared__ u64 bases[];  // [world] places, then [world] counts, where they fit
    bool shared = world <= MOST_SHARED;
    u32* own = reinterpret_cast<u32*>(bases + (shared ? world : 0));
    Pairs p = PAIRS;
    i64 block = i64(blockIdx.x) * SPAN;
    Columns columns_here(p.splits, p.columns, block, block + SPAN < n ? block + SPAN : n);
    for (int w = threadIdx.x; shared && w < world; w += 256) own[w] = 0;
    __syncthreads();
    i64 id[EACH];
    u64 place[EACH];
    int table[EACH], owner[EACH];
#pragma unroll
    for (int k = 0; k < EACH; ++k) {
        i64 i = position(k);
        bool first = i < n && (code == INT64 ? static_cast<const i64*>(inverse)[i]
                                             : i64(static_cast<const int*>(inverse)[i])) == i;
        owner[k] = -1;
        if (first) {
            id[k] = __ldg(ids + i);
            table[k] = one_table ? 0 : int(p.tables[columns_here.of(p.splits, i)]);
            u64 hashed = pair_hash(__ldg(salts + table[k]), id[k]);
            owner[k] = world == 1 ? 0 : owner_of(hashed, int(world));
        }
        place[k] = join(first, owner[k], own, cursors, shared);
    }
    __syncthreads();
    for (int w = threadIdx.x; shared && w < world; w += 256)
        if (own[w]) bases[w] = atomicAdd(cursors + w, u64(own[w]));
    __syncthreads();
#pragma unroll
    for (int k = 0; k < EACH; ++k) {
        if (owner[k] < 0) continue;
        i64 to = i64(place[k] + (shared ? bases[owner[k]] : 0));
        unique_ids[to] = id[k];
        unique_tables[to] = table[k];
        put(numbers, code, position(k), to);
    }
}

KERNEL read_back_4(const int* numbers, i64 n, int* inverse) {
    for (i64 i = THIS_THREAD; i < n; i += ALL_THREADS) inverse[i] = __ldg(numbers + inverse[i]);
}
KERNEL read_back_8(const i64* numbers, i64 n, i64* inverse) {
    for (i64 i = THIS_THREAD; i < n; i += ALL_THREADS) inverse[i] = __ldg(numbers + inverse[i]);
}
""",
)


def ids_partition(
    ids: Tensor,
    splits: Tensor,
    tables: Tensor,
    salts: Tensor,
    world: int,
    unique_ids: Tensor,
    unique_tables: Tensor,
    counts: Tensor,
    inverse: Tensor,
) -> None:
    n = len(ids)
    with Queue(ids.device) as queue:
        queue.clear(counts)
        if n == 0:
            return
        cells, cursors, numbers = queue.scratch(16 * n, 8 * world, inverse.nbytes)
        pairs = (
            ids, splits, code(splits), tables, code(tables), salts, n, len(tables),
            int(len(salts) == 1),
        )  # fmt: skip
        kept = world if world <= MOST_SHARED else 0
        queue.clear(cells, 0xFF)
        queue.launch(
            SOURCE, "claim", blocks_for(n, SPAN), *pairs, world, cells, 2 * n, counts,
            code(inverse), inverse, shared=4 * kept,
        )  # fmt: skip
        queue.launch(SOURCE, "settle", 1, counts, world, cursors, block=32)
        queue.launch(
            SOURCE, "number", blocks_for(n, SPAN), *pairs, world, cursors, code(inverse), inverse,
            numbers, unique_ids, unique_tables, shared=12 * kept,
        )  # fmt: skip
        queue.launch(SOURCE, f"read_back_{inverse.itemsize}", blocks_for(n), numbers, n, inverse)
