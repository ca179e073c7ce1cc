// rows_adagrad: see adagrad.cuh.
#include "adagrad.cuh"

EXPORT int64_t rows_adagrad(const Arg* a, void*, cudaStream_t stream) {
    return run_update(Touched(a, a + 8, 2), Adagrad(a + 5), stream);
}
