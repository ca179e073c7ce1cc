"""Fused ops against the ops they are made of, and the sparse part of a step, on a GPU.

    python3 -m reports.gpu_fused reports/results/h100 [BACKEND]

writes `fused.jsonl`: a record a case, times with L2 flushed, the ratio to the chain of ops in
`roofs`; and one for each backend of the sparse part of a step of `STEP`. Agreement comes first. Of
another BACKEND than `cuda` the cases alone, into `fused_BACKEND.jsonl`.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import backends
from recis_core.blocks import Blocks, Slot
from recis_core.kernels import Kernels, find_op
from recis_core.optim import Adagrad, Adam, RowwiseAdagrad, Sgd
from recis_core.tolerance import Disagreement
from reports.gpu_record import DEVICE, record
from reports.gpu_run import build, seconds
from reports.records import append
from roofline.sparse_step import Size, SparseStep

STEP = Size(400, (8, 16, 32, 64, 128), 4096, 10, 200_000, 1.05, 3)
ADAMW = (1e-3, 0.9, 0.999, 1e-8, 0.01, 0.9, 0.999, "torch")
DIMS = (8, 16, 32, 64, 128)


def blocks_of(rows: int, dim: int, *slots: str) -> Blocks:
    made = [Slot(name, 1 if name == "row_sum" else dim) for name in slots]
    blocks = Blocks(made, 20, DEVICE)
    blocks.grow(rows)
    for tensor in blocks.tensors:
        tensor.view(torch.float32).uniform_()
    return blocks


def bags(segments: int, mean: int, distinct: int, skew: float) -> tuple[Tensor, Tensor]:
    """Which of `distinct` each of segments · mean values is, all of them named; offsets."""
    n = segments * mean
    if skew:
        u, top, power = torch.rand(n, device=DEVICE).double(), distinct + 1.0, 1 - skew
        index = ((1 + u * (top**power - 1)).pow(1 / power).long() - 1).clamp_(0, distinct - 1)
    else:
        index = torch.randint(0, distinct, (n,), device=DEVICE)
    _, index = index.unique(return_inverse=True)
    offsets = torch.arange(0, n + 1, mean, device=DEVICE, dtype=torch.int32)
    return index.int(), offsets


def shapes() -> Iterator[tuple[str, int, int, int, float]]:
    """Name, segments, values a segment, distinct ids, skew."""
    yield "uniform", 1 << 18, 4, 1 << 19, 0.0
    yield "popular", 1 << 18, 8, 1 << 21, 1.05


def copy_of(blocks: Blocks) -> Blocks:
    twin = Blocks(list(blocks.slots.values()), blocks.log2_rows, DEVICE)
    twin.grow(blocks.capacity)
    for mine, other in zip(twin.tensors, blocks.tensors, strict=True):
        mine.copy_(other)
    return twin


def apart(op: str, one: Blocks, other: Blocks) -> float:
    """The largest difference of two blocks; raises Disagreement past the op's tolerance."""
    most = 0.0
    for slot in one.slots:
        for a, b in zip(one.views(slot), other.views(slot), strict=True):
            if torch.equal(a, b):
                continue
            off = (a - b).abs()
            rtol, atol = find_op(op).tolerance.by_dtype["float32"]
            if bool((off > atol + rtol * b.abs()).any()):
                raise Disagreement(f"{op}: slot {slot!r} is apart from the chain's")
            most = max(most, float(off.max()))
    return most


def optimizers(k: Kernels, cold: Tensor) -> Iterator[Any]:
    cases = [("adamw", ("weight", "mean", "square"), ADAMW, d) for d in (*DIMS, 200)]
    sgd, rowwise = Sgd().scalars(0.01, {"step": 0}), RowwiseAdagrad().scalars(0.01, {"step": 0})
    cases += [("sgd", ("weight",), sgd, d) for d in (16, 64)]
    cases += [("adagrad_rowwise", ("weight", "row_sum"), rowwise, d) for d in (16, 64, 200)]
    cases += [("adagrad", ("weight", "sum"), Adagrad().scalars(0.01, {"step": 0}), 64)]
    cases += [("adam", ("weight", "mean", "square"), Adam().scalars(1e-3, Adam().begin()), 64)]
    for name, segments, mean, distinct, skew in shapes():
        index, offsets = bags(segments, mean, distinct, skew)
        unique = int(index.max()) + 1
        starts, places, _ = k.ids_transpose(index, offsets, None, unique)
        for rule, slots, scalars, dim in cases:
            op, total = f"rows_reduce_{rule}", 1 << 22
            blocks = blocks_of(total, dim, *slots)
            rows = torch.randperm(total, device=DEVICE)[:unique].int()
            grad = torch.randn(segments, dim, device=DEVICE)
            given = (rows, grad, None, starts, places, None, None, *scalars)
            twin, fused, plain = copy_of(blocks), getattr(k, op), getattr(k, f"rows_{rule}")

            summed = partial(k.segment_sum_grad, grad, starts, places, None)
            chain = partial(in_two, summed, plain, rows, scalars)
            fused(blocks, *given)
            chain(twin)
            off = apart(op, blocks, twin)
            del twin
            moved = find_op(op).traffic(blocks, *given)
            case = f"D={dim} S={segments} n={len(index)} U={unique} {name}"
            yield timed(
                k,
                op,
                case,
                partial(fused, blocks, *given),
                partial(chain, blocks),
                moved,
                off,
                cold,
            )
            del blocks, given, chain, summed


