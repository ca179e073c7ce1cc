// rows_reduce_adagrad: see reduce.cuh.
#include "reduce.cuh"
#include "adagrad.cuh"

EXPORT int64_t rows_reduce_adagrad_scratch(const Arg* a, void*, cudaStream_t) { return reduce_scratch(a); }

EXPORT int64_t rows_reduce_adagrad(const Arg* a, void* scratch, cudaStream_t stream) {
    return run_reduce(a, a + 11, 2, Adagrad(a + 8), scratch, stream);
}
