// id_map: open addressing by lines of two cells of 16 bytes, read at once. Lines of four cells, 64 bytes,
// were measured to halve the rate of `find`.
//
// A cell is {id, table + 1, row}; table + 1 = 0 is empty, -1 erased. A pair lies in the first line of its
// chain that had an empty cell when it came, so that a line with one ends a search. Inserts look first,
// so that claiming a cell never has to compare: pairs of one call are distinct, and those that were there
// are out of the way. Where the host knows that there is room, `insert` does both in one pass.
#include "arg.cuh"
#include "hash.cuh"
#include "launch.cuh"

struct alignas(16) Cell {
    int64_t id;
    int32_t table, row;
};

constexpr int ERASED = -1, BUSY = -2;  // BUSY: taken, its pair not written yet

// Device-side state, in the order of id_map.py's STATE. `fresh` to `ended` are zero between calls;
// `mixed`: of the last pairs inserted more than one in MOSTLY was there already.
struct State {
    unsigned long long live, used, extent, free_count, fresh, reused, holes, taken, ended, mixed;
};
constexpr unsigned MOSTLY = 64;

BOTH uint64_t cell_hash(int64_t table, int64_t id) {
    return mix64(uint64_t(id) ^ mix64(uint64_t(table) + GOLDEN)) >> 8;
}

constexpr int SIDE = 2;

struct Line {
    int4 raw[SIDE];

    __device__ int64_t id(int k) const { return int64_t(uint64_t(uint32_t(raw[k].y)) << 32 | uint32_t(raw[k].x)); }
    __device__ int32_t table(int k) const { return raw[k].z; }
    __device__ int32_t row(int k) const { return raw[k].w; }
};

// `mask` is of the cells; lines follow one another round the map, the other of 64 bytes first.
struct Chain {
    int64_t line, mask;
    bool second = false;

    __device__ Chain(int64_t mask, int64_t table, int64_t id)
        : line(cell_hash(table, id) & (mask / SIDE)), mask(mask / SIDE) {}
    __device__ void next() {
        line ^= 1;
        if (second) line = (line + 2) & mask;
        second = !second;
    }
    __device__ int64_t cell(int side) const { return line * SIDE + side; }
};

__device__ __forceinline__ Line read_line(const Cell* cells, const Chain& chain) {
    Line line;
#pragma unroll
    for (int k = 0; k < SIDE; ++k) line.raw[k] = __ldcg(reinterpret_cast<const int4*>(cells) + chain.cell(k));
    return line;
}

__device__ int64_t place_of(const Cell* cells, int64_t mask, int64_t table, int64_t id, int32_t* row) {
    for (Chain chain(mask, table, id);; chain.next()) {
        Line line = read_line(cells, chain);
        bool open = false;
#pragma unroll
        for (int k = 0; k < SIDE; ++k) {
            if (line.table(k) == table + 1 && line.id(k) == id) {
                *row = line.row(k);
                return chain.cell(k);
            }
            open |= line.table(k) == 0;
        }
        if (open) {
            *row = -1;
            return -1;
        }
    }
}

// Takes the first cell of the chain that is empty or, with `erased`, was erased, by marking it BUSY: who
// loses a cell goes on, as the winner's pair is another one. `was` is what it was.
__device__ int64_t take_cell(Cell* cells, Chain chain, bool erased, int32_t* was) {
    for (;; chain.next()) {
        int32_t seen[SIDE];
#pragma unroll
        for (int k = 0; k < SIDE; ++k) seen[k] = __ldcg(&cells[chain.cell(k)].table);
#pragma unroll
        for (int k = 0; k < SIDE; ++k) {
            if (seen[k] != 0 && !(erased && seen[k] == ERASED)) continue;
            *was = seen[k];
            if (atomicCAS(&cells[chain.cell(k)].table, seen[k], BUSY) == seen[k]) return chain.cell(k);
        }
    }
}

__device__ void write_cell(Cell* cells, int64_t at, Cell cell) {
    __stcg(reinterpret_cast<int4*>(cells) + at, *reinterpret_cast<int4*>(&cell));
}

template <typename I> __device__ void put(void* rows, int64_t i, I row) { static_cast<I*>(rows)[i] = row; }

__global__ void find(const Cell* cells, int64_t mask, Index tables, const int64_t* ids, int64_t n, bool wide,
                     void* rows, unsigned long long* missing) {
    int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
    int32_t row = 0;
    if (i < n) {
        place_of(cells, mask, tables[i], __ldg(ids + i), &row);
        if (wide) put<int64_t>(rows, i, row);
        else put<int32_t>(rows, i, row);
    }
    int absent = __syncthreads_count(i < n && row < 0);
    if (threadIdx.x == 0 && absent) atomicAdd(missing, (unsigned long long)absent);
}

