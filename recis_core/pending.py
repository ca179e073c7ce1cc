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
    """Settles each step of a trainer and tells its callbacks: at once where the device is the host
    itself; on a GPU when the next step's gradients are launched, by when the device is past it."""

    def __init__(self, trainer: Trainer) -> None:
        self.trainer = trainer
        self.at_once = torch.device(trainer.kernels.device).type == "cpu"
        self._last: Launched | None = None
        self.resume()

    def resume(self) -> None:
        """A step begins now; what was done since the last one ended is none of its time."""
        self._began = time.perf_counter()

    def add(self, launched: Launched) -> None:
        """Take up a step; the one before it is told of."""
        self._last = launched
        if self.at_once:
            self.flush()

    def flush(self) -> None:
        """Tell of the step taken up, if it was not yet; waits for the device to be past it."""
        launched, self._last = self._last, None
        if launched is not None:
            done = self.trainer.settle(launched)
            began = self._began
            # Callbacks count to the next step: the device goes on with it, they may wait for it.
            self.resume()
            self.trainer.tell("on_step", Step(**done, seconds=self._began - began))
