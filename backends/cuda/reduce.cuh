// Row optimizers that take the gradients of pooled leaves where they lie and sum them on the way: the
// gradient of a row is only ever in registers.
//
// What counts is how many rows are under way: slots are asked for after the sum and only two gradients
// at once, which is what 48 registers hold. Sums are in the order of segment.cuh, rows with many
// gradients cut as there.
#pragma once
#include "segment.cuh"
#include "update.cuh"

constexpr int BLOCKS = 5;  // a multiprocessor

using Gradient = float;  // leaves of 16 bits are widened first: the engine's are float32

// Row-wise Adagrad: one accumulator a row, so the whole gradient is summed before any of it is used.
struct Rowwise {
    static constexpr int SLOTS = 0;
    float lr, eps, decay, factor = 0;

    // `a` points at lr of the declared scalars: lr, eps, decay.
    explicit Rowwise(const Arg* a) : lr(float(a[0].f)), eps(float(a[1].f)), decay(float(a[2].f)) {}

    __device__ float square(float w, float g) const { return (g + decay * w) * (g + decay * w); }

    // The same rule, now of a row whose sum of squares is known.
    __device__ Rowwise of(float* sum, float squares, int64_t dim, float rate) const {
        Rowwise own = *this;
        own.factor = lr * rate / (sqrtf(*sum + squares / dim) + eps);
        return own;
    }

    __device__ void operator()(float& w, float g, float*, float) const { w -= factor * (g + decay * w); }
};

template <typename Rule> constexpr bool ROWWISE = std::is_same<Rule, Rowwise>::value;

// The lanes of one row: `width` side by side, `parts` such groups that take its gradients in turn.
struct Group {
    unsigned members;
    int width, parts, part, lane;
    int64_t row;  // its number among those touched

    __device__ Group(int width_bits, int group_bits, int64_t of) : row(of) {
        int size = 1 << group_bits;
        width = 1 << width_bits;
        parts = size >> width_bits;
        members = size == 32 ? ~0u : ((1u << size) - 1) << ((threadIdx.x & 31) & ~(size - 1));
        part = (threadIdx.x & (size - 1)) >> width_bits;
        lane = threadIdx.x & (width - 1);
    }

    __device__ float total(float value, int from, int below) const {
        for (int step = from; step < below; step *= 2) value += __shfl_xor_sync(members, value, step);
        return value;
    }
};

template <int N, int AHEAD, typename I>
__device__ __forceinline__ Sum<N> gradient(const Segments<Gradient, I>& s, const Group& group, int64_t begin,
                                           int64_t end, int64_t column) {
    Sum<N> sum;
    if (column < s.dim) accumulate<Gradient, I, N, AHEAD>(s, begin + group.part, end, group.parts, column, sum);
    int width = group.width, size = width * group.parts;
#pragma unroll
    for (int e = 0; e < N; ++e) sum.at[e] = group.total(sum.at[e], width, size);
    return sum;
}

// Changes row `row` of the blocks by the gradient whose columns every lane gets from `of(column)`.
template <int N, typename Rule, typename Of>
__device__ __forceinline__ void change_row(const Touched& t, Rule rule, const Group& group, int64_t row, int64_t dim,
                                           Of of) {
    char* base = t.blocks.row(row);
    float rate = t.rate.data ? t.rate[group.row] : 1.f;
    int64_t across = int64_t(group.width) * N, column = int64_t(group.lane) * N;
    Sum<N> g;
    if constexpr (ROWWISE<Rule>) {
        float* sum = reinterpret_cast<float*>(base + t.offset[1]);
        float squares = 0;
        for (int64_t at = column; at - column < dim; at += across) {
            g = of(at);
            if (at >= dim) break;
            Slots<N, Rule> slots(t, base, at);
            for (int e = 0; e < N; ++e) squares += rule.square(slots.weight.at[e], g.at[e]);
        }
        squares = group.total(squares, 1, group.width);
        rule = rule.of(sum, squares, dim, rate);
        // Every lane has read the old sum before the first one overwrites it.
        __syncwarp(group.members);
        if (group.lane + group.part == 0) *sum += squares / dim;
    }
    for (int64_t first = 0; first < dim; first += across, column += across) {
        bool mine = column < dim;
        // Of a row that one turn of the lanes covers, the sum is at hand from the squares.
        if (!ROWWISE<Rule> || dim > across) g = of(column);
        if (!mine || group.part) continue;
        Slots<N, Rule> slots(t, base, column);
        slots.change(rule, g.at, rate);
        slots.store(t, base, column);
    }
}

// What is done with the gradient of a row with many, by a warp.
template <int N, typename Rule> struct Changed {
    const Touched& t;
    Rule rule;
    int64_t dim;
    int width_bits;

    template <typename Of> __device__ void operator()(int64_t i, Of of) const {
        int64_t row = t.rows[i];
        if (row >= 0) change_row<N>(t, rule, Group(width_bits, 5, i), row, dim, of);
    }
};

