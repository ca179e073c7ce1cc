"""A trainer of a workload on one backend, whose steps are timed, waited for or traced."""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

import backends
from recis_core import optim
from recis_core.callbacks import Callback, Step
from recis_core.settings import Settings
from recis_core.train import Trainer
from reports.step_feeds import Held, reader_of
from roofline.idle import DeviceTrace
from roofline.kineto import stage_time
from roofline.stopwatch import Stopwatch
from workloads import find


class Steps(Callback):
    """The loss of every step and the moment at which it was told."""

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.moments: list[float] = []

    def on_step(self, trainer: Trainer, step: Step) -> None:
        self.losses.append(step.loss)
        self.moments.append(time.perf_counter())


class Subject:
    """A trainer of the workload on one backend, and what its steps told.

    `feed`: a folder of files to read, None for the batches held in memory.
    """

    def __init__(
        self, asked: argparse.Namespace, backend: str, feed: Path | None = None, **how: Any
    ) -> None:
        torch.manual_seed(0)
        kind = find("mse")
        defaults = kind.defaults(asked.size)
        kernels = backends.load(*backend.split("+"), device=asked.device)
        self.steps = Steps()
        self.before = allocated()
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
        model: Any = kind.model(asked.size)
        batch = asked.staged[0].rows
        self.trainer = Trainer(
            model,
            kernels,
            optim.AdamW(lr=defaults.lr, decay=0.0),
            Held(asked.staged, kernels) if feed is None else reader_of(feed, model, batch, kernels),
            settings=Settings(
                dense=lambda p: torch.optim.AdamW(
                    p, lr=defaults.dense_lr, fused=asked.device == "cuda"
                ),
                **how,
            ),
            callbacks=[self.steps],
        )

    def go(self, steps: int) -> list[float]:
        """Train on; -> seconds of each step but the first two and the last, which on a GPU is told
        as soon as nothing follows it."""
        trainer = self.trainer
        trainer.settings = replace(trainer.settings, steps=trainer.step + steps)
        del self.steps.moments[:]
        trainer.train()
        allocated()
        return [b - a for a, b in pairwise(self.steps.moments[1:-1])]

    def apart(self, steps: int) -> tuple[dict[str, float], float]:
        """Seconds of each stage of a mean step, waited for one by one, and of the sparse part."""
        before = self.trainer.settings
        self.trainer.settings = replace(before, overlap=0)
        self.go(2)
        with Stopwatch(self.trainer) as watch:
            self.go(steps)
        self.trainer.settings = before
        return watch.means(), watch.sparse

    def device(self, steps: int) -> tuple[dict[str, float], float]:
        """As `apart`, but seconds in which the GPU did something in a stage, from a trace."""
        if not torch.cuda.is_available():
            return {}, 0.0
        before = self.trainer.settings
        self.trainer.settings = replace(before, overlap=0)
        self.go(2)
        both = [ProfilerActivity.CPU, ProfilerActivity.CUDA]
        with profile(activities=both) as seen, Stopwatch(self.trainer, marked=True):
            self.go(steps)
        self.trainer.settings = before
        with TemporaryDirectory() as folder:
            path = Path(folder) / "trace.json"
            seen.export_chrome_trace(str(path))
            stages = stage_time(path, steps)
        return stages, sum(stages.get(stage, 0.0) for stage in Stopwatch.SPARSE)

    def busy(self, steps: int) -> dict[str, float]:
        """Seconds of a mean step in which the GPU did something, see `busy_of`; and "idle", the
        share of the traced time in which it did nothing, see `idle_of`."""
        if not torch.cuda.is_available():
            return {}
        with DeviceTrace() as trace:
            self.go(steps)
        return {what: own / steps for what, own in trace.busy().items()} | {"idle": trace.idle()}

    @property
    def peak(self) -> int:
        """Most bytes torch had allocated since this subject began, less what was there before."""
        if not torch.cuda.is_available():
            return 0
        return torch.cuda.max_memory_allocated() - self.before


def allocated() -> int:
    """Bytes in use on the GPU when it has nothing left to do; 0 without one."""
    if not torch.cuda.is_available():
        return 0
    torch.cuda.synchronize()
    return torch.cuda.memory_allocated()
