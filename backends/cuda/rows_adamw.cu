// rows_adamw: see adam.cuh.
#include "adam.cuh"

EXPORT int64_t rows_adamw(const Arg* a, void*, cudaStream_t stream) {
    return run_update(Touched(a, a + 13, 3), AdamW(a + 5), stream);
}
