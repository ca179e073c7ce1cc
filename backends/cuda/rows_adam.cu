// rows_adam: decay joins the gradient; "torch" or "tensorflow" epsilon.
#include "adam.cuh"

struct Adam {
    static constexpr int SLOTS = 2;
    Moments m;

    __device__ void operator()(float& w, float g, float* s, float rate) const {
        w -= m.move(g + m.decay * w, s, rate);
    }
};

EXPORT int64_t rows_adam(const Arg* a, void*, cudaStream_t stream) {
    return run_update(Touched(a, a + 13, 3), Adam{Moments(a + 5)}, stream);
}
