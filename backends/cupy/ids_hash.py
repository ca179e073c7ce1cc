"""ids_hash: a thread a string, by the hashes shared with backend cuda."""

from __future__ import annotations

from torch import Tensor

from backends.cupy.device import DEVICE
from backends.cupy.hashes import hashes
from backends.cupy.queue import Queue, Source, blocks_for, code

SOURCE = Source(
    "ids_hash",
    DEVICE
    + hashes()
    + r"""
KERNEL hash(const u8* data, const void* offsets_data, i64 offsets_code, i64 n, i64 farm, i64* out) {
    Index offsets(offsets_data, offsets_code);
    for (i64 i = THIS_THREAD; i < n; i += ALL_THREADS) {
        i64 begin = offsets[i], size = offsets[i + 1] - begin;
        out[i] = i64(farm ? farm64(data + begin, size) : murmur64a(data + begin, size));
    }
}
""",
)


def ids_hash(data: Tensor, offsets: Tensor, kind: str, out: Tensor) -> None:
    n = len(out)
    if n == 0:
        return
    with Queue(data.device) as queue:
        queue.launch(
            SOURCE, "hash", blocks_for(n), data, offsets, code(offsets), n, int(kind == "farm"), out
        )
