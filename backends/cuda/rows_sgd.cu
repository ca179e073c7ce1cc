// rows_sgd: w -= lr·rate·(g + decay·w).
#include "update.cuh"

struct Sgd {
    static constexpr int SLOTS = 0;
    float lr, decay;

    __device__ void operator()(float& w, float g, float*, float rate) const {
        w -= lr * rate * (g + decay * w);
    }
};

EXPORT int64_t rows_sgd(const Arg* a, void*, cudaStream_t stream) {
    return run_update(Touched(a, a + 7, 1), Sgd{float(a[5].f), float(a[6].f)}, stream);
}
