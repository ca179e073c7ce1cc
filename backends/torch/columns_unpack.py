"""columns_unpack: one converting copy per piece."""

from __future__ import annotations

import torch
from torch import Tensor

from recis_core.ops.columns_unpack import SOURCES, TARGETS
from recis_core.types import index_dtype

# uint64 goes to int64 by its bits.
DTYPES = tuple(getattr(torch, name) for name in SOURCES)
BOUNDS, IDS, UINT64 = TARGETS.index("bounds"), TARGETS.index("ids"), SOURCES.index("uint64")


def columns_unpack(
    buffer: Tensor, pieces: Tensor, ids: int, values: int, octets: int, bounds: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    if buffer.storage_offset() % 8:
        buffer = buffer.clone()
    width = getattr(torch, index_dtype(max(ids, values, octets, bounds)))
    out = (
        buffer.new_zeros(ids, dtype=torch.int64),
        buffer.new_zeros(values, dtype=torch.float32),
        buffer.new_zeros(octets),
        buffer.new_zeros(bounds, dtype=width),
    )
    for start, count, source, target, to, base in pieces.tolist():
        if not count:
            continue
        dtype = torch.int64 if source == UINT64 and target != 1 else DTYPES[source]
        raw = buffer[start : start + count * dtype.itemsize].view(dtype)
        place = out[target][to : to + count]
        if target == BOUNDS:
            raw = raw.long()
            torch.add(raw, base - raw[0], out=place)
        else:
            place.copy_(raw)
    return out
