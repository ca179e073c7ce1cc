// rows_sgd: see sgd.cuh.
#include "sgd.cuh"

EXPORT int64_t rows_sgd(const Arg* a, void*, cudaStream_t stream) {
    return run_update(Touched(a, a + 7, 1), Sgd(a + 5), stream);
}
