"""segment_tile: a vector of an output row a thread."""

from __future__ import annotations

from torch import Tensor

from backends.cupy.device import DEVICE
from backends.cupy.queue import Queue, Source, blocks_for, code, lanes_of, width_of

SOURCE = Source(
    "segment_tile",
    DEVICE
    + r"""
template <int N>
INLINE void tile(Floats values, Index index, Index offsets, Floats weights, i64 cells, i64 length,
                 i64 lanes, i64 shift, i64 length_shift, Floats out) {
    for (i64 t = THIS_THREAD; t < cells * lanes; t += ALL_THREADS) {
        i64 cell = quotient(t, lanes, shift), segment = quotient(cell, length, length_shift);
        i64 k = offsets[segment] + (cell - segment * length);
        Pack<float, N> value{};
        if (k < offsets[segment + 1]) {
            value = values.load<N>((index[k] * lanes + (t - cell * lanes)) * N);
            if (weights.data) {
                float by = weights[k];
#pragma unroll
                for (int e = 0; e < N; ++e) value.at[e] *= by;
            }
        }
        out.store<N>(t * N, value);
    }
}

#define TILES(N)                                                                                  \
    KERNEL tile_##N(const void* values, i64 code, const void* index, i64 index_code,              \
                    const void* offsets, i64 offsets_code, const void* weights, i64 weights_code, \
                    i64 cells, i64 length, i64 lanes, i64 shift, i64 length_shift, void* out) {   \
        tile<N>({values, code}, {index, index_code}, {offsets, offsets_code},                     \
                {weights, weights_code}, cells, length, lanes, shift, length_shift, {out, code}); \
    }
TILES(1)
TILES(2)
TILES(4)
TILES(8)
""",
)


def segment_tile(
    values: Tensor,
    index: Tensor,
    offsets: Tensor,
    weights: Tensor | None,
    length: int,
    out: Tensor,
) -> None:
    dim, cells = values.shape[1], (len(offsets) - 1) * length
    if cells == 0 or dim == 0:
        return
    each = max(1, width_of(dim * values.itemsize, values, out) // values.itemsize)
    lanes = dim // each
    with Queue(values.device) as queue:
        queue.launch(
            SOURCE, f"tile_{each}", blocks_for(cells * lanes),
            values, code(values), index, code(index), offsets, code(offsets),
            weights, code(weights), cells, length, lanes, lanes_of(lanes), lanes_of(length), out,
        )  # fmt: skip
