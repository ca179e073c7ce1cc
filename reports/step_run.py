"""A workload's training step on one GPU: backends side by side, their stages, memory and losses.

    python3 -m reports.step_run reports/results/h100 --data FOLDER [--size bench] [--precision …]

Writes the data if they are missing (timed), holds some batches in page-locked memory, checks that
all backends give the same first losses, then times `cuda` and `torch` in turns, the first of them
also fed from files and without the guard, and how long the GPU is idle. What it finds is one JSON
object appended to `step_mse_SIZE.jsonl`. Needs no network.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from dataclasses import replace
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch

import backends
from recis_core import optim
from recis_core.callbacks import Callback, Step
from recis_core.settings import Settings
from recis_core.train import Trainer
from reports.console import say
from reports.step_feeds import Held, read_rate, reader_of, staged_batches
from roofline.idle import DeviceTrace
from roofline.processor import describe
from roofline.record import versions
from roofline.stopwatch import Stopwatch
from roofline.timer import Timer
from workloads import find
from workloads.plan import plan_of

MIB = 1 << 20
LOSSES = 10
TOLERANCE = 1e-4  # of a float32 loss, relative: sums are made in another order


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
        """Train on; -> seconds of each step but the first two."""
        trainer = self.trainer
        trainer.settings = replace(trainer.settings, steps=trainer.step + steps)
        del self.steps.moments[:]
        trainer.train()
        allocated()
        return [b - a for a, b in pairwise(self.steps.moments[1:])]

    def apart(self, steps: int) -> tuple[dict[str, float], float]:
        """Seconds of each stage of a mean step, waited for one by one, and of the sparse part."""
        before = self.trainer.settings
        self.trainer.settings = replace(before, overlap=0)
        self.go(2)
        with Stopwatch(self.trainer) as watch:
            self.go(steps)
        self.trainer.settings = before
        return watch.means(), watch.sparse

    def idle(self, steps: int) -> dict[str, float]:
        """Of the time of some steps, the share in which the GPU was idle; see `DeviceTrace`."""
        if not torch.cuda.is_available():
            return {}
        with DeviceTrace() as trace:
            self.go(steps)
        return trace.shares()

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


def write_data(asked: argparse.Namespace) -> dict[str, Any]:
    began = time.perf_counter()
    find("mse").write(asked.size, asked.data, "arrow")
    seconds = time.perf_counter() - began
    size = sum(file.stat().st_size for file in asked.data.rglob("*") if file.is_file())
    say(f"data: {size / 1e9:.2f} GB in {seconds:.1f} s on {describe().cores} cores")
    return {"bytes": size, "seconds": seconds, "cores": describe().cores}


def first_losses(asked: argparse.Namespace) -> dict[str, Any]:
    """Ten float32 steps of every backend: their losses, peak memory, and whether they agree."""
    found: dict[str, Any] = {}
    for name in asked.agree:
        began = time.perf_counter()
        try:
            subject = Subject(asked, name, precision="float32")
            subject.go(LOSSES)
        except Exception as error:
            found[name] = {"error": f"{type(error).__name__}: {error}".splitlines()[0]}
            say(f"{name}: {found[name]['error']}")
            continue
        took, peak = time.perf_counter() - began, subject.peak
        found[name] = {"losses": subject.steps.losses, "seconds": took, "peak": peak}
        rows = subject.trainer.embedding.rows
        say(f"{name}: {LOSSES} steps {took:.1f} s, {rows:,} rows, peak {peak / 1e9:.1f} GB")
        del subject
        torch.cuda.empty_cache()
    good = [own["losses"] for own in found.values() if "losses" in own]
    worst = max((abs(a / b - 1) for own in good for a, b in zip(own, good[0], strict=True)),
                default=0.0)  # fmt: skip
    agree = len(good) == len(found) and worst <= TOLERANCE
    say(f"first losses agree: {agree}, worst {worst:.1e}; {[round(x, 5) for x in good[0]]}")
    return {"backends": found, "worst": worst, "tolerance": TOLERANCE, "agree": agree}


def in_turns(asked: argparse.Namespace) -> dict[str, Any]:
    """Step times of the backends in turns, then stage times of a few steps of each."""
    how = {"precision": asked.precision, "compile": asked.compile}
    subjects: dict[str, Subject] = {}
    found: dict[str, Any] = {}
    for name in asked.time:
        began = time.perf_counter()
        subjects[name] = Subject(asked, name, **how)
        subjects[name].go(len(asked.staged) + 4)
        found[name] = {"peak": subjects[name].peak, "warm": time.perf_counter() - began}
        say(f"{name}: warm in {found[name]['warm']:.1f} s, peak {found[name]['peak'] / 1e9:.1f} GB")
    seconds: dict[str, list[float]] = {name: [] for name in subjects}
    for _ in range(asked.rounds):
        for name, subject in subjects.items():
            seconds[name] += subject.go(asked.turn)
    for name, subject in subjects.items():
        stages, sparse = subject.apart(len(asked.staged))
        found[name] |= {"samples": seconds[name], "step": statistics.median(seconds[name])}
        found[name] |= {"stages": stages, "sparse": sparse}
        found[name]["sparse_mbu"] = asked.minimum / sparse / asked.copy
        parts = "  ".join(f"{part} {own * 1e3:.2f}" for part, own in stages.items())
        say(f"{name}: step {found[name]['step'] * 1e3:.2f} ms; apart, ms: {parts}")
        say(f"  sparse part {sparse * 1e3:.2f} ms, MBU {found[name]['sparse_mbu']:.1%}")
    if asked.profile:
        profile(subjects[asked.time[0]], asked.folder)
    return found


def by_feed(asked: argparse.Namespace) -> dict[str, Any]:
    """Step time and idle share of the first backend, fed from memory and from files, and how many
    rows a second the host decodes from those alone."""
    found: dict[str, Any] = {}
    feeds: dict[str, Path | None] = {"memory": None, "arrow": asked.data}
    if asked.parquet:
        feeds["parquet"] = asked.parquet
        find("mse").write(asked.size, asked.parquet, "parquet")
    for name, feed in feeds.items():
        for guard in (10, 0) if feed is None else (10,):
            subject = Subject(asked, asked.time[0], feed, precision=asked.precision, guard=guard)
            subject.go(len(asked.staged) + 4)
            samples = subject.go(2 * asked.turn)
            case = f"{name}, guard {guard}"
            found[case] = {"samples": samples, "step": statistics.median(samples)}
            found[case]["device"] = subject.idle(2 * asked.turn)
            if feed is not None:
                model, batch = subject.trainer.model, asked.staged[0].rows
                given = model, batch, asked.turn, asked.device
                found[case]["read_rows_per_s"] = read_rate(feed, *given)
            shares = {key: round(own, 4) for key, own in found[case]["device"].items()}
            say(f"{case}: {found[case]['step'] * 1e3:.2f} ms a step, {shares}, "
                f"{found[case].get('read_rows_per_s', 0):,.0f} rows/s read alone")  # fmt: skip
            del subject
    return found


def profile(subject: Subject, folder: Path) -> None:
    """Kernels and host calls of three steps, as tables."""
    from torch.profiler import ProfilerActivity

    both = [ProfilerActivity.CPU, ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=both) as seen:
        subject.go(3)
    averages = seen.key_averages()
    text = [averages.table(sort_by=by, row_limit=45, max_name_column_width=70)
            for by in ("self_cuda_time_total", "self_cpu_time_total")]  # fmt: skip
    (folder / "profile.txt").write_text("\n".join(text))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folder", type=Path, help="where records go")
    parser.add_argument("--data", type=Path, required=True, help="written there if missing")
    parser.add_argument("--size", default="bench")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--agree", nargs="*", default=["cuda", "torch", "triton", "cupy"])
    parser.add_argument("--time", nargs="*", default=["cuda", "torch"])
    parser.add_argument("--precision", default="bfloat16")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--batches", type=int, default=8, help="held in page-locked memory")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--turn", type=int, default=10, help="steps of a turn")
    parser.add_argument("--feeds", action="store_true", help="idle shares, by what feeds the step")
    parser.add_argument("--parquet", type=Path, help="also from Parquet; written there if missing")
    parser.add_argument("--profile", action="store_true", help="profile.txt of three steps")
    asked = parser.parse_args()
    asked.folder.mkdir(parents=True, exist_ok=True)
    kind: Any = find("mse")
    found: dict[str, Any] = {"what": "step", "workload": "mse", "size": asked.size}
    found["taken"] = datetime.now(UTC).isoformat(timespec="seconds")
    name = torch.cuda.get_device_name() if torch.cuda.is_available() else describe().name
    found["device"] = {"name": name, "kind": asked.device, "host": describe().name}
    found["versions"] = {**versions(), "cuda": str(torch.version.cuda)}
    found["data"] = write_data(asked)
    model = kind.model(asked.size)
    batch = asked.batch_size or kind.defaults(asked.size).batch_size
    asked.staged = staged_batches(asked.data, model, batch, asked.batches, asked.device)
    plan = plan_of(model, kind.demands(asked.size), optim.AdamW(),
                   batch=batch, train_rows=len(asked.staged) * batch)  # fmt: skip
    asked.minimum, asked.copy = plan.step.total, copy_roof(asked.device)
    say(f"minimum {plan.step.total / 1e9:.3f} GB a step, copy roof {asked.copy / 1e9:.0f} GB/s")
    found["batch"], found["batches"] = batch, len(asked.staged)
    found["copy"], found["minimum_bytes"], found["flops"] = asked.copy, plan.step.total, plan.flops
    found["precision"], found["compile"] = asked.precision, asked.compile
    if asked.agree:
        found["losses"] = first_losses(asked)
    if asked.time:
        found["backends"] = in_turns(asked)
    if asked.feeds:
        found["feeds"] = by_feed(asked)
    with (asked.folder / f"step_mse_{asked.size}.jsonl").open("a") as file:
        file.write(json.dumps(found) + "\n")
    return 0


def copy_roof(device: str) -> float:
    """Bytes a second of a large copy, read and written both counted."""
    source = torch.ones(1024 * MIB, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    timing = Timer.of(device).time(lambda: target.copy_(source), budget=0.5)
    return 2 * len(source) / timing.median


if __name__ == "__main__":
    sys.exit(main())
