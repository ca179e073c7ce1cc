"""`recis evaluate`: a trained run measured on held-out data."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def evaluate(
    run: Annotated[Path, typer.Argument(help="The folder of a training run.")],
    data: Annotated[
        Path | None, typer.Option(help="Files; default: the run's held-out ones.")
    ] = None,
    backend: Annotated[str, typer.Option(help='One, "a+b" in that order, or auto.')] = "auto",
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    threads: Annotated[int | None, typer.Option(help="CPU threads.")] = None,
    json: Annotated[bool, typer.Option("--json", help="The figures as JSON on stdout.")] = False,
) -> None:
    """Print AUC, grouped AUC, log loss and calibration of a run's newest checkpoint."""
    from reports.choice import kernels_of, set_threads
    from reports.console import emit, say
    from reports.trained import trained

    set_threads(threads)
    made = trained(run, kernels_of(backend, device))
    batches = made.run.held_out(made.trainer.model, made.trainer.kernels, data)
    metrics = made.trainer.evaluate(batches)
    said = "  ".join(f"{name} {value:.4f}" for name, value in metrics.items() if name != "rows")
    say(f"{run}, step {made.trainer.step}, {metrics['rows']:,.0f} rows: {said}")
    if json:
        emit({"run": str(run), "step": made.trainer.step, **metrics})
