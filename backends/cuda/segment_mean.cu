// segment_mean: values, index, offsets, weights -> out, scale.
#include "segment.cuh"

EXPORT int64_t segment_mean_scratch(const Arg* a, void*, cudaStream_t) {
    return Pieces::bytes(a[1].n0, a[0].n1);
}

EXPORT int64_t segment_mean(const Arg* a, void* scratch, cudaStream_t stream) {
    return run_segments(a[0], a[1], a[2], a[3], a[4], nullptr, tensor<float>(a[5]), scratch, stream);
}
