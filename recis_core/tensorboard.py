"""Training as TensorBoard shows it; an extra."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recis_core.callbacks import Callback, Step

if TYPE_CHECKING:
    from recis_core.train import Trainer


class TensorBoard(Callback):
    """Scalars in `folder`: train/loss, train/norm, train/rows_per_second, valid/<metric>.

    A resumed run hides what was written of later steps. ModuleNotFoundError where TensorBoard is
    not installed, before anything is trained.
    """

    def __init__(self, folder: Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise ModuleNotFoundError(
                "tensorboard is not installed; it comes with: pip install -e '.[tensorboard]'"
            ) from None
        self.folder, self._make = folder, SummaryWriter
        self._writer: Any = None

    def on_start(self, trainer: Trainer) -> None:
        self._writer = self._make(str(self.folder), purge_step=trainer.step + 1)

    def on_step(self, trainer: Trainer, step: Step) -> None:
        figures = {"loss": step.loss, "norm": step.norm}
        figures["rows_per_second"] = step.rows / step.seconds if step.seconds else None
        for name, value in figures.items():
            if value is not None:
                self._writer.add_scalar(f"train/{name}", value, step.step)

    def on_evaluate(self, trainer: Trainer, metrics: Mapping[str, float]) -> None:
        for name, value in metrics.items():
            self._writer.add_scalar(f"valid/{name}", value, trainer.step)
        self._writer.flush()

    def on_end(self, trainer: Trainer, reason: str) -> None:
        if self._writer is not None:
            self._writer.close()
