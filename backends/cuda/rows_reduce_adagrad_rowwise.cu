// rows_reduce_adagrad_rowwise: see reduce.cuh.
#include "reduce.cuh"


EXPORT int64_t rows_reduce_adagrad_rowwise_scratch(const Arg* a, void*, cudaStream_t) { return reduce_scratch(a); }

EXPORT int64_t rows_reduce_adagrad_rowwise(const Arg* a, void* scratch, cudaStream_t stream) {
    return run_reduce(a, a + 11, 2, Rowwise(a + 8), scratch, stream);
}
