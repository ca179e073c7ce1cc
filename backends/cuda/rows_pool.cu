// rows_pool: segment_sum with rows read where they lie in the blocks.
#include "segment.cuh"

// Element k is the row in the blocks that value k names.
template <typename I> struct Located {
    using K = typename Position<I>::type;
    static constexpr K ABSENT = K(~(K(1) << (sizeof(K) * 8 - 1)));  // -1 without its sign: no index is negative

    I index, rows;
    Rows blocks;
    int64_t offset;

    __device__ K operator[](int64_t k) const { return K(rows[index[k]]) & ABSENT; }

    template <typename T, int N> __device__ __forceinline__ Pack<T, N> fetch(K row, int64_t column) const {
        if (row == ABSENT) return Pack<T, N>{};
        return *reinterpret_cast<const Pack<T, N>*>(blocks.row(row) + offset + column * sizeof(T));
    }
};

template <typename I> struct Position<Located<I>> {
    using type = typename Position<I>::type;
    using Offsets = I;
    static constexpr bool OF_VALUES = false, PLAIN = false;
};

EXPORT int64_t rows_pool_scratch(const Arg* a, void*, cudaStream_t) { return Pieces::bytes(a[3].n0, a[1].n1); }

// blocks, slot, rows, index, offsets, weights -> out.
EXPORT int64_t rows_pool(const Arg* a, void* scratch, cudaStream_t stream) {
    const Arg &slot = a[1], &rows = a[2], &index = a[3], &offsets = a[4], &out = a[6];
    int64_t count = offsets.n0 - 1, dim = slot.n1;
    if (count == 0 || dim == 0) return 0;
    WITH_VALUES(slot.dtype, T, {
        auto run = [&](auto of_values, auto of_rows, auto of_segments) {
            using I = decltype(of_values);
            Located<I> located{of_values, of_rows, Rows(a[0]), slot.n0};
            Segments<T, Located<I>> s{nullptr,   tensor<T>(out), located, of_segments, Floats(a[5]),
                                      nullptr,   nullptr,        count,   dim,         index.n0,
                                      once(dim * sizeof(T), index.n0, count)};
            return launch_segments(s, scratch, stream);
        };
        if (index.dtype == INT32 && rows.dtype == INT32 && offsets.dtype == INT32)
            return run(tensor<const int>(index), tensor<const int>(rows), tensor<const int>(offsets));
        return run(Index(index), Index(rows), Index(offsets));
    })
    return 0;
}
