"""Overlap measured on one GPU, without network: losses, time, idle share and waits of a step.

    python3 -m reports.overlap_run reports/results/h100/overlap.json [BACKEND]

trains `mse small` with batches prepared ahead and not, from Arrow files and from page-locked
memory, with and without the guard, each twice, in turns.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import threading
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch._C._autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

import backends
from recis_core.callbacks import Callback, Step
from recis_core.data import Batch
from recis_core.io.reader import Reader
from recis_core.io.stage import Staged, unpack
from recis_core.io.stream import Position
from recis_core.kernels import Kernels
from recis_core.optim import Adam
from recis_core.packing import laid_out
from recis_core.settings import Settings
from recis_core.train import Trainer
from roofline.record import versions
from workloads.mse import CONFIGS, MseModel, write_mse

ROWS, BATCH, WARM, TIMED, TRACED, WATCHED = 4096 * 24, 4096, 10, 25, 10, 5
STEPS = WARM + TIMED + TRACED + WATCHED
COMPARED = 24
FEEDS = ("arrow", "pinned")


class Held:
    """The batches of a reader, staged in page-locked memory before, over and over."""

    epochs = None

    def __init__(self, reader: Reader) -> None:
        self.kernels, self.rows, self.at = reader.kernels, reader.rows, 0
        staged = islice(reader.stream.staged(Position()), reader.batches)
        self.staged: list[Staged] = [one for one, _ in staged]

    def __iter__(self) -> Iterator[Batch]:
        while True:
            self.at += 1
            yield unpack(self.staged[(self.at - 1) % len(self.staged)], self.kernels)

    def state(self) -> dict[str, Any]:
        return {"epoch": 0, "at": self.at}

    def restore(self, state: Any) -> None:
        self.at = state["at"]


class Watch(Callback):
    """Times steps, then traces some, then looks for waits in the last ones."""

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.seconds: list[float] = []
        self.waits: Counter[str] = Counter()
        self.trace = profile(activities=[ProfilerActivity.CUDA])

    def on_step(self, trainer: Trainer, step: Step) -> None:
        self.losses.append(step.loss)
        n = step.step
        if WARM <= n < WARM + TIMED:
            self.seconds.append(step.seconds)
        if n == WARM + TIMED:
            self.trace.start()
        if n == WARM + TIMED + TRACED:
            torch.cuda.synchronize()
            self.trace.stop()
            torch.cuda.set_sync_debug_mode("warn")

    def on_end(self, trainer: Trainer, reason: str) -> None:
        torch.cuda.set_sync_debug_mode("default")

    def seen(self, message: Any, *about: Any) -> None:
        if "called a synchronizing" not in str(message):
            return
        frames = traceback.extract_stack()[:-1]
        ours = [f for f in frames if "site-packages" not in f.filename and "recis" in f.filename]
        ours = ours or [f for f in frames if "/torch/" not in f.filename]
        at = ours[-1] if ours else frames[-1]
        name = threading.current_thread().name
        self.waits[f"{name}: {Path(at.filename).name}:{at.lineno} {at.line}"] += 1

    def idle(self) -> dict[str, float]:
        """Shares of the traced time in which the device did nothing, and each stream something."""
        result = self.trace.profiler
        assert result is not None
        kineto = result.kineto_results
        assert kineto is not None
        spans = sorted(
            (event.start_ns(), event.start_ns() + event.duration_ns(), event.device_resource_id())
            for event in kineto.events()
            if event.device_type() == DeviceType.CUDA and event.duration_ns()
        )
        begin, end = spans[0][0], max(stop for _, stop, _ in spans)
        shares = {"idle": 1 - union([(a, b) for a, b, _ in spans]) / (end - begin)}
        for stream in {s for _, _, s in spans}:
            own = union([(a, b) for a, b, s in spans if s == stream])
            shares[f"stream {stream}"] = own / (end - begin)
        return {**shares, "kernels a step": len(spans) / TRACED}


def union(spans: list[tuple[int, int]]) -> int:
    """Length covered by intervals sorted by their beginning."""
    covered, last = 0, spans[0][0]
    for begin, end in spans:
        covered += max(0, end - max(begin, last))
        last = max(last, end)
    return covered


def run(kernels: Kernels, feed: Any, overlap: int, guard: int) -> Watch:
    torch.manual_seed(0)
    watch = Watch()
    settings = Settings(steps=STEPS, guard=guard, overlap=overlap)
    model = MseModel(CONFIGS["small"])
    feed.restore(feed.begin)
    trainer = Trainer(model, kernels, Adam(lr=2e-3), feed, settings=settings, callbacks=[watch])
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = watch.seen
        trainer.train()
    return watch


def main(path: Path, backend: str) -> int:
    kernels = backends.load(backend, device="cuda")
    print(f"{kernels} on {torch.cuda.get_device_name()}", flush=True)
    found: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        config = replace(CONFIGS["small"], train_rows=ROWS, valid_rows=BATCH, parts=8)
        write_mse(config, "small", folder, "arrow")
        model = MseModel(CONFIGS["small"])
        columns = laid_out(model.columns, model.features)
        files = Path(folder) / "train"
        arrow: Any = Reader(files, columns, BATCH, epochs=None, kernels=kernels)
        feeds = {"arrow": arrow, "pinned": Held(arrow)}
        for one in feeds.values():
            one.begin = one.state()
        print("data ready", flush=True)
        cases = [(f, o, g) for f in FEEDS for g in (0, 10) for o in (0, 1)]
        for turn, (feed, overlap, guard) in enumerate(cases * 2):
            watch = run(kernels, feeds[feed], overlap, guard)
            median = statistics.median(watch.seconds)
            each: dict[str, Any] = dict(
                feed=feed, overlap=overlap, guard=guard, turn=turn, median_ms=median * 1e3
            )
            each |= dict(device=watch.idle(), waits=dict(watch.waits), losses=watch.losses)
            found.append(each)
            idle = each["device"]["idle"]
            print(f"{feed:6} overlap {overlap} guard {guard:2}: {median * 1e3:.2f} ms, {idle:.1%} "
                  f"idle, loss {watch.losses[COMPARED - 1]:.6f}", flush=True)  # fmt: skip
    first = torch.tensor(found[0]["losses"][:COMPARED])
    apart = max(
        float((torch.tensor(e["losses"][:COMPARED]) / first - 1).abs().max()) for e in found
    )
    print(f"largest relative difference of the first {COMPARED} losses: {apart:.2e}")
    for each in found[: len(cases)]:
        print(each["feed"], each["overlap"], each["guard"], each["waits"] or "no waits")
    record = dict(
        what="mse small, batches of 4096, Adam, float32; idle: no kernel or copy on any stream",
        device=torch.cuda.get_device_name(),
        backend=kernels.name,
        versions=versions(),
        steps=dict(warm=WARM, timed=TIMED, traced=TRACED, watched=WATCHED),
        losses_apart=apart,
        runs=found,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record) + "\n")
    return 0 if apart < 1e-3 else 1


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), (sys.argv[2:] or ["cuda"])[0]))
