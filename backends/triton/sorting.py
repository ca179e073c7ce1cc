"""Values in the order of their keys: the sort is torch's, what hangs on it is here."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from backends.triton.launch import WIDEN, cover, launch
from backends.triton.search import lower_bound, steps_for
from backends.triton.tiles import load_tile, store_tile

BLOCK = 512 * WIDEN


@triton.jit(do_not_specialize=["n", "count", "tiles", "steps"])
def _spread(
    ordered, order, starts, source1, target1, source2, target2, n, count, tiles, steps,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """Programs below `tiles` bring what values have into their order, the others write starts."""
    if tl.program_id(0) < tiles:
        begin = tl.program_id(0).to(tl.int64) * BLOCK
        k = load_tile(order, begin, n, BLOCK)
        if source1 is not None:
            store_tile(target1, begin, n, tl.load(source1 + k), BLOCK)
        if source2 is not None:
            store_tile(target2, begin, n, tl.load(source2 + k), BLOCK)
    else:
        u = (tl.program_id(0) - tiles).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
        low = tl.zeros_like(u)
        at = lower_bound(ordered, low, low + n, u, u < count, steps)
        tl.store(starts + u, at, mask=u < count)


def group(
    keys: Tensor, distinct: int, starts: Tensor, *moved: tuple[Tensor, Tensor | None]
) -> Tensor:
    """Positions int64 [n] in the stable order of `keys`; key u has positions starts[u] up to
    starts[u + 1]. moved: up to two pairs (source, target), each source brought into that order.
    """
    # A radix sort goes through all bits of its keys' dtype.
    fitting = [torch.int16, torch.int32, torch.int64]
    kind = next(d for d in fitting if distinct - 1 <= torch.iinfo(d).max)
    narrow = keys.to(kind) if kind.itemsize < keys.itemsize else keys
    ordered, order = torch.sort(narrow, stable=True)
    n, count = len(keys), distinct + 1
    sources = [*(t for pair in moved for t in pair), *([None] * 4)][:4]
    tiles = cover(n, BLOCK) if moved else 0
    launch(
        _spread, tiles + cover(count, BLOCK), ordered, order, starts, *sources, n, count, tiles,
        steps_for(n), BLOCK=BLOCK,
    )  # fmt: skip
    return order
