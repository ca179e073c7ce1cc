"""`recis predict`: a trained run's scores as a Parquet file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def predict(
    run: Annotated[Path, typer.Argument(help="The folder of a training run.")],
    to: Annotated[Path, typer.Option(help="The Parquet file to write.")],
    data: Annotated[
        Path | None, typer.Option(help="Files; default: the run's held-out ones.")
    ] = None,
    backend: Annotated[str, typer.Option(help='One, "a+b" in that order, or auto.')] = "auto",
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    threads: Annotated[int | None, typer.Option(help="CPU threads.")] = None,
    json: Annotated[bool, typer.Option("--json", help="What was written, as JSON.")] = False,
) -> None:
    """Write row, label, group and score of every row with a run's newest checkpoint."""
    from reports.choice import kernels_of, set_threads
    from reports.console import emit, say
    from reports.trained import trained

    set_threads(threads)
    made = trained(run, kernels_of(backend, device))
    batches = made.run.held_out(made.trainer.model, made.trainer.kernels, data)
    rows = made.trainer.predict(batches, to)
    say(f"{to}: {rows:,} rows scored by {run}, step {made.trainer.step}")
    if json:
        emit({"run": str(run), "step": made.trainer.step, "path": str(to), "rows": rows})
