"""What hangs on values in the order of their keys: where keys start, and the values' payloads."""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from backends.triton.launch import WIDEN, cover, launch
from backends.triton.search import lower_bound, steps_for
from backends.triton.tiles import load_tile, store_tile

BLOCK = 512 * WIDEN
LOW = tl.constexpr((1 << 32) - 1)


@triton.jit(do_not_specialize=["n", "count", "tiles", "steps"])
def _spread(
    elements, owners, weights, starts, payloads, carried, n, count, tiles, steps,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """Programs below `tiles` write payloads, the others starts."""
    if tl.program_id(0) < tiles:
        begin = tl.program_id(0).to(tl.int64) * BLOCK
        payload = load_tile(elements, begin, n, BLOCK) & LOW
        if owners is None:
            store_tile(payloads, begin, n, payload, BLOCK)
        else:
            store_tile(payloads, begin, n, tl.load(owners + payload), BLOCK)
            store_tile(carried, begin, n, tl.load(weights + payload), BLOCK)
    else:
        u = (tl.program_id(0) - tiles).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
        low = tl.zeros_like(u)
        at = lower_bound(elements, low, low + n, u << 32, u < count, steps)
        tl.store(starts + u, at, mask=u < count)


def spread(
    elements: Tensor,
    distinct: int,
    starts: Tensor,
    payloads: Tensor,
    owners: Tensor | None = None,
    weights: Tensor | None = None,
    carried: Tensor | None = None,
) -> None:
    """Key u has elements starts[u] up to starts[u + 1]; payloads in their order, or owners and
    weights at them."""
    n, count = len(elements), distinct + 1
    tiles = cover(n, BLOCK)
    launch(
        _spread, tiles + cover(count, BLOCK), elements, owners, weights, starts, payloads, carried,
        n, count, tiles, steps_for(n), BLOCK=BLOCK,
    )  # fmt: skip
