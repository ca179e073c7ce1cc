// rows_reduce_sgd: see reduce.cuh.
#include "reduce.cuh"
#include "sgd.cuh"

EXPORT int64_t rows_reduce_sgd_scratch(const Arg* a, void*, cudaStream_t) { return reduce_scratch(a); }

EXPORT int64_t rows_reduce_sgd(const Arg* a, void* scratch, cudaStream_t stream) {
    return run_reduce(a, a + 10, 1, Sgd(a + 8), scratch, stream);
}