template <int N, int AHEAD, typename I, typename Rule>
__global__ void __launch_bounds__(THREADS, BLOCKS) reduce_rows(Segments<Gradient, I> s, Touched t, Rule rule,
                                                               Pieces pieces, int width_bits, int group_bits) {
    if (blockIdx.x < pieces.joins()) return join_ranges<Gradient, I, N>(s, pieces, width_bits, Changed<N, Rule>{t, rule, s.dim, width_bits});
    Group group(width_bits, group_bits, (int64_t(blockIdx.x - pieces.joins()) * THREADS + threadIdx.x) >> group_bits);
    int64_t i = group.row, row = i < s.count ? t.rows[i] : -1;
    if (row < 0) return;
    int64_t begin = s.offsets[i], end = s.offsets[i + 1];
    if (end - begin > pieces.longest) return;  // the whole group, so no shuffle below waits for it
    change_row<N>(t, rule, group, row, s.dim, [&](int64_t column) {
        return gradient<N, AHEAD>(s, group, begin, end, column);
    });
}

template <int N, typename I, typename Rule>
__global__ void __launch_bounds__(THREADS, 4)
    reduce_long(Segments<Gradient, I> s, Touched t, Rule rule, Pieces pieces, int width_bits) {
    sum_long<Gradient, I, N>(s, pieces, width_bits, Changed<N, Rule>{t, rule, s.dim, width_bits});
}

template <typename I, typename Rule>
int64_t launch_reduce(const Segments<Gradient, I>& s, const Touched& t, Rule rule, void* scratch,
                      cudaStream_t stream) {
    auto launch = [&](auto elements) {
        constexpr int N = decltype(elements)::value;
        int width = log2_up((s.dim + N - 1) / N, 5);
        int parts = log2_up(s.total / s.count / 4, 5 - width);
        Pieces pieces(scratch, s.total, s.dim, longest_of(s.total, s.count, parts));
        if (pieces.any())
            reduce_long<N><<<unsigned(pieces.ranges), THREADS, 0, stream>>>(s, t, rule, pieces, width);
        launch_short(reduce_rows<N, 2, I, Rule>, pieces, blocks_for(s.count << (width + parts)), 0, stream, s, t, rule,
                     pieces, width, width + parts);
    };
    if (access_width(s.dim * 4, s.values) == 16) launch(std::integral_constant<int, 4>{});
    else launch(std::integral_constant<int, 1>{});
    return cudaGetLastError();
}

__global__ void widen_all(Floats from, int64_t n, float* out) {
    int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
    if (i < n) out[i] = from[i];
}

// Scratch: what is not float32 widened, gradients first, then the scales; then the pieces.
inline int64_t wide_bytes(const Arg& a, int64_t n) {
    return a.given && a.dtype != FLOAT32 ? Pieces::round(n * 4) : 0;
}

inline int64_t reduce_scratch(const Arg* a) {
    return wide_bytes(a[2], a[2].n0 * a[2].n1) + wide_bytes(a[3], a[3].n0) + Pieces::bytes(a[5].n0, a[2].n1);
}

// Records in the declared order: blocks, rows, grad, scale, starts, segments, weights, rate, scalars …
template <typename Rule>
int64_t run_reduce(const Arg* a, const Arg* slots, int count, Rule rule, void* scratch, cudaStream_t stream) {
    if (a[1].n0 == 0 || a[2].n1 == 0) return 0;
    char* at = static_cast<char*>(scratch);
    auto widened = [&](const Arg& given, int64_t n) {
        int64_t bytes = wide_bytes(given, n);
        if (bytes == 0) return tensor<float>(given);
        auto* out = reinterpret_cast<float*>(at);
        widen_all<<<blocks_for(n), THREADS, 0, stream>>>(Floats(given), n, out);
        at += bytes;
        return out;
    };
    float* grad = widened(a[2], a[2].n0 * a[2].n1);
    float* scale = widened(a[3], a[3].n0);
    Arg touched[5] = {a[0], a[1], a[2], Arg{}, a[7]};
    Touched t(touched, slots, count);
    auto run = [&](auto index, auto starts) {
        using I = decltype(index);
        return launch_reduce(Segments<Gradient, I>{grad, nullptr, index, starts, Floats(a[6]), scale, nullptr,
                                                   a[1].n0, a[2].n1, a[5].n0, false},
                             t, rule, at, stream);
    };
    if (a[5].dtype == INT32 && a[4].dtype == INT32) return run(tensor<const int>(a[5]), tensor<const int>(a[4]));
    return run(Index(a[5]), Index(a[4]));
}
