"""`recis compare`: training steps of several backends, and of others' code, in turns."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def compare(
    workload: Annotated[str, typer.Argument(help="Its name, such as mse.")],
    backend: Annotated[
        str, typer.Option(help='By commas; "a+b" is one. The first is what others are set beside.')
    ] = "auto",
    baseline: Annotated[
        str, typer.Option(help="By commas: plain, compile, fbgemm, torchrec, yours.")
    ] = "",
    size: Annotated[str | None, typer.Option(help="Default: the workload's first.")] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    threads: Annotated[int | None, typer.Option(help="CPU threads.")] = None,
    data: Annotated[Path | None, typer.Option(help="Default: data/WORKLOAD-SIZE.")] = None,
    rounds: Annotated[int, typer.Option(min=2, help="Each gives every contender a turn.")] = 8,
    steps: Annotated[int, typer.Option(min=1, help="Steps of a turn.")] = 5,
    warm: Annotated[
        int, typer.Option(min=1, help="First steps, untimed: their losses must agree.")
    ] = 8,
    batch_size: Annotated[int | None, typer.Option(min=1)] = None,
    optimizer: Annotated[
        str, typer.Option(help="Of rows: adam, adagrad or adagrad_rowwise; baselines have some.")
    ] = "adam",
    json: Annotated[bool, typer.Option("--json", help="The record on stdout.")] = False,
    out: Annotated[Path | None, typer.Option(help="Append the record to this file.")] = None,
) -> int:
    """Train equal steps with each contender in turns; who disagrees on the losses gets no time.

    Each backend trains in the trainer's own loop, which reads and prepares ahead as `recis train`
    does. Ratios are of times, with a confidence interval by bootstrap over the rounds.
    """
    import torch

    from recis_core.allocator import keep_freed_memory
    from reports import compare_run
    from reports.choice import kernels_of, set_threads, size_of, workload_of
    from reports.compare_engine import RULES
    from reports.data import written
    from reports.failure import Misuse
    from reports.records import append, line
    from roofline.device import measure_roofs
    from workloads.baselines.definition import Terms

    if optimizer not in RULES:
        raise Misuse(f"no optimizer {optimizer!r}; there are {', '.join(RULES)}")
    keep_freed_memory()
    set_threads(threads)
    kind = workload_of(workload)
    chosen = size_of(kind, size)
    folder = data or Path("data") / f"{kind.name}-{chosen}"
    kernels = [kernels_of(name, device) for name in backend.split(",")]
    baselines = compare_run.baselines_of([name for name in baseline.split(",") if name])
    plan = compare_run.Plan(warm, rounds, steps, traced=max(steps, 3))
    written(kind, chosen, folder)
    defaults = kind.defaults(chosen)
    terms = Terms(
        workload=kind,
        size=chosen,
        data=folder,
        scratch=folder,
        batch=batch_size or defaults.batch_size,
        steps=plan.steps,
        lr=defaults.lr,
        dense_lr=defaults.dense_lr,
        device=torch.device(device),
        optimizer=optimizer,
        eps=defaults.eps,
    )
    record = compare_run.compared(
        terms, plan, kernels, baselines, measure_roofs(device, quick=True)
    )
    compare_run.shown(record)
    if json:
        print(line(record), flush=True)
    if out:
        append(out, [record])
    return 0 if record.agreed else 1
