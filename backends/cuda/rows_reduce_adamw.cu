// rows_reduce_adamw: see reduce.cuh.
#include "reduce.cuh"
#include "adam.cuh"

EXPORT int64_t rows_reduce_adamw_scratch(const Arg* a, void*, cudaStream_t) { return reduce_scratch(a); }

EXPORT int64_t rows_reduce_adamw(const Arg* a, void* scratch, cudaStream_t stream) {
    return run_reduce(a, a + 16, 3, AdamW(a + 8), scratch, stream);
}
