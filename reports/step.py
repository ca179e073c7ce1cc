"""A traced training step of a workload as a record, and shown to a person."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table

from recis_core.roofs import GB, Roofs
from recis_core.settings import Settings
from recis_core.train import Trainer
from reports.choice import kernels_of, size_of, workload_of
from reports.console import console, say
from reports.data import written
from reports.run import Run
from roofline.kinds import StepRecord
from roofline.observer import Observer
from roofline.stamp import stamp
from roofline.step import step_facts

if TYPE_CHECKING:
    from reports.roofline_run import Watched


def traced_step(device: str, roofs: Roofs, watched: Watched, backend: str) -> StepRecord:
    """Train some steps of the workload on its data, written first if missing, and watch them."""
    kind = workload_of(watched.workload)
    size = size_of(kind, watched.size)
    defaults = kind.defaults(size)
    data = watched.data or Path("data") / f"{kind.name}-{size}"
    batch = watched.batch_size or defaults.batch_size
    names = ("rule", "lr", "decay", "dense_lr", "dense_decay")
    run = Run(
        workload=kind.name, size=size, data=str(data), batch_size=batch, epochs=1000, seed=0,
        **{name: getattr(defaults, name) for name in names},
    )  # fmt: skip
    written(kind, size, data)
    kernels = kernels_of(backend, device)
    observer = Observer(most=watched.steps)
    watched_kernels = observer.wrap(kernels)
    model: Any = run.model()
    say(f"tracing {kind.name} {size} on {kernels}, batches of {batch}, {watched.steps} steps")
    trainer = Trainer(
        model,
        watched_kernels,
        run.row_rule(),
        run.reader(model, watched_kernels),
        settings=Settings(steps=observer.steps, dense=run.dense()),
        callbacks=[observer],
    )
    trainer.train()
    command = (
        f"recis roofline --step {kind.name} --size {size} --backend {backend} --device {device} "
        f"--batch-size {batch} --steps {watched.steps}"
    )
    return StepRecord(
        **stamp(roofs, command),
        **step_facts(observer.seen, roofs, kernels.origins),
        workload=kind.name,
        size=size,
        backend=kernels.name,
        origins=kernels.origins,
        batch=batch,
        roofs=roofs.as_dict(),
    )


def shown_step(r: StepRecord) -> None:
    """The stages, the waterfall, the one line."""
    out = console()
    out.print(stages_table(r))
    out.print(waterfall_table(r))
    sparse, dense = r.sparse, r.dense
    unused = "" if r.busy is None else f"  {busy_name(r)} in use {r.busy:.0%}"
    out.print(
        f"sparse MBU {share(sparse['mbu'])} ({sparse['bytes'] / 1e6:.2f} MB in "
        f"{sparse['seconds'] * 1e3:.2f} ms)  dense MFU {share(dense['mfu'])} "
        f"({dense['flops'] / GB:.2f} Gflop in {dense['seconds'] * 1e3:.2f} ms)  "
        f"{r.rows_per_s:,.0f} rows/s{unused}",
        soft_wrap=True,
    )
    out.print(f"fix first: {r.first}", soft_wrap=True, markup=False)


def busy_name(r: StepRecord) -> str:
    return "device" if r.device.get("kind") == "cuda" else f"{r.threads} threads"


def share(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"


def stages_table(r: StepRecord) -> Table:
    table = Table(
        title=f"{r.workload} {r.size} on {r.backend}: mean of {r.steps} steps of {r.batch} rows",
        caption=f"{r.device['name']}, {r.threads} threads; MB and MBU by the ops' minimum bytes; "
        "between: what the engine does before and after the ops of a stage.",
    )
    table.add_column("stage", no_wrap=True)
    for name in ("calls", "ms", "share", "between", "MB", "GB/s", "MBU"):
        table.add_column(name, justify="right", no_wrap=True)
    for s in r.stages:
        table.add_row(
            s["stage"],
            f"{s['calls']:.0f}" if s["calls"] else "",
            f"{s['seconds'] * 1e3:.2f}",
            f"{s['share']:.1%}",
            f"{s['between'] * 1e3:.2f}",
            f"{s['bytes'] / 1e6:.2f}" if s["bytes"] else "",
            "" if s["gbs"] is None else f"{s['gbs']:.2f}",
            "" if s["mbu"] is None else f"{s['mbu']:.1%}",
        )
    table.add_section()
    table.add_row("step", "", f"{r.seconds * 1e3:.2f}", "100%", "", f"{r.bytes / 1e6:.2f}",
                  f"{r.bytes / r.seconds / GB:.2f}", f"{r.mbu:.1%}")  # fmt: skip
    return table


def waterfall_table(r: StepRecord) -> Table:
    table = Table(title="from the bound to the measured step")
    table.add_column("part", no_wrap=True)
    for name in ("ms", "so far", "share"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    total = 0.0
    for part in r.waterfall:
        total += part["seconds"]
        length = part["seconds"] / r.seconds
        table.add_row(part["name"], f"{part['seconds'] * 1e3:.2f}", f"{total * 1e3:.2f}",
                      f"{length:.1%}", "█" * round(40 * max(length, 0)))  # fmt: skip
    return table
