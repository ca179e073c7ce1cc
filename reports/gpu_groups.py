"""The ops of the sparse part of a step, group by group, at the sizes of a workload, on a GPU.

    python3 -m reports.gpu_groups FILE.jsonl [BACKEND …]

writes a record for each op and group of `mse bench` (a batch of 8,192; roofline/step_groups.py):
time with L2 flushed, bytes at the least, and its share of the copy roof of the same run. What
`CHECKED` names agrees with backend torch before it is timed.
"""

from __future__ import annotations

import statistics
import sys
from collections import defaultdict
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch

import backends
from recis_core.kernels import Kernels, find_op
from recis_core.tolerance import Disagreement
from reports.gpu_record import DEVICE, record
from reports.gpu_run import build, copy_roof, seconds
from reports.records import append
from roofline.step_groups import StepGroup, calls, step_groups

SIZE, ROWS = "bench", 8192
APART = 1e-5  # of the norm
CHECKED = "ids_transpose", "rows_pool", "segment_sum_grad"


def check(name: str, got: Any, want: Any) -> None:
    """Raises Disagreement where integers differ or values are apart by more than APART."""
    for one, other in zip(got if isinstance(got, tuple) else (got,),
                          want if isinstance(want, tuple) else (want,), strict=True):  # fmt: skip
        if one is None or torch.equal(one, other):
            continue
        if not one.is_floating_point():
            raise Disagreement(f"{name}: integers differ from those of torch")
        # Sums of a hundred thousand terms in another order: what they are apart by in all.
        apart = float((one.double() - other.double()).norm() / other.double().norm())
        if not apart < APART:
            raise Disagreement(f"{name}: apart from torch by {apart:.1e} of the norm")


def timed(k: Kernels, group: StepGroup, cold: torch.Tensor, copy: float) -> Iterator[Any]:
    trusted = backends.load("torch", device=DEVICE)
    for name, args in calls(k, group):
        call = partial(getattr(k, name), *args)
        if name in CHECKED and k.name != "torch":
            check(name, call(), getattr(trusted, name)(*args))
        moved = find_op(name).traffic(*args)
        samples = seconds(call, cold)
        median = statistics.median(samples)
        low, _, high = statistics.quantiles(samples, n=4)
        print(
            f"{k.name:7} {name:18} {group!s:44} {median * 1e6:8.1f} us, at the least "
            f"{moved.minimum / copy * 1e6:7.1f}",
            flush=True,
        )
        yield record(
            k, name, f"mse {SIZE} {group}", "ok", samples=samples, median=median,
            spread=(high - low) / median, minimum_bytes=moved.minimum,
            minimum_gbs=moved.minimum / median / 1e9, requested_bytes=moved.requested,
            roofs={"copy": copy, "share_of_copy": moved.minimum / median / copy},
        )  # fmt: skip


def main(file: Path, names: list[str]) -> int:
    if "cuda" in names:
        build()
    cold = torch.empty(256 << 20, dtype=torch.uint8, device=DEVICE)
    copy = copy_roof(cold)
    for name in names:
        k = backends.load(name, device=DEVICE)
        sums: dict[str, float] = defaultdict(float)
        for group in step_groups(k, DEVICE, SIZE, ROWS):
            for one in timed(k, group, cold, copy):
                append(file, [one])
                sums[one.op] += one.median
        print(f"{name}: all groups, us:", {op: round(s * 1e6) for op, s in sums.items()})
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:] or ["cuda"]))
