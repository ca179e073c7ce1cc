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
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from recis_core import optim
from reports.console import say
from reports.step_feeds import read_rate, staged_batches
from reports.step_subject import Subject
from roofline.processor import describe
from roofline.record import versions
from roofline.timer import Timer
from workloads import find
from workloads.plan import plan_of

MIB = 1 << 20
LOSSES = 10
TOLERANCE = 1e-4  # of a float32 loss, relative: sums are made in another order


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
            how = {"compile": asked.compile, "graph": asked.graph}
            subject = Subject(asked, name, precision="float32", **how)
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
    say(f"first losses agree: {agree}, worst {worst:.1e}; {good[:1]}")
    return {"backends": found, "worst": worst, "tolerance": TOLERANCE, "agree": agree}


def in_turns(asked: argparse.Namespace) -> dict[str, Any]:
    """Step times of the backends in turns, then stage times of a few steps of each."""
    how = {"precision": asked.precision, "compile": asked.compile, "graph": asked.graph}
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
        busy, own = subject.device(3)
        if own:
            found[name] |= {"device_stages": busy, "device_sparse": own}
            found[name]["device_sparse_mbu"] = asked.minimum / own / asked.copy
            parts = "  ".join(f"{part} {seconds * 1e3:.2f}" for part, seconds in busy.items())
            say(f"  device alone: {own * 1e3:.2f} ms, MBU {asked.minimum / own / asked.copy:.1%}")
            say(f"  device in each stage, ms: {parts}")
    if asked.profile:
        profiled(subjects[asked.time[0]], asked.folder)
    return found


def by_feed(asked: argparse.Namespace, found: dict[str, Any]) -> None:
    """Into `found`: step time and idle share of the first timed backend by what feeds it, and how
    many rows a second the host decodes from files alone."""
    places = {"memory": None, "arrow": asked.data, "parquet": asked.parquet}
    cases = [
        (feed, guard) for feed in asked.feeds for guard in ((10, 0) if feed == "memory" else (10,))
    ]
    for feed, guard in cases:
        place = places[feed]
        if feed == "parquet":
            find("mse").write(asked.size, place, "parquet")
        how = dict(compile=asked.compile, graph=asked.graph, guard=guard)
        subject = Subject(asked, asked.time[0], place, precision=asked.precision, **how)
        subject.go(len(asked.staged) + 4)
        samples = subject.go(2 * asked.turn)
        own: dict[str, Any] = {"samples": samples, "step": statistics.median(samples)}
        own["device"] = subject.busy(2 * asked.turn)
        own["idle_traced"] = own["device"].pop("idle", None)
        if place is not None:
            given = subject.trainer.model, asked.staged[0].rows, asked.turn, asked.device
            own["read_rows_per_s"] = read_rate(place, *given)
        found[f"{feed}, guard {guard}"] = own
        own["idle"] = 1 - own["device"].get("any", 0.0) / own["step"]
        parts = {key: round(1e3 * part, 2) for key, part in own["device"].items()}
        own.setdefault("read_rows_per_s", None)
        say(f"{feed}, guard {guard}: {own['step'] * 1e3:.2f} ms a step, busy {parts}")
        say(f"  idle {own['idle']:.1%}, in the trace {own['idle_traced']}")
        say(f"  rows/s read alone: {own['read_rows_per_s']}")
        del subject


def profiled(subject: Subject, folder: Path) -> None:
    """Kernels and host calls of three steps, as tables."""
    both = [ProfilerActivity.CPU, ProfilerActivity.CUDA]
    with profile(activities=both) as seen:
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
    parser.add_argument("--graph", action="store_true", help="the dense part as one CUDA graph")
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--batches", type=int, default=8, help="held in page-locked memory")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--turn", type=int, default=10, help="steps of a turn, 4 at least")
    parser.add_argument(
        "--feeds", nargs="*", default=[], help="memory, arrow, parquet: idle shares"
    )
    parser.add_argument("--parquet", type=Path, help="where the data are in Parquet, or are to be")
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
    found["graph"] = asked.graph
    try:
        if asked.agree:
            found["losses"] = first_losses(asked)
        if asked.time:
            found["backends"] = in_turns(asked)
        if asked.feeds:
            by_feed(asked, found.setdefault("feeds", {}))
    finally:
        # What was measured before an interruption is kept.
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
