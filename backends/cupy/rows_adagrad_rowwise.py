"""rows_adagrad_rowwise: a group of lanes a row, which sum the row's squares."""

from __future__ import annotations

from torch import Tensor

from backends.cupy.queue import Queue, Source, blocks_for
from backends.cupy.update import HEAD, slots_of, touched
from recis_core.blocks import Blocks

SOURCE = Source(
    "rows_adagrad_rowwise",
    HEAD
    + r"""
KERNEL rowwise(const u64* pointers, i64 stride, i64 log2_rows, const void* rows, i64 rows_code,
               const void* grad_data, i64 grad_code, const double* scaled, const void* rate_data,
               i64 rate_code, i64 n, i64 dim, i64 weight_offset, i64 sum_offset, i64 weight_code,
               i64 log2_width, double lr, double eps, double decay_) {
    Rows blocks{pointers, stride, log2_rows};
    Floats grad(grad_data, grad_code), rate(rate_data, rate_code);
    i64 width = i64(1) << log2_width;
    i64 i = THIS_THREAD >> log2_width, lane = threadIdx.x & (width - 1);
    float scale = scaled ? float(*scaled) : 1.f, decay = float(decay_);
    i64 row = i < n ? Index(rows, rows_code)[i] : -1;
    char* base = row < 0 ? nullptr : blocks[row];
    Floats weight(base + weight_offset, weight_code);
    float squares = 0;
    if (base)
        for (i64 d = lane; d < dim; d += width) {
            float g = grad[i * dim + d] * scale + decay * weight[d];
            squares += g * g;
        }
    // A group is within one warp, all lanes of which are here.
    for (int step = int(width) / 2; step; step /= 2) squares += __shfl_xor_sync(~0u, squares, step);
    float* sum = reinterpret_cast<float*>(base + sum_offset);
    float s = base ? *sum + squares / float(dim) : 0.f;
    // Every lane has read the old sum before the first one overwrites it.
    __syncwarp();
    if (!base) return;
    float factor = float(lr) * (rate.data ? rate[i] : 1.f) / (sqrtf(s) + float(eps));
    for (i64 d = lane; d < dim; d += width) {
        float w = weight[d], g = grad[i * dim + d] * scale + decay * w;
        weight.store<1>(d, Pack<float, 1>{{w - factor * g}});
    }
    if (lane == 0) *sum = s;
}
""",
)


def rows_adagrad_rowwise(
    blocks: Blocks,
    rows: Tensor,
    grad: Tensor,
    scale: Tensor | None,
    rate: Tensor | None,
    lr: float,
    eps: float,
    decay: float,
) -> None:
    n, dim = grad.shape
    if n == 0 or dim == 0:
        return
    offsets, weight = slots_of(blocks, "weight", "row_sum")
    log2_width = min(5, (dim - 1).bit_length())
    with Queue(rows.device) as queue:
        queue.launch(
            SOURCE, "rowwise", blocks_for(n << log2_width),
            *touched(blocks, rows, grad, scale, rate),
            *offsets, weight, log2_width, float(lr), float(eps), float(decay),
        )  # fmt: skip