// Rows of new pairs are numbered a block at a time: freed ones first, then the next never used.
__global__ void claim(Cell* cells, int64_t mask, Index tables, const int64_t* ids, int64_t n, bool wide,
                      void* rows, bool* fresh, State* state, const int32_t* free_rows) {
    __shared__ unsigned new_here;
    __shared__ unsigned long long base;
    if (threadIdx.x == 0) new_here = 0;
    __syncthreads();
    int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
    int64_t known = i < n ? (wide ? static_cast<int64_t*>(rows)[i] : static_cast<int32_t*>(rows)[i]) : 0;
    bool is_new = i < n && known < 0;
    unsigned local = 0;
    if (is_new) local = atomicAdd(&new_here, 1u);
    __syncthreads();
    if (threadIdx.x == 0 && new_here) base = atomicAdd(&state->fresh, (unsigned long long)new_here);
    __syncthreads();
    if (i < n) fresh[i] = is_new;
    if (!is_new) return;
    unsigned long long k = base + local, freed = state->free_count;
    int32_t row = k < freed ? free_rows[freed - 1 - k] : int32_t(state->extent + (k - freed));
    if (wide) put<int64_t>(rows, i, row);
    else put<int32_t>(rows, i, row);
    int64_t table = tables[i], id = ids[i];
    int32_t was;
    int64_t at = take_cell(cells, Chain(mask, table, id), true, &was);
    write_cell(cells, at, Cell{id, int32_t(table + 1), row});
    if (was == ERASED) atomicAdd(&state->reused, 1ull);
}

// Writes a pair into an empty cell, all 16 bytes at once; false if another pair was faster.
__device__ __forceinline__ bool fill_cell(Cell* cells, int64_t at, Cell cell) {
#if __CUDA_ARCH__ >= 900
    uint64_t seen, above, low = uint64_t(cell.id), high = uint64_t(uint32_t(cell.row)) << 32 | uint32_t(cell.table);
    asm volatile(
        "{ .reg .b128 empty, pair, seen;\n"
        "mov.b128 empty, {%3, %3};\n"
        "mov.b128 pair, {%4, %5};\n"
        "atom.relaxed.gpu.global.cas.b128 seen, [%2], empty, pair;\n"
        "mov.b128 {%0, %1}, seen; }"
        : "=l"(seen), "=l"(above)
        : "l"(cells + at), "l"(0ull), "l"(low), "l"(high)
        : "memory");
    return seen == 0 && above == 0;
#else
    if (atomicCAS(&cells[at].table, 0, BUSY) != 0) return false;
    write_cell(cells, at, cell);
    return true;
#endif
}

constexpr int BLOCK = 512;  // fewer additions to the one counter than with 256

// Numbers the threads for which `own` holds, through one addition to `counter` a block; all threads call it.
__device__ __forceinline__ unsigned long long numbered(bool own, unsigned long long* counter) {
    __shared__ unsigned of_warp[BLOCK / 32];
    __shared__ unsigned long long base;
    unsigned lanes = __ballot_sync(~0u, own), warp = threadIdx.x / 32, before = 0, total = 0;
    if (threadIdx.x % 32 == 0) of_warp[warp] = __popc(lanes);
    __syncthreads();
    for (int w = 0; w < BLOCK / 32; ++w) {
        if (w == int(warp)) before = total;
        total += of_warp[w];
    }
    if (threadIdx.x == 0 && total) base = atomicAdd(counter, (unsigned long long)total);
    __syncthreads();
    return base + before + __popc(lanes & ((1u << threadIdx.x % 32) - 1));
}

// Row of the k-th new pair of a call.
__device__ __forceinline__ int32_t row_of(const State* state, const int32_t* free_rows, unsigned long long k) {
    unsigned long long freed = state->free_count;
    return k < freed ? free_rows[freed - 1 - k] : int32_t(state->extent + (k - freed));
}

