// The shape of every row optimizer: N elements of a row a thread, all slots of the row at once.
#pragma once
#include "arg.cuh"

// Arguments every optimizer shares, as declared in rows_sgd: blocks, rows, grad, scale, rate.
struct Touched {
    Rows blocks;
    Index rows;
    Floats grad;
    const double* scale;
    Floats rate;
    int64_t n, dim;
    int64_t offset[3];  // of the slots, "weight" first
    int weight;         // its dtype

    // `slots` are the records after the op's own arguments.
    Touched(const Arg* a, const Arg* slots, int count)
        : blocks(a[0]), rows(a[1]), grad(a[2]), scale(tensor<const double>(a[3])), rate(a[4]),
          n(a[1].n0), dim(slots[0].n1), weight(slots[0].dtype) {
        for (int s = 0; s < count; ++s) offset[s] = slots[s].n0;
    }
};

// N columns of a row's slots, read at once, changed, written back. `Rule` has SLOTS (state slots beside
// the weight) and operator()(w, g, state, rate).
template <int N, typename Rule> struct Slots {
    static constexpr int COUNT = Rule::SLOTS, ROOM = COUNT ? COUNT : 1;
    Pack<float, N> weight, state[ROOM];

    __device__ Pack<float, N>* slot(const Touched& t, char* base, int64_t at, int s) const {
        return reinterpret_cast<Pack<float, N>*>(reinterpret_cast<float*>(base + t.offset[s + 1]) + at);
    }

    __device__ Slots(const Touched& t, char* base, int64_t at) {
        weight = Floats(base + t.offset[0], t.weight).template load<N>(at);
#pragma unroll
        for (int s = 0; s < COUNT; ++s) state[s] = *slot(t, base, at, s);
    }

    __device__ void change(const Rule& rule, const float* g, float rate) {
#pragma unroll
        for (int e = 0; e < N; ++e) {
            float own[ROOM];
            for (int s = 0; s < COUNT; ++s) own[s] = state[s].at[e];
            rule(weight.at[e], g[e], own, rate);
            for (int s = 0; s < COUNT; ++s) state[s].at[e] = own[s];
        }
    }

    __device__ void store(const Touched& t, char* base, int64_t at) const {
        Floats(base + t.offset[0], t.weight).template store<N>(at, weight);
#pragma unroll
        for (int s = 0; s < COUNT; ++s) *slot(t, base, at, s) = state[s];
    }
};

template <int N, typename Rule> __global__ void update(Touched t, int lanes, Rule rule) {
    float scale = t.scale ? float(*t.scale) : 1.f;
    for (int64_t k = int64_t(blockIdx.x) * blockDim.x + threadIdx.x; k < t.n * lanes;
         k += int64_t(gridDim.x) * blockDim.x) {
        int64_t i = (lanes & (lanes - 1)) ? k / lanes : k >> (__ffs(lanes) - 1);
        int64_t at = (k - i * lanes) * N, row = t.rows[i];
        if (row < 0) continue;
        char* base = t.blocks.row(row);
        auto g = t.grad.load<N>(i * t.dim + at);
        Slots<N, Rule> slots(t, base, at);
        float rate = t.rate.data ? t.rate[i] : 1.f;
        for (int e = 0; e < N; ++e) g.at[e] *= scale;
        slots.change(rule, g.at, rate);
        slots.store(t, base, at);
    }
}

template <typename Rule> int64_t run_update(const Touched& t, Rule rule, cudaStream_t stream) {
    if (t.n == 0 || t.dim == 0) return 0;
    auto launch = [&](auto width) {
        constexpr int N = decltype(width)::value;
        int lanes = int(t.dim / N);
        update<N><<<blocks_for(t.n * lanes), THREADS, 0, stream>>>(t, lanes, rule);
    };
    bool aligned = reinterpret_cast<uint64_t>(t.grad.data) % (4 * item_size(t.grad.dtype)) == 0;
    if (t.dim % 4 == 0 && aligned) launch(std::integral_constant<int, 4>{});
    else launch(std::integral_constant<int, 1>{});
    return cudaGetLastError();
}