def in_two(
    summed: Callable[[], Tensor], plain: Callable[..., None], rows: Tensor, scalars: Any, at: Blocks
) -> None:
    """The chain a fused optimizer stands for."""
    plain(at, rows, summed(), None, None, *scalars)


def pools(k: Kernels, cold: Tensor) -> Iterator[Any]:
    op = find_op("rows_pool")
    assert op.default is not None
    for name, segments, mean, distinct, skew in (*shapes(), ("long", 1 << 15, 64, 1 << 20, 0.0)):
        index, offsets = bags(segments, mean, distinct, skew)
        unique = int(index.max()) + 1
        for dim in DIMS:
            blocks = blocks_of(1 << 22, dim, "weight", "mean", "square")
            rows = torch.randperm(1 << 22, device=DEVICE)[:unique].int()
            given = (blocks, "weight", rows, index, offsets, None)
            a, b = k.rows_pool(*given), op.default(k, *given)
            op.tolerance.check("out", a.cpu().numpy(), b.cpu().numpy(), "float32")
            case = f"D={dim} S={segments} n={len(index)} U={unique} {name}"
            fused, chain = partial(k.rows_pool, *given), partial(op.default, k, *given)
            off = float((a - b).abs().max())
            yield timed(k, op.name, case, fused, chain, op.traffic(*given), off, cold)
            del blocks, given, fused, chain


def timed(
    k: Kernels, op: str, case: str, fused: Callable[[], Any], chain: Callable[[], Any],
    moved: Any, off: float, cold: Tensor,
) -> Any:  # fmt: skip
    """The record of a fused op; `roofs` holds the chain's time and how far results are apart."""
    samples, plain = seconds(fused, cold), seconds(chain, cold)
    median, other = statistics.median(samples), statistics.median(plain)
    low, _, high = statistics.quantiles(samples, n=4)
    print(
        f"{k.name:6} {op:27} {case:50} {median * 1e6:8.1f} us, chain {other * 1e6:8.1f} us, "
        f"x{other / median:.2f}, {moved.minimum / median / 1e9:6.0f} GB/s, apart {off:.1e}",
        flush=True,
    )
    return record(
        k, op, case, "ok", samples=samples, median=median, spread=(high - low) / median,
        minimum_bytes=moved.minimum, minimum_gbs=moved.minimum / median / 1e9,
        requested_bytes=moved.requested, requested_gbs=moved.requested / median / 1e9,
        roofs={"chain": other, "chain_over_fused": other / median, "apart": off},
    )  # fmt: skip


def steps(names: tuple[str, ...]) -> Iterator[Any]:
    """A record for each backend, fused and not, of the sparse part of a step."""
    for name in names:
        k = backends.load(name, device=DEVICE)
        whole = SparseStep(k, STEP)
        fuses = not k.origins["rows_reduce_adamw"].endswith("(composed)")
        for _ in range(STEP.batches):
            whole.run(fused=False)
        print(f"{name}: {whole.rows:,} rows, weights {whole.weights()}", flush=True)
        for fused in (False, True) if fuses else (False,):
            whole.run(fused)
            samples = tuple(whole.run(fused)[0] for _ in range(7))
            _, stages = whole.run(fused, watching=True)
            median = statistics.median(samples)
            said = " ".join(f"{stage} {1e3 * s:.2f}" for stage, s in stages.items())
            how = "fused" if fused else "unfused"
            print(f"{name:6} sparse step {how}: {median * 1e3:.2f} ms; ms of stages: {said}")
            op = "rows_reduce_adamw" if fused else "rows_adamw"
            yield record(
                k, op, f"sparse part of a step, {STEP}, {whole.rows} rows, {how}", "ok",
                samples=samples, median=median, roofs={"stages": stages},
            )  # fmt: skip
        del whole
        torch.cuda.empty_cache()


def main(folder: Path, name: str) -> int:
    if name == "cuda":
        build()
    cold = torch.empty(256 << 20, dtype=torch.uint8, device=DEVICE)
    k = backends.load(name, device=DEVICE)
    file = folder / ("fused.jsonl" if name == "cuda" else f"fused_{name}.jsonl")
    for part in (optimizers, pools):
        for one in part(k, cold):
            append(file, [one])
    for one in steps(("cuda", "torch")) if name == "cuda" else ():
        append(file, [one])
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else "cuda"))
