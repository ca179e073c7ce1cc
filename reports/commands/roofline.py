"""`recis roofline`: measured roofs, then every op against them, or a whole training step."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def roofline(
    backend: Annotated[
        str | None,
        typer.Option(help='By commas; "a+b" is one. Default: all that run here but the reference.'),
    ] = None,
    op: Annotated[list[str] | None, typer.Option(help="Only this op; may be repeated.")] = None,
    case: Annotated[str | None, typer.Option(help="Only cases whose name holds this.")] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    threads: Annotated[int | None, typer.Option(help="CPU threads.")] = None,
    budget: Annotated[float, typer.Option(help="Seconds of samples per measurement.")] = 1.0,
    roofs: Annotated[bool, typer.Option("--roofs", help="Only the roofs.")] = False,
    step: Annotated[
        str | None, typer.Option(help="Instead of ops: a traced training step of this workload.")
    ] = None,
    size: Annotated[str | None, typer.Option(help="Of the workload.")] = None,
    data: Annotated[
        Path | None, typer.Option(help="Its data; default: data/WORKLOAD-SIZE.")
    ] = None,
    steps: Annotated[int, typer.Option(min=1, help="Steps to watch.")] = 20,
    batch_size: Annotated[int | None, typer.Option(min=1)] = None,
    ncu: Annotated[
        bool, typer.Option("--ncu", help="Also count DRAM bytes with Nsight Compute (GPU).")
    ] = False,
    again: Annotated[bool, typer.Option("--again", help="Keep nothing, measure all anew.")] = False,
    json: Annotated[bool, typer.Option("--json", help="A record per line on stdout.")] = False,
    out: Annotated[
        Path | None, typer.Option(help="File of records; default: runs/roofline-DEVICE.jsonl.")
    ] = None,
) -> int:
    """Measure the roofs of this machine, and how close every op, or a training step, comes.

    Finished records are in the file at once: interrupted with Ctrl-C, the same command goes on.
    """
    from recis_core.allocator import keep_freed_memory
    from reports import roofline_run as runs
    from reports.choice import set_threads
    from reports.failure import Misuse
    from reports.roofline import Place

    if step is not None and (op or case or ncu):
        raise Misuse("--step measures a training step; --op, --case and --ncu are of ops")
    keep_freed_memory()
    set_threads(threads)
    place = Place.of(device)
    place_out = out or place.file
    scene = runs.Scene(device, place, place_out, again, json)
    limits = runs.roofs_of(scene)
    if roofs:
        return 0
    if step is not None:
        watch = runs.Watched(step, size, data, steps, batch_size, (backend or "auto").split(","))
        return runs.steps_of(scene, limits, watch)
    names = (backend or ",".join(runs.present(device))).split(",")
    return runs.ops_of(scene, limits, runs.Asked(names, tuple(op or ()), case, budget, ncu))
