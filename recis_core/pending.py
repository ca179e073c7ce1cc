"""Steps that are launched and not yet told of, as nobody waits for a GPU only to tell its loss."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import torch

from recis_core.callbacks import Step
from recis_core.step import Launched

if TYPE_CHECKING:
    from recis_core.train import Trainer


class Pending:
    """Tells a trainer's callbacks of each step, on a GPU when the next one is launched.

    At once where the guard waited for the step's norm, or the device is the host itself.
    """

    def __init__(self, trainer: Trainer) -> None:
        self.trainer = trainer
        on_cpu = torch.device(trainer.kernels.device).type == "cpu"
        self.at_once = trainer.settings.guard > 0 or on_cpu
        self._last: Launched | None = None
        self.resume()

    def resume(self) -> None:
        """A step begins now; what was done since the last one ended is none of its time."""
        self._began = time.perf_counter()

    def add(self, launched: Launched) -> None:
        """Tell of the step before, and of this one if its numbers are there."""
        self.flush()
        self._last = launched
        if self.at_once:
            self.flush()

    def flush(self) -> None:
        """Tell of all steps; waits for the device."""
        launched, self._last = self._last, None
        if launched is not None:
            done = self.trainer.settle(launched)
            step = Step(**done, seconds=time.perf_counter() - self._began)
            self.trainer.tell("on_step", step)
            self.resume()
