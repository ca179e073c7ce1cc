"""Values in the order of their keys: the sort is torch's, what hangs on it is here."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from backends.triton.launch import WIDEN, cover, launch
from backends.triton.search import lower_bound, steps_for

BLOCK = 256 * WIDEN


@triton.jit(do_not_specialize=["n", "count", "steps"])
def _starts(ordered, starts, n, count, steps, BLOCK: tl.constexpr):
    u = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    low = tl.zeros_like(u)
    at = lower_bound(ordered, low, low + n, u, u < count, steps)
    tl.store(starts + u, at, mask=u < count)


def group(keys: Tensor, distinct: int, starts: Tensor) -> Tensor:
    """Positions int64 [n] in the stable order of `keys`; key u has positions starts[u] up to
    starts[u + 1]."""
    # A radix sort goes through all bits of its keys' dtype.
    fitting = (torch.int16, torch.int32, torch.int64)
    kind = next(d for d in fitting if distinct - 1 <= torch.iinfo(d).max)
    narrow = keys.to(kind) if kind.itemsize < keys.itemsize else keys
    ordered, order = torch.sort(narrow, stable=True)
    n = len(keys)
    launch(
        _starts, cover(distinct + 1, BLOCK), ordered, starts, n, distinct + 1, steps_for(n),
        BLOCK=BLOCK,
    )  # fmt: skip
    return order