// Find and claim at once. A line with an empty cell shows the pair to be absent; erased cells on the way
// stay as they are until the next rehash. A pair has its row before it takes a cell, so that one swap brings
// all of it: what was looked for in vain is new, whoever wins a cell. Where nearly all of the call before
// were new, rows are taken by position, those of pairs that were there after all are left as `holes`, and
// `mend` fills them.
__global__ void __launch_bounds__(BLOCK, 4)
    insert(Cell* cells, int64_t mask, Index tables, const int64_t* ids, int64_t n, bool wide, void* rows, bool* fresh,
           State* state, const int32_t* free_rows, int32_t* holes) {
    let_next_start();
    int64_t i = int64_t(blockIdx.x) * BLOCK + threadIdx.x, id = i < n ? __ldg(ids + i) : 0;
    int32_t table = i < n ? int32_t(tables[i]) + 1 : 1, row = -1;
    bool mixed = state->mixed;
    Chain chain(mask, table - 1, id);
    Line line = read_line(cells, chain);
    while (true) {
        bool open = false;
#pragma unroll
        for (int k = 0; k < SIDE; ++k) {
            if (line.table(k) == table && line.id(k) == id) row = line.row(k);
            open |= line.table(k) == 0;
        }
        if (row >= 0 || open) break;
        chain.next();
        line = read_line(cells, chain);
    }
    bool is_new = row < 0 && i < n;
    unsigned long long k = i;
    if (mixed) k = numbered(is_new, &state->fresh);
    if (is_new) {
        row = row_of(state, free_rows, k);
        bool done = false;
        while (true) {
#pragma unroll
            for (int side = 0; side < SIDE; ++side)
                if (!done && line.table(side) == 0) done = fill_cell(cells, chain.cell(side), Cell{id, table, row});
            if (done) break;
            chain.next();
            line = read_line(cells, chain);
        }
    }
    if (i < n) {
        fresh[i] = is_new;
        if (wide) put<int64_t>(rows, i, row);
        else put<int32_t>(rows, i, row);
    }
    if (mixed) return;
    bool hole = i < n && !is_new;
    if (!__syncthreads_or(hole)) return;
    k = numbered(hole, &state->holes);
    if (hole) holes[k] = int32_t(i);
}

__device__ inline void settle_state(State* state, unsigned long long k, int64_t n) {
    unsigned long long freed = state->free_count;
    state->live += k;
    state->free_count = k < freed ? freed - k : 0;
    if (k > freed) state->extent += k - freed;
    state->used += k - state->reused;
    state->mixed = (n - k) * MOSTLY > n;
    state->fresh = state->reused = state->holes = state->taken = state->ended = 0;
}

__global__ void settle(State* state, int64_t n) { settle_state(state, state->fresh, n); }

// Behind `insert`. With h holes the last h positions are left: new pairs there move to the holes before them.
__global__ void mend(Cell* cells, int64_t mask, Index tables, const int64_t* ids, int64_t n, bool wide, void* rows,
                     const bool* fresh, State* state, const int32_t* free_rows, const int32_t* holes) {
    wait_for_previous();
    // Nothing but zero is read here once the state is settled.
    int64_t left = int64_t(*(volatile unsigned long long*)&state->holes);
    if (left == 0) {
        if (blockIdx.x == 0 && threadIdx.x == 0) settle_state(state, state->mixed ? state->fresh : n, n);
        return;
    }
    int64_t kept = n - left;
    for (int64_t i = kept + int64_t(blockIdx.x) * blockDim.x + threadIdx.x; i < n; i += int64_t(gridDim.x) * blockDim.x) {
        if (!fresh[i]) continue;
        int64_t hole;
        do hole = holes[atomicAdd(&state->taken, 1ull)];
        while (hole >= kept);
        int32_t row = row_of(state, free_rows, hole), old;
        int64_t at = place_of(cells, mask, tables[i], ids[i], &old);
        cells[at].row = row;
        if (wide) put<int64_t>(rows, i, row);
        else put<int32_t>(rows, i, row);
    }
    __threadfence();
    __syncthreads();
    if (threadIdx.x == 0 && atomicAdd(&state->ended, 1ull) == gridDim.x - 1) settle_state(state, kept, n);
}

__global__ void erase(Cell* cells, int64_t mask, Index tables, const int64_t* ids, int64_t n, bool wide, void* rows,
                      State* state, int32_t* free_rows) {
    int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
    if (i >= n) return;
    int32_t row;
    int64_t at = place_of(cells, mask, tables[i], ids[i], &row);
    if (wide) put<int64_t>(rows, i, row);
    else put<int32_t>(rows, i, row);
    if (at < 0) return;
    cells[at].table = ERASED;
    free_rows[atomicAdd(&state->free_count, 1ull)] = row;
    atomicAdd(&state->live, ~0ull);
}

__global__ void rehash(const Cell* from, int64_t count, Cell* cells, int64_t mask, State* state) {
    int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
    if (i >= count) return;
    Cell cell = from[i];
    if (cell.table == 0 || cell.table == ERASED) return;
    int32_t was;
    write_cell(cells, take_cell(cells, Chain(mask, cell.table - 1, cell.id), false, &was), cell);
}

