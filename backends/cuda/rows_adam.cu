// rows_adam: see adam.cuh.
#include "adam.cuh"

EXPORT int64_t rows_adam(const Arg* a, void*, cudaStream_t stream) {
    return run_update(Touched(a, a + 13, 3), Adam(a + 5), stream);
}
