"""Lay segments out at a fixed length: rows copied, or weighted, then zeros."""

from __future__ import annotations

from torch import Tensor

from backends.numba.arithmetic import spread
from backends.numba.lanes import address_of, form_of, load, scalar, store, width_of
from backends.numba.memory import (
    STREAMED,
    clear,
    copy,
    prefetch,
    stream,
    stream_clear,
    whole_lines,
)
from backends.numba.threads import kernel, share

AHEAD = 4096


@kernel
def tile(
    begin,
    end,
    values,
    index,
    offsets,
    weights,
    weight_form,
    length,
    dim,
    ahead,
    form,
    streaming,
    out,
):
    """Segments [begin, end); prefetching runs through dropped positions too, which is harmless."""
    row_bytes = dim * width_of(form)
    last = offsets[end]
    streaming = streaming and whole_lines(out, row_bytes)
    for s in range(begin, end):
        first = offsets[s]
        kept = min(offsets[s + 1] - first, length)
        to = out + s * length * row_bytes
        for k in range(first, first + kept):
            if k + ahead < last:
                prefetch(values + index[k + ahead] * row_bytes, row_bytes)
            source = values + index[k] * row_bytes
            if streaming and weights == 0:
                stream(to, source, row_bytes)
            elif weights == 0:
                copy(to, source, row_bytes)
            else:
                w = spread(scalar(weights, k, weight_form))
                for column in range(0, dim, 16):
                    at = column * width_of(form)
                    left = dim - column
                    store(to + at, left, w * load(source + at, left, form), form)
            to += row_bytes
        if streaming:
            stream_clear(to, (length - kept) * row_bytes)
        else:
            clear(to, (length - kept) * row_bytes)


def segment_tile(
    values: Tensor,
    index: Tensor,
    offsets: Tensor,
    weights: Tensor | None,
    length: int,
    out: Tensor,
) -> None:
    dim = values.shape[1]
    ahead = max(4, AHEAD // max(dim * values.itemsize, 1))
    share(
        tile,
        len(out),
        2 * out.nbytes,
        values.data_ptr(),
        index.numpy(),
        offsets.numpy(),
        address_of(weights),
        form_of(weights),
        length,
        dim,
        ahead,
        form_of(values),
        out.nbytes >= STREAMED,
        out.data_ptr(),
    )
