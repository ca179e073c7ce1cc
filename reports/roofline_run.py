"""Carrying out `recis roofline`: roofs, ops, steps, each record said and kept when it is there."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recis_core.roofs import Roofs
from reports.choice import kernels_of
from reports.choice import ops_of as named_ops
from reports.console import console, progress
from reports.failure import Failure
from reports.records import Line, append, line
from reports.roofline import Kept, Place, completed, roofline_table, roofs_table
from reports.sheet import reasons


@dataclass(frozen=True)
class Scene:
    """Where a run measures and where its records go; `again` keeps none of the file's."""

    device: str
    place: Place
    out: Path
    again: bool
    json: bool

    def keep(self, record: Line) -> None:
        append(self.out, [record])
        self.say(record)

    def say(self, record: Line) -> None:
        if self.json:
            print(line(record), flush=True)

    def kept(self) -> Kept:
        return Kept({}, None) if self.again else Kept.of(self.out, self.place)


@dataclass(frozen=True)
class Asked:
    """Which backends and ops to measure, for how many seconds each; whether to count bytes too."""

    backends: list[str]
    ops: tuple[str, ...]
    case: str | None
    budget: float
    ncu: bool


@dataclass(frozen=True)
class Watched:
    """Whose step to trace, and with which backends."""

    workload: str
    size: str | None
    data: Path | None
    steps: int
    batch_size: int | None
    backends: list[str]


def present(device: str) -> list[str]:
    """Every backend that can run on `device`, but for the reference."""
    import backends

    found = [n for n, b in backends.known().items() if n != "reference" and not b.absent(device)]
    if not found:
        raise Failure(f"no backend runs on {device}: recis backends --device {device} says why")
    return found


def roofs_of(scene: Scene) -> Roofs:
    """The roofs of this file's last run, or new ones; both are shown beside the data sheet."""
    import torch

    from roofline.device import measure_roofs
    from roofline.stamp import roofs_record

    roofs = scene.kept().roofs
    known = roofs is not None
    if roofs is None:
        console().print("measuring the roofs")
        roofs = measure_roofs(scene.device, torch.get_num_threads(), fresh=True)
    record = roofs_record(roofs)
    if not known:
        scene.keep(record)
    console().print(roofs_table(record))
    return roofs


def ops_of(scene: Scene, roofs: Roofs, asked: Asked) -> int:
    """Every op, case and backend; 1 if any is wrong, fails, or beats what the hardware can."""
    from reports.benchmark import plan_of
    from roofline.measure import Setting
    from roofline.timer import Timer

    contenders = [kernels_of(name, scene.device) for name in asked.backends]
    plan = plan_of(named_ops(asked.ops), asked.case)
    setting = Setting(roofs, Timer.of(scene.device), asked.budget)
    records, old = [], 0
    total = len(plan) * len(contenders)
    try:
        with progress() as bar:
            task = bar.add_task("roofline", total=total)
            for record, was in completed(contenders, plan, setting, scene.out, scene.kept()):
                bar.update(task, advance=1, description=record.op)
                records.append(record)
                old += was
                if not was:
                    scene.say(record)
    except KeyboardInterrupt:
        raise Failure(
            f"interrupted: {len(records)} of {total} records are in {scene.out}; "
            "the same command goes on"
        ) from None
    shown = console()
    shown.print(roofline_table(records))
    for text in reasons(records):
        shown.print(text, soft_wrap=True, markup=False)
    shown.print(f"{len(records) - old} measured, {old} kept: {scene.out}", soft_wrap=True)
    bad = any(r.status in ("wrong", "error") for r in records)
    if asked.ncu:
        bad = count_bytes(scene, plan, contenders, roofs) or bad
    return 1 if bad else 0


def count_bytes(scene: Scene, plan: Any, contenders: Any, roofs: Roofs) -> bool:
    """DRAM bytes of every case by Nsight Compute; True if it could not count."""
    from reports.roofline import counters_table
    from roofline.counters import count

    found = []
    with progress() as bar:
        task = bar.add_task("ncu", total=len(plan) * len(contenders))
        for kernels in contenders:
            for record in count(kernels, plan, roofs):
                bar.update(task, advance=1, description=record.op)
                scene.keep(record)
                found.append(record)
    console().print(counters_table(found))
    bad = [r for r in found if r.status == "error"]
    for reason in dict.fromkeys(r.reason for r in bad):
        console().print(f"ncu: {reason}", soft_wrap=True, markup=False)
    return bool(bad)


def steps_of(scene: Scene, roofs: Roofs, watched: Watched) -> int:
    """A traced training step of the workload for each backend named."""
    from reports.step import shown_step, traced_step

    for name in watched.backends:
        record = traced_step(scene.device, roofs, watched, name)
        scene.keep(record)
        shown_step(record)
    return 0
