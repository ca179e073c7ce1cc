"""`recis train`: data, training, evaluation, and where the time of a step went."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from reports.run import Run
    from workloads import Workload


def train(
    workload: Annotated[str, typer.Argument(help="Its name, such as mse.")],
    size: Annotated[str | None, typer.Option(help="Default: the workload's first.")] = None,
    length: Annotated[
        int | None, typer.Option(min=1, help="Instead of --size: lma with users of such a length.")
    ] = None,
    backend: Annotated[str, typer.Option(help='One, "a+b" in that order, or auto.')] = "auto",
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    data: Annotated[Path | None, typer.Option(help="Default: data/WORKLOAD-SIZE.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="Default: the next runs/WORKLOAD-SIZE-N.")
    ] = None,
    format: Annotated[str, typer.Option(help="parquet, orc or arrow, if data are written.")] = "",
    epochs: Annotated[int | None, typer.Option(min=1)] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="End after so many steps.")] = None,
    batch_size: Annotated[int | None, typer.Option(min=1)] = None,
    rule: Annotated[str | None, typer.Option(help="Optimizer of the embedding rows.")] = None,
    lr: Annotated[float | None, typer.Option(help="Its learning rate.")] = None,
    eps: Annotated[
        float | None, typer.Option(help="Its eps; a large one moves rare ids' rows less (Adam).")
    ] = None,
    dense_lr: Annotated[float | None, typer.Option(help="AdamW's, of the dense part.")] = None,
    accumulate: Annotated[int | None, typer.Option(min=1, help="Batches a step takes.")] = None,
    schedule: Annotated[
        str | None, typer.Option(help="Of the rates: constant, or linear to nothing at the end.")
    ] = None,
    clip: Annotated[float | None, typer.Option(help="Largest norm of a gradient.")] = None,
    precision: Annotated[
        str | None, typer.Option(help="Of the dense part: float32 or bfloat16.")
    ] = None,
    compile: Annotated[
        bool | None, typer.Option("--compile", help="torch.compile the dense part as one graph.")
    ] = None,
    graph: Annotated[
        bool | None,
        typer.Option("--graph", help="The dense part as one CUDA graph: less work for the host."),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Of order and of drawn weights.")] = None,
    threads: Annotated[int | None, typer.Option(help="CPU threads.")] = None,
    save_every: Annotated[int | None, typer.Option(min=1, help="Steps; default: epochs.")] = None,
    evaluate_every: Annotated[int | None, typer.Option(min=1)] = None,
    keep: Annotated[int, typer.Option(min=1, help="Checkpoints to keep.")] = 3,
    patience: Annotated[
        int | None, typer.Option(min=1, help="End after so many evaluations without a better one.")
    ] = None,
    metric: Annotated[str, typer.Option(help="auc, grouped_auc or log_loss, for it.")] = "auc",
    overlap: Annotated[
        int | None, typer.Option(min=0, help="Steps prepared ahead; default: 1 on a GPU, else 0.")
    ] = None,
    profile: Annotated[
        Path | None, typer.Option(help="Folder for a torch.profiler trace of a few steps.")
    ] = None,
    tensorboard: Annotated[Path | None, typer.Option(help="Folder for its scalars.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the last save.")] = False,
    no_plan: Annotated[
        bool, typer.Option("--no-plan", help="Begin even if memory will not do (recis plan).")
    ] = False,
    no_save: Annotated[bool, typer.Option("--no-save", help="Leave no checkpoints.")] = False,
    no_trace: Annotated[bool, typer.Option("--no-trace", help="No table of the step.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Results as JSON on stdout.")] = False,
) -> None:
    """Train a workload, its data written first if missing; Ctrl-C saves, --resume goes on."""
    from recis_core.early_stop import METRICS
    from recis_core.settings import Settings
    from reports import choice
    from reports.failure import Misuse
    from reports.plan import require_memory
    from reports.training import Wishes, carry_out

    kind = choice.workload_of(workload)
    size = choice.size_of(kind, size) if length is None else choice.size_of_length(kind, length)
    choice.set_threads(threads)
    kernels = choice.kernels_of(backend, device)
    folder = out or choice.folder_of(workload, size, resume)
    given = dict(
        data=None if data is None else str(data), batch_size=batch_size, epochs=epochs, steps=steps,
        rule=rule, lr=lr, dense_lr=dense_lr, accumulation=accumulate, clip=clip, seed=seed,
        precision=precision, compile=compile, graph=graph, schedule=schedule, eps=eps,
    )  # fmt: skip
    given = {name: value for name, value in given.items() if value is not None}
    run = resumed(folder, given) if resume else begun(kind, size, given)
    if metric not in METRICS:
        raise Misuse(f"no metric {metric!r}; there are {', '.join(METRICS)}")
    settings = Settings(
        steps=run.steps,
        accumulation=run.accumulation,
        clip=run.clip,
        dense=run.dense(),
        evaluate_every=evaluate_every,
        save_every=save_every,
        keep=keep,
        seed=run.seed,
        patience=patience,
        metric=metric,
        overlap=overlap,
        precision=run.precision,
        compile=run.compile,
        graph=run.graph,
    )
    if not no_plan:
        require_memory(run, kernels.device)
    wishes = Wishes(resume, not no_trace, json, format, profile, tensorboard, not no_save)
    carry_out(run, kernels, settings, folder, wishes)


def begun(kind: Workload, size: str, given: dict[str, Any]) -> Run:
    """A new run: what the user gave, else the workload's default."""
    from reports.failure import Misuse
    from reports.run import PRECISIONS, RULES, SCHEDULES, Run

    defaults = kind.defaults(size)
    names = ("batch_size", "epochs", "rule", "lr", "dense_lr", "decay", "dense_decay", "schedule")
    chosen: dict[str, Any] = {name: getattr(defaults, name) for name in names}
    if given.get("rule", defaults.rule) == defaults.rule:
        chosen["eps"] = defaults.eps  # it goes with this rule's rate
    chosen |= {"data": str(Path("data") / f"{kind.name}-{size}"), "seed": 0} | given
    if chosen["rule"] not in RULES:
        raise Misuse(f"no rule {chosen['rule']!r}; there are {', '.join(RULES)}")
    if chosen.get("precision", PRECISIONS[0]) not in PRECISIONS:
        raise Misuse(f"no precision {chosen['precision']!r}; there are {', '.join(PRECISIONS)}")
    if chosen["schedule"] not in SCHEDULES:
        raise Misuse(f"no schedule {chosen['schedule']!r}; there are {', '.join(SCHEDULES)}")
    if chosen.get("eps") is not None and chosen["rule"] == "sgd":
        raise Misuse("rule 'sgd' has no eps")
    return Run(workload=kind.name, size=size, **chosen)


def resumed(folder: Path, given: dict[str, Any]) -> Run:
    """The run to go on with, as it was begun; it may be given another end or place of its data."""
    from dataclasses import replace

    from reports.failure import Misuse
    from reports.run import Run

    run = Run.read(folder)
    for name, value in given.items():
        if name not in ("epochs", "steps", "data") and value != getattr(run, name):
            was = getattr(run, name)
            raise Misuse(f"{name} was {was!r} when {folder} was begun and cannot become {value!r}")
    return replace(run, **{n: v for n, v in given.items() if n in ("epochs", "steps", "data")})
