"""How fast a training went whose steps differ in size, and how near it came to the least loss."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from recis_core.callbacks import Callback, Step
from recis_core.roofs import GB
from reports.console import say
from reports.run import Run
from roofline.datasheet import sheet_of
from roofline.kinds import Training
from roofline.stamp import place

if TYPE_CHECKING:
    from recis_core.train import Trainer

WARM = 30  # steps before any counts: compilation, plans of new lengths, tables that grow
WINDOW = 30  # last steps whose losses are averaged


@dataclass(frozen=True)
class Pass:
    """A forward pass in training: events of each user, FLOPs of it and its backward pass, the mean
    losses of the parts beside the click."""

    lengths: Sequence[int]
    flops: float
    losses: Mapping[str, Tensor]


class Throughput(Callback):
    """Seconds, events, FLOPs and losses of every step of a model that tells of its passes.

    Such a model has `watch`, which it calls with a `Pass`' fields in every training pass.
    """

    def __init__(self) -> None:
        self.passes: list[Pass] = []
        self.seconds: list[float] = []
        self.totals: list[float] = []
        self.peak: int | None = None

    def on_start(self, trainer: Trainer) -> None:
        trainer.model.watch = lambda *facts: self.passes.append(Pass(*facts))
        if cuda(trainer):
            torch.cuda.reset_peak_memory_stats()

    def on_step(self, trainer: Trainer, step: Step) -> None:
        self.seconds.append(step.seconds)
        if cuda(trainer):
            self.peak = torch.cuda.max_memory_allocated()
        # The parts of a loss are read at the end: reading one waits for the device.
        self.totals.append(step.loss)

    def losses(self, parts: int) -> dict[str, list[float]]:
        """The click's loss and the others' of every step, which has `parts` passes."""
        found: dict[str, list[float]] = {"click": []}
        for number, total in enumerate(self.totals):
            own = self.passes[number * parts :][:parts]
            said = {n: sum(float(p.losses[n]) for p in own) / parts for n in own[0].losses}
            for name, value in {"click": total - sum(said.values()), **said}.items():
                found.setdefault(name, []).append(value)
        return found

    def on_end(self, trainer: Trainer, reason: str) -> None:
        trainer.model.watch = None

    def record(
        self, run: Run, trainer: Trainer, known: Mapping[str, float], ceiling: float | None
    ) -> Training | None:
        """What was seen; None of less than two steps. `known`: the least loss of every part."""
        if len(self.seconds) < 2:
            return None
        warm = min(WARM, len(self.seconds) // 2)
        each = run.accumulation
        seen = [self.passes[i * each : (i + 1) * each] for i in range(len(self.seconds))]
        tokens = [sum(sum(p.lengths) for p in own) for own in seen]
        flops = [sum(p.flops for p in own) for own in seen]
        spent, window = sum(self.seconds[warm:]), min(WINDOW, len(self.seconds) // 2)
        rate = sum(flops[warm:]) / spent
        losses = self.losses(each)
        reached = {n: statistics.fmean(own[-window:]) for n, own in losses.items()}
        least = {name: known[name] for name in reached if name in known}
        whole = sum(least.values()) if least.keys() == reached.keys() else None
        return Training(
            **place(trainer.kernels.device, command_of(run, trainer)),
            workload=run.workload, size=run.size, backend=trainer.kernels.name,
            batch=run.batch_size, steps=len(self.seconds), warm=warm, precision=run.precision,
            compiled=run.compile, seconds=self.seconds, tokens=tokens, flops=flops,
            tokens_per_s=sum(tokens[warm:]) / spent, flops_per_s=rate,
            mfu=shares(rate, trainer, run.precision),
            peak_bytes=self.peak, rows=trainer.embedding.rows, losses=losses, window=window,
            reached=reached,
            known=dict(known), gap=sum(reached.values()) / whole - 1 if whole else None,
            settings={n: getattr(run, n) for n in ("lr", "dense_lr", "schedule", "rule")},
            metrics=trainer.metrics, ceiling=ceiling, seed=run.seed,
        )  # fmt: skip


def cuda(trainer: Trainer) -> bool:
    return torch.device(trainer.kernels.device).type == "cuda"


def command_of(run: Run, trainer: Trainer) -> str:
    words = ["recis train", run.workload, f"--size {run.size}"]
    words += [
        f"--device {trainer.kernels.device}",
        f"--backend {trainer.kernels.name}",
        f"--precision {run.precision}",
    ]
    words += ["--compile"] if run.compile else []
    words += [] if run.steps is None else [f"--steps {run.steps}"]
    return " ".join([*words, "--no-trace"])


def shares(rate: float, trainer: Trainer, precision: str) -> dict[str, float | None]:
    """A rate of FLOPs over the data sheet's, and over a product's of 8192³ on the device."""
    if not cuda(trainer):
        return {"sheet": None, "product": None}
    sheet = sheet_of(torch.cuda.get_device_name(trainer.kernels.device))
    there = None if sheet is None else sheet.bf16 if precision == "bfloat16" else sheet.matmul
    return {"sheet": rate / there if there else None, "product": rate / product_rate(precision)}


def product_rate(precision: str, size: int = 8192) -> float:
    """FLOP/s of a matrix product on a GPU, median of twenty."""
    kind = getattr(torch, precision)
    a, b = (torch.randn(size, size, device="cuda", dtype=kind) for _ in range(2))
    taken = []
    for _ in range(23):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        torch.mm(a, b)
        end.record()
        end.synchronize()
        taken.append(start.elapsed_time(end) / 1e3)
    return 2 * size**3 / statistics.median(taken[3:])


def tell(r: Training) -> None:
    """The record in two lines."""
    of = {"sheet": "the data sheet", "product": "a matrix product"}
    shown = ", ".join(f"{v:.1%} of {of[n]}" for n, v in r.mfu.items() if v is not None)
    peak = "" if r.peak_bytes is None else f", peak memory {r.peak_bytes / GB:.1f} GB"
    mean = statistics.fmean(r.seconds[r.warm :]) * 1e3
    say(f"{mean:.1f} ms a step after the first {r.warm}, {r.tokens_per_s:,.0f} events/s, "
        f"{r.flops_per_s / 1e12:.3g} TFLOP/s{f', MFU {shown}' if shown else ''}{peak}")  # fmt: skip
    parts = ", ".join(f"{n} {v:.4f} ({r.known[n]:.4f})" for n, v in r.reached.items()
                      if n in r.known)  # fmt: skip
    if r.gap is not None:
        say(f"losses over the last {r.window} steps (least possible): {parts}; {r.gap:+.1%} above")