__global__ void items(const Cell* cells, int64_t count, unsigned long long* next, int32_t* tables, int64_t* ids,
                      bool wide, void* rows) {
    int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
    if (i >= count) return;
    Cell cell = cells[i];
    if (cell.table == 0 || cell.table == ERASED) return;
    unsigned long long at = atomicAdd(next, 1ull);
    tables[at] = cell.table - 1;
    ids[at] = cell.id;
    if (wide) put<int64_t>(rows, at, cell.row);
    else put<int32_t>(rows, at, cell.row);
}

// Records, as id_map.py passes them: cells, state, free rows, then the method's own.
EXPORT int64_t id_map_find(const Arg* a, void*, cudaStream_t stream) {
    int64_t n = a[3].n0;
    auto* missing = tensor<unsigned long long>(a[6]);
    cudaMemsetAsync(missing, 0, 8, stream);
    if (n)
        find<<<blocks_for(n), THREADS, 0, stream>>>(tensor<const Cell>(a[0]), a[0].n0 - 1, Index(a[3]),
                                                   tensor<const int64_t>(a[4]), n, a[5].dtype == INT64, a[5].data,
                                                   missing);
    return cudaGetLastError();
}

EXPORT int64_t id_map_claim(const Arg* a, void*, cudaStream_t stream) {
    int64_t n = a[3].n0;
    if (n == 0) return 0;
    claim<<<blocks_for(n), THREADS, 0, stream>>>(tensor<Cell>(a[0]), a[0].n0 - 1, Index(a[3]),
                                                tensor<const int64_t>(a[4]), n, a[5].dtype == INT64, a[5].data,
                                                tensor<bool>(a[6]), tensor<State>(a[1]),
                                                tensor<const int32_t>(a[2]));
    settle<<<1, 1, 0, stream>>>(tensor<State>(a[1]), n);
    return cudaGetLastError();
}

constexpr int MENDERS = 264;  // blocks; they do nothing where there are no holes

EXPORT int64_t id_map_insert(const Arg* a, void*, cudaStream_t stream) {
    int64_t n = a[3].n0;
    if (n == 0) return 0;
    auto* cells = tensor<Cell>(a[0]);
    auto* state = tensor<State>(a[1]);
    auto* ids = tensor<const int64_t>(a[4]);
    auto *free_rows = tensor<const int32_t>(a[2]), *holes = tensor<const int32_t>(a[7]);
    int64_t mask = a[0].n0 - 1;
    bool wide = a[5].dtype == INT64, *fresh = tensor<bool>(a[6]);
    insert<<<blocks_for(n, BLOCK), BLOCK, 0, stream>>>(cells, mask, Index(a[3]), ids, n, wide, a[5].data, fresh, state,
                                                      free_rows, tensor<int32_t>(a[7]));
    launch_after(mend, MENDERS, THREADS, 0, stream, cells, mask, Index(a[3]), ids, n, wide, a[5].data, fresh, state,
                 free_rows, holes);
    return cudaGetLastError();
}

EXPORT int64_t id_map_erase(const Arg* a, void*, cudaStream_t stream) {
    int64_t n = a[3].n0;
    if (n)
        erase<<<blocks_for(n), THREADS, 0, stream>>>(tensor<Cell>(a[0]), a[0].n0 - 1, Index(a[3]),
                                                    tensor<const int64_t>(a[4]), n, a[5].dtype == INT64, a[5].data,
                                                    tensor<State>(a[1]), tensor<int32_t>(a[2]));
    return cudaGetLastError();
}

EXPORT int64_t id_map_rehash(const Arg* a, void*, cudaStream_t stream) {
    int64_t count = a[3].n0;
    rehash<<<blocks_for(count), THREADS, 0, stream>>>(tensor<const Cell>(a[3]), count, tensor<Cell>(a[0]),
                                                     a[0].n0 - 1, tensor<State>(a[1]));
    return cudaGetLastError();
}

EXPORT int64_t id_map_items(const Arg* a, void*, cudaStream_t stream) {
    int64_t count = a[0].n0;
    items<<<blocks_for(count), THREADS, 0, stream>>>(tensor<const Cell>(a[0]), count,
                                                    tensor<unsigned long long>(a[3]), tensor<int32_t>(a[4]),
                                                    tensor<int64_t>(a[5]), a[6].dtype == INT64, a[6].data);
    return cudaGetLastError();
}
