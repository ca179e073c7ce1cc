"""A torch.profiler trace of a few steps, for chrome://tracing and Perfetto."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch.profiler import ProfilerActivity, profile

from recis_core.callbacks import Callback, Step

if TYPE_CHECKING:
    from recis_core.train import Trainer


class Profile(Callback):
    """Traces `steps` steps after the first `warm` into `folder`/step-N.json, N the first of them.

    A run that ends before leaves the trace of what there was.
    """

    def __init__(self, folder: Path, warm: int = 5, steps: int = 3) -> None:
        self.folder, self.warm, self.steps = folder, warm, steps
        self._running: profile | None = None
        self._seen = self._first = 0

    def on_start(self, trainer: Trainer) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._seen = 0

    def on_step(self, trainer: Trainer, step: Step) -> None:
        self._seen += 1
        if self._seen == self.warm:
            kinds = [ProfilerActivity.CPU]
            if torch.device(trainer.kernels.device).type == "cuda":
                kinds.append(ProfilerActivity.CUDA)
            self._first = step.step + 1
            self._running = profile(activities=kinds)
            self._running.start()
        elif self._seen == self.warm + self.steps:
            self._write()

    def on_end(self, trainer: Trainer, reason: str) -> None:
        self._write()

    def _write(self) -> None:
        running, self._running = self._running, None
        if running is not None:
            running.stop()
            running.export_chrome_trace(str(self.folder / f"step-{self._first}.json"))
