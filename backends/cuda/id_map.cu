// id_map: open addressing, 16-byte cells, a pair found by one vector load a probe.
//
// A cell is {id, table + 1, row}; table + 1 = 0 is empty, -1 erased. Inserts look first, so that
// claiming a cell never has to compare: pairs of one call are distinct, and those that were there
// are out of the way. Where the host knows that there is room, `insert` does both in one pass.
#include "arg.cuh"
#include "hash.cuh"

struct alignas(16) Cell {
    int64_t id;
    int32_t table, row;
};

constexpr int ERASED = -1, BUSY = -2;  // BUSY: taken, its pair not written yet

// Device-side state, in the order of id_map.py's STATE.
struct State {
    unsigned long long live, used, extent, free_count, fresh, reused;
};

BOTH uint64_t cell_hash(int64_t table, int64_t id) {
    return mix64(uint64_t(id) ^ mix64(uint64_t(table) + GOLDEN)) >> 8;
}

__device__ Cell read_cell(const Cell* cells, int64_t at) {
    int4 raw = __ldcg(reinterpret_cast<const int4*>(cells) + at);
    return *reinterpret_cast<Cell*>(&raw);
}

__device__ int64_t place_of(const Cell* cells, int64_t mask, int64_t table, int64_t id, int32_t* row) {
    for (int64_t at = cell_hash(table, id) & mask;; at = (at + 1) & mask) {
        Cell cell = read_cell(cells, at);
        if (cell.table == table + 1 && cell.id == id) {
            *row = cell.row;
            return at;
        }
        if (cell.table == 0) {
            *row = -1;
            return -1;
        }
    }
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
    for (int64_t at = cell_hash(table, id) & mask;; at = (at + 1) & mask) {
        int32_t seen = __ldcg(&cells[at].table);
        if (seen != 0 && seen != ERASED) continue;
        if (atomicCAS(&cells[at].table, seen, int32_t(table + 1)) != seen) {
            // Another pair took it, or an erased cell was claimed: the next cell is as good.
            continue;
        }
        cells[at].id = id;
        cells[at].row = row;
        if (seen == ERASED) atomicAdd(&state->reused, 1ull);
        break;
    }
}

// Find and claim at once. A probe that ends at an empty cell has shown the pair to be absent; erased
// cells on the way stay as they are until the next rehash.
__global__ void insert(Cell* cells, int64_t mask, Index tables, const int64_t* ids, int64_t n, bool wide,
                       void* rows, bool* fresh, State* state, const int32_t* free_rows) {
    __shared__ unsigned new_here;
    __shared__ unsigned long long base;
    if (threadIdx.x == 0) new_here = 0;
    __syncthreads();
    int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x, at = 0, id = 0;
    int32_t table = 0, row = -1;
    unsigned local = 0;
    if (i < n) {
        id = __ldg(ids + i);
        table = int32_t(tables[i]) + 1;
        for (at = cell_hash(table - 1, id) & mask;; at = (at + 1) & mask) {
            Cell cell = read_cell(cells, at);
            if (cell.table == table && cell.id == id) {
                row = cell.row;
                break;
            }
            // Who loses the cell goes on: the winner's pair is another one.
            if (cell.table == 0 && atomicCAS(&cells[at].table, 0, BUSY) == 0) break;
        }
        if (row < 0) local = atomicAdd(&new_here, 1u);
    }
    __syncthreads();
    if (threadIdx.x == 0 && new_here) base = atomicAdd(&state->fresh, (unsigned long long)new_here);
    __syncthreads();
    if (i >= n) return;
    fresh[i] = row < 0;
    if (row < 0) {
        unsigned long long k = base + local, freed = state->free_count;
        row = k < freed ? free_rows[freed - 1 - k] : int32_t(state->extent + (k - freed));
        Cell cell{id, table, row};
        __stcg(reinterpret_cast<int4*>(cells) + at, *reinterpret_cast<int4*>(&cell));
    }
    if (wide) put<int64_t>(rows, i, row);
    else put<int32_t>(rows, i, row);
}

__global__ void settle(State* state) {
    unsigned long long k = state->fresh, freed = state->free_count;
    state->live += k;
    state->free_count = k < freed ? freed - k : 0;
    if (k > freed) state->extent += k - freed;
    state->used += k - state->reused;
    state->fresh = state->reused = 0;
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
    for (int64_t at = cell_hash(cell.table - 1, cell.id) & mask;; at = (at + 1) & mask)
        if (__ldcg(&cells[at].table) == 0 && atomicCAS(&cells[at].table, 0, cell.table) == 0) {
            cells[at].id = cell.id;
            cells[at].row = cell.row;
            break;
        }
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
    settle<<<1, 1, 0, stream>>>(tensor<State>(a[1]));
    return cudaGetLastError();
}

EXPORT int64_t id_map_insert(const Arg* a, void*, cudaStream_t stream) {
    int64_t n = a[3].n0;
    if (n == 0) return 0;
    insert<<<blocks_for(n), THREADS, 0, stream>>>(tensor<Cell>(a[0]), a[0].n0 - 1, Index(a[3]),
                                                 tensor<const int64_t>(a[4]), n, a[5].dtype == INT64, a[5].data,
                                                 tensor<bool>(a[6]), tensor<State>(a[1]),
                                                 tensor<const int32_t>(a[2]));
    settle<<<1, 1, 0, stream>>>(tensor<State>(a[1]));
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
