// segment_sum: values, index, offsets, weights -> out.
#include "segment.cuh"

EXPORT int64_t segment_sum_scratch(const Arg* a, void*, cudaStream_t) {
    return Pieces::bytes(a[1].n0, a[0].n1);
}

EXPORT int64_t segment_sum(const Arg* a, void* scratch, cudaStream_t stream) {
    return run_segments(a[0], a[1], a[2], a[3], a[4], nullptr, nullptr, scratch, stream);
}
