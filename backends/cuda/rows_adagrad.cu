// rows_adagrad: s += g²; w -= lr·rate·g / (√s + eps).
#include "update.cuh"

struct Adagrad {
    static constexpr int SLOTS = 1;
    float lr, eps, decay;

    __device__ void operator()(float& w, float g, float* s, float rate) const {
        g += decay * w;
        s[0] += g * g;
        w -= lr * rate * g / (sqrtf(s[0]) + eps);
    }
};

EXPORT int64_t rows_adagrad(const Arg* a, void*, cudaStream_t stream) {
    Adagrad rule{float(a[5].f), float(a[6].f), float(a[7].f)};
    return run_update(Touched(a, a + 8, 2), rule, stream);
}
