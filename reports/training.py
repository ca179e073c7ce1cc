"""Carrying out a training run for the command line: data, loop, results, step table."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from recis_core.allocator import keep_freed_memory
from recis_core.callbacks import Callback, JsonLog
from recis_core.interrupt import Interrupted
from recis_core.kernels import Kernels
from recis_core.profile import Profile
from recis_core.progress import ProgressBar
from recis_core.settings import Settings
from recis_core.tensorboard import TensorBoard
from recis_core.train import Trainer
from reports.console import console, emit, say
from reports.data import written
from reports.failure import Failure
from reports.plan import has_plan
from reports.records import append
from reports.run import Run
from reports.throughput import Throughput, tell
from roofline.device import measure_roofs
from roofline.meter import Meter
from roofline.trace import StepTrace, step_table
from workloads.manifest import read_manifest
from workloads.plan import dense_costs


@dataclass(frozen=True)
class Wishes:
    """How to carry a run out, apart from what is trained."""

    resume: bool = False
    trace: bool = True
    json: bool = False
    format: str = ""
    profile: Path | None = None
    tensorboard: Path | None = None
    save: bool = True


def carry_out(run: Run, kernels: Kernels, settings: Settings, folder: Path, wishes: Wishes) -> None:
    """Train `run` in `folder`, say how it went; Failure if interrupted, which has saved."""
    keep_freed_memory()
    data = Path(run.data)
    written(run.kind(), run.size, data, wishes.format, run.seed)
    say(f"{run.workload} {run.size}: data {data}, run {folder}")
    threads = torch.get_num_threads()
    say(f"kernels {kernels} on {kernels.device}, {threads} threads: {origins(kernels)}")
    extra = asked_for(wishes)
    trace = StepTrace()
    watched = trace.wrap(kernels) if wishes.trace else kernels
    model: Any = run.model()
    bar = ProgressBar(console())
    if wishes.trace:
        bar.figures = Meter(trace, measure_roofs(kernels.device, quick=True), flops_of(run))
    callbacks: list[Callback] = [bar, JsonLog(folder / "log.jsonl"), *extra]
    throughput = Throughput() if hasattr(model, "watch") else None
    if throughput is not None:
        callbacks.append(throughput)
    reader = run.reader(model, watched)
    settings = replace(settings, scheduler=run.scheduler(reader.batches))
    trainer = Trainer(
        model,
        watched,
        run.row_rule(),
        reader,
        valid=lambda: run.held_out(model, watched),
        settings=settings,
        folder=folder / "checkpoints" if wishes.save else None,
        callbacks=[*callbacks, trace] if wishes.trace else callbacks,
    )
    if not wishes.resume:
        run.save(folder)
    try:
        metrics = trainer.train(resume=wishes.resume)
    except Interrupted as stop:
        if throughput is not None:
            speed(run, trainer, throughput, folder)
        raise Failure(f"{stop} --out {folder}") from None
    if throughput is not None:
        speed(run, trainer, throughput, folder)
    conclude(run, trainer, metrics, trace if wishes.trace else None, folder, wishes)


def asked_for(wishes: Wishes) -> list[Callback]:
    """Callbacks the user asked for; Failure where one is not installed."""
    found: list[Callback] = []
    if wishes.profile is not None:
        found.append(Profile(wishes.profile))
    if wishes.tensorboard is not None:
        try:
            found.append(TensorBoard(wishes.tensorboard))
        except ModuleNotFoundError as error:
            raise Failure(str(error)) from None
    return found


def flops_of(run: Run) -> float | None:
    """Of the dense part in a step, None where it differs from step to step or has no plan."""
    if not has_plan(run.kind()) or hasattr(run.kind(), "dense_costs"):
        return None
    # A model of its own, which is moved to torch's meta device.
    return dense_costs(run.model(), run.batch_size)[0] * run.accumulation


def speed(run: Run, trainer: Trainer, throughput: Throughput, folder: Path) -> None:
    """Say how fast the steps were and what they reached; one record more in training.jsonl."""
    manifest = read_manifest(Path(run.data)) or {}
    known = manifest.get("known", {}).get("train", {})
    record = throughput.record(run, trainer, known, run.kind().ceiling(Path(run.data)))
    if record is not None:
        tell(record)
        append(folder / "training.jsonl", [record])


def origins(kernels: Kernels) -> str:
    """How many ops came from each backend."""
    counts: dict[str, int] = {}
    for name in kernels.origins.values():
        counts[name] = counts.get(name, 0) + 1
    return ", ".join(f"{count} ops from {name}" for name, count in counts.items())


def conclude(
    run: Run,
    trainer: Trainer,
    metrics: dict[str, float],
    trace: StepTrace | None,
    folder: Path,
    wishes: Wishes,
) -> None:
    """The step's table, the held-out figures and the ceiling; all of it in result.json too."""
    ceiling = run.kind().ceiling(Path(run.data))
    result: dict[str, Any] = {"run": str(folder), "step": trainer.step, "epoch": trainer.epoch}
    result |= {"loss": trainer.running.mean, "metrics": metrics, "ceiling": ceiling}
    result |= {"rows": trainer.embedding.rows, "kernels": trainer.kernels.origins}
    if trace is not None:
        roofs = measure_roofs(trainer.kernels.device, quick=True)
        summary = trace.summary(roofs)
        if summary is not None:
            console().print(step_table(summary, roofs))
            result |= {"trace": summary.as_dict(), "roofs": roofs.as_dict()}
    (folder / "result.json").write_text(json.dumps(result, default=str) + "\n")
    say(f"{trainer.step} steps, {trainer.embedding.rows:,} embedding rows, run {folder}")
    said = "  ".join(f"{n} {v:.4f}" for n, v in metrics.items() if n not in ("rows", "auc"))
    beside = "" if ceiling is None else f" (teacher's ceiling {ceiling:.4f})"
    say(f"held-out AUC {metrics['auc']:.4f}{beside}  {said}")
    if wishes.json:
        emit(result)
