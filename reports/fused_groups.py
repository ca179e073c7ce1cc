"""Fused optimizers against the ops they stand for, at the groups of a training step, on the CPU.

    python -m reports.fused_groups FILE.jsonl [BACKEND]

writes a record for each rule and group of `mse small` (a batch of 1,024; roofline/step_groups.py),
calls of both in turns: "cold", from memory, and "warm", what the last call left in cache. `roofs`
holds the chain's time and its ratio to the fused op's. Agreement comes first.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch

import backends
from recis_core import pooling
from recis_core.allocator import keep_freed_memory
from recis_core.blocks import Blocks, Slot
from recis_core.kernels import Kernels, find_op
from recis_core.optim import Adagrad, Adam, AdamW, RowwiseAdagrad, Rule, Sgd
from reports.records import append
from roofline.processor import describe
from roofline.record import Record, versions
from roofline.step_groups import StepGroup, step_groups
from roofline.timer import Timer

RULES: tuple[Rule, ...] = (Sgd(), Adagrad(), RowwiseAdagrad(), Adam(), AdamW())
SIZE, ROWS = "small", 1024
WARM, SAMPLES = 2, 11


def blocks_of(group: StepGroup, rule: Rule) -> Blocks:
    """Blocks that hold the group's rows twice, of the same numbers each time."""
    blocks = Blocks([Slot("weight", group.dim), *rule.slots(group.dim)], group.blocks.log2_rows)
    blocks.grow(2 * len(group.rows))
    generator = torch.Generator().manual_seed(0)
    for tensor in blocks.tensors:
        tensor.view(torch.float32).uniform_(generator=generator)
    return blocks


def apart(op: str, one: Blocks, other: Blocks) -> float:
    """The largest difference of two blocks; raises Disagreement past the op's tolerance."""
    most, tolerance = 0.0, find_op(op).tolerance
    for slot in one.slots:
        for a, b in zip(one.views(slot), other.views(slot), strict=True):
            tolerance.check(f"{op}: slot {slot!r}", a.numpy(), b.numpy(), "float32")
            most = max(most, float((a - b).abs().max()))
    return most


def in_turns(
    calls: dict[str, Callable[[], Any]], before: Callable[[], Any]
) -> dict[str, tuple[float, ...]]:
    """Seconds of each call, one after the other, `before` ahead of each."""
    found: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(WARM + SAMPLES):
        for name, call in calls.items():
            before()
            begin = time.perf_counter()
            call()
            if turn >= WARM:
                found[name].append(time.perf_counter() - begin)
    return {name: tuple(samples) for name, samples in found.items()}


def compared(k: Kernels, group: StepGroup, timer: Timer) -> Iterator[Record]:
    """A record for each rule, cold and warm."""
    index = pooling.transpose(k, group.packed, group.route.inverse, len(group.route))
    for rule in RULES:
        op = find_op(f"rows_reduce_{rule.op}")
        assert op.default is not None
        scalars = rule.scalars(rule.lr, rule.begin())
        given = group.rows, group.grad, None, index.starts, index.segments, index.weights, None
        blocks, twin = blocks_of(group, rule), blocks_of(group, rule)
        getattr(k, op.name)(blocks, *given, *scalars)
        op.default(k, twin, *given, *scalars)
        off = apart(op.name, blocks, twin)
        calls = {
            "fused": partial(getattr(k, op.name), blocks, *given, *scalars),
            "chain": partial(op.default, k, blocks, *given, *scalars),
        }
        moved = op.traffic(blocks, *given, *scalars)
        for cold in (True, False):
            samples = in_turns(calls, timer.flush if cold else lambda: None)
            median, chain = (statistics.median(samples[name]) for name in ("fused", "chain"))
            low, _, high = statistics.quantiles(samples["fused"], n=4)
            case = f"{group} {'cold' if cold else 'warm'}"
            print(
                f"{op.name:27} {case:45} {median * 1e6:7.0f} us, chain {chain * 1e6:7.0f} us, "
                f"x{chain / median:.2f}, apart {off:.1e}",
                flush=True,
            )
            yield Record(
                op=op.name, op_version=op.version, case=case, asked=k.name, run=k.origins[op.name],
                status="ok", device={"name": describe().name, "kind": "cpu",
                                     "cores": describe().cores},
                threads=torch.get_num_threads(), versions=versions(), seed=0, trusted="chain",
                samples=samples["fused"], median=median, spread=(high - low) / median,
                minimum_bytes=moved.minimum, minimum_gbs=moved.minimum / median / 1e9,
                roofs={"chain": chain, "chain_over_fused": chain / median, "apart": off,
                       "chain_samples": samples["chain"]},
                command=f"python -m reports.fused_groups FILE {k.name}",
            )  # fmt: skip


def main(file: Path, name: str) -> int:
    keep_freed_memory()
    k = backends.load(name)
    if k.origins["rows_reduce_sgd"].endswith("(composed)"):
        raise SystemExit(f"backend {name!r} composes its fused ops: nothing to compare")
    timer, device = Timer.of("cpu"), torch.device("cpu")
    records: list[Record] = []
    for group in step_groups(k, device, SIZE, ROWS):
        for one in compared(k, group, timer):
            append(file, [one])
            records.append(one)
    for cold in ("cold", "warm"):
        own = [r.roofs["chain_over_fused"] for r in records if r.roofs and r.case.endswith(cold)]
        mean = statistics.geometric_mean(own)
        print(f"{cold}: geometric mean {mean:.2f}, least {min(own):.2f} of {len(own)}")
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else "numba"))
