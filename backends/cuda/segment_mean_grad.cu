// segment_mean_grad: grad, scale, starts, segments, weights -> out.
#include "segment.cuh"

// scale may come in the value dtype; the kernel reads float.
__global__ void widen_scale(Floats scale, int64_t n, float* out) {
    int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
    if (i < n) out[i] = scale[i];
}

EXPORT int64_t segment_mean_grad_scratch(const Arg* a, void*, cudaStream_t) {
    return Pieces::round(a[1].n0 * 4) + Pieces::bytes(a[3].n0, a[0].n1);
}

EXPORT int64_t segment_mean_grad(const Arg* a, void* scratch, cudaStream_t stream) {
    const float* factor = tensor<const float>(a[1]);
    if (a[1].dtype != FLOAT32 && a[1].n0) {
        widen_scale<<<blocks_for(a[1].n0), THREADS, 0, stream>>>(Floats(a[1]), a[1].n0,
                                                                static_cast<float*>(scratch));
        factor = static_cast<float*>(scratch);
    }
    return run_segments(a[0], a[3], a[2], a[4], a[5], factor, nullptr,
                        static_cast<char*>(scratch) + Pieces::round(a[1].n0 * 4), stream);
}
