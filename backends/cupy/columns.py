"""CUDA text: which column an element of a packed array lies in, a search a block where it can."""

TILE = 2048

COLUMNS = r"""
constexpr i64 TILE = 2048;

// The last column f in [low, high) with splits[f] <= i.
INLINE i64 column_of(const Index& splits, i64 low, i64 high, i64 i) {
    while (high - low > 1) {
        i64 middle = (low + high) / 2;
        if (splits[middle] <= i) low = middle;
        else high = middle;
    }
    return low;
}

// Columns of elements [begin, end): searched by two threads, so that where a block lies in one
// column no other search is paid. Every thread of the block must call it.
struct Columns {
    i64 first, last;
    INLINE Columns(const Index& splits, i64 columns, i64 begin, i64 end) {
        __shared__ i64 found[2];
        __syncthreads();
        if (threadIdx.x % 32 == 0 && threadIdx.x < 64) {
            i64 i = threadIdx.x ? end - 1 : begin;
            found[threadIdx.x / 32] = columns > 1 ? column_of(splits, 0, columns, i) : 0;
        }
        __syncthreads();
        first = found[0];
        last = found[1];
    }
    INLINE i64 of(const Index& splits, i64 i) const {
        return first == last ? first : column_of(splits, first, last + 1, i);
    }
};

// The column of an element, the same for all lanes of a warp: 33 times fewer candidates a load, and
// no barrier.
INLINE i64 column_of_warp(const Index& splits, i64 columns, i64 i) {
    i64 low = 0, high = columns;
    while (high - low > 1) {
        i64 step = (high - low + 32) / 33, probe = low + step * (threadIdx.x % 32 + 1);
        unsigned below = __ballot_sync(~0u, probe < high && splits[probe] <= i);
        low += step * __popc(below);
        if (high > low + step) high = low + step;
    }
    return low;
}

INLINE i64 walk(const Index& splits, i64 column, i64 i) {
    while (splits[column + 1] <= i) ++column;
    return column;
}
"""
