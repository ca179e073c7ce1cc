"""rows_adagrad_rowwise: a row lies in one program, which sums its squares."""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from backends.triton.rows import slot_of
from backends.triton.update import SIZES, Leaves, touched, update
from recis_core.blocks import Blocks


@triton.jit(do_not_specialize=[n for n in SIZES if n != "state2"])
def _rowwise(
    pointers, shift, stride, weight, state1, rows, grad, scale, rate,
    starts, segments, weights, spilled, long, n, lr, eps, decay,
    WEIGHT: tl.constexpr, DIM: tl.constexpr, COLUMNS: tl.constexpr, ROWS: tl.constexpr,
    Q: tl.constexpr,
):  # fmt: skip
    mask, address, at, w, g, rated = touched(
        pointers, shift, stride, weight, rows, grad, scale, rate, starts, segments, weights,
        spilled, long, n, WEIGHT, DIM, COLUMNS, ROWS, Q,
    )  # fmt: skip
    # Lines of rows that are not touched have no address.
    present = tl.max(mask.to(tl.int32), 1) > 0
    row_sum = slot_of(address, state1, tl.float32)
    g += decay * w
    s = tl.load(row_sum, mask=present, other=0) + tl.sum(tl.where(mask, g * g, 0.0), 1) / DIM
    step = lr * rated / (tl.sqrt(s)[:, None] + eps)
    tl.store(at, (w - step * g).to(WEIGHT), mask=mask)
    tl.store(row_sum, s, mask=present)


def rows_adagrad_rowwise(
    blocks: Blocks,
    rows: Tensor,
    grad: Tensor,
    scale: Tensor | None,
    rate: Tensor | None,
    lr: float,
    eps: float,
    decay: float,
    leaves: Leaves | None = None,
) -> None:
    scalars = (float(lr), float(eps), float(decay))
    update(_rowwise, blocks, ("row_sum",), rows, grad, scale, rate, leaves, *scalars)
