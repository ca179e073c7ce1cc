// segment_sum_grad: grad, starts, segments, weights -> out; the transposed index is the segments.
#include "segment.cuh"

EXPORT int64_t segment_sum_grad_scratch(const Arg* a, void*, cudaStream_t) {
    return Pieces::bytes(a[2].n0, a[0].n1);
}

EXPORT int64_t segment_sum_grad(const Arg* a, void* scratch, cudaStream_t stream) {
    return run_segments(a[0], a[2], a[1], a[3], a[4], nullptr, nullptr, scratch, stream);
}
