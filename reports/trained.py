"""A run taken up from its newest checkpoint, to be evaluated or to predict with."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from recis_core import checkpoint
from recis_core.allocator import keep_freed_memory
from recis_core.kernels import Kernels
from recis_core.settings import Settings
from recis_core.train import Trainer
from reports.run import Run


@dataclass(frozen=True)
class Trained:
    """What was trained, and a trainer in the state of the checkpoint."""

    run: Run
    trainer: Trainer


def trained(folder: Path, kernels: Kernels) -> Trained:
    """The newest checkpoint of the run in `folder`; Failure or CheckpointError if there is none."""
    keep_freed_memory()
    run = Run.read(folder)
    settings = Settings(seed=run.seed, dense=run.dense(), precision=run.precision)
    # The rates are those of the checkpoint, however long its schedule was.
    settings = replace(settings, scheduler=run.scheduler(1))
    trainer = Trainer(run.model(), kernels, run.row_rule(), settings=settings)
    trainer.restore(checkpoint.find(folder / "checkpoints").path)
    return Trained(run, trainer)
