// rows_adamw: decoupled decay; forms "torch", "recis", "tensorflow".
#include "adam.cuh"

struct AdamW {
    static constexpr int SLOTS = 2;
    Moments m;
    bool plain;  // "tensorflow": the decay is not multiplied by the learning rate

    __device__ void operator()(float& w, float g, float* s, float rate) const {
        w *= 1.f - (plain ? m.decay : m.lr * rate * m.decay);
        w -= m.move(g, s, rate);
    }
};

EXPORT int64_t rows_adamw(const Arg* a, void*, cudaStream_t stream) {
    return run_update(Touched(a, a + 13, 3), AdamW{Moments(a + 5), a[12].i == 2}, stream);
}
