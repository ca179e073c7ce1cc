// rows_adagrad_rowwise: one accumulator a row; a group of lanes sums the row's squares.
#include "update.cuh"

__global__ void rowwise(Touched t, int width, float lr, float eps, float decay) {
    int64_t i = (int64_t(blockIdx.x) * blockDim.x + threadIdx.x) / width;
    int lane = threadIdx.x % width;
    float scale = t.scale ? float(*t.scale) : 1.f;
    int64_t row = i < t.n ? t.rows[i] : -1;
    char* base = row < 0 ? nullptr : t.blocks.row(row);
    Floats weight(base + t.offset[0], t.weight);
    float squares = 0;
    if (base)
        for (int64_t d = lane; d < t.dim; d += width) {
            float g = t.grad[i * t.dim + d] * scale + decay * weight[d];
            squares += g * g;
        }
    for (int step = width / 2; step; step /= 2) squares += __shfl_xor_sync(~0u, squares, step);
    if (!base) return;
    float* sum = reinterpret_cast<float*>(base + t.offset[1]);
    float s = *sum + squares / t.dim, rate = t.rate.data ? t.rate[i] : 1.f;
    float factor = lr * rate / (sqrtf(s) + eps);
    // Every lane has read the old sum before the first one overwrites it.
    __syncwarp(__activemask());
    for (int64_t d = lane; d < t.dim; d += width) {
        float w = weight[d], g = t.grad[i * t.dim + d] * scale + decay * w;
        weight.store<1>(d, Pack<float, 1>{w - factor * g});
    }
    if (lane == 0) *sum = s;
}

EXPORT int64_t rows_adagrad_rowwise(const Arg* a, void*, cudaStream_t stream) {
    Touched t(a, a + 8, 2);
    if (t.n == 0 || t.dim == 0) return 0;
    int width = 1;
    while (width < 32 && width < t.dim) width *= 2;
    rowwise<<<blocks_for(t.n * width), THREADS, 0, stream>>>(t, width, float(a[5].f),
                                                            float(a[6].f), float(a[7].f));
    return cudaGetLastError();
}
