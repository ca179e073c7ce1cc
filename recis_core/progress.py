"""Show a human how training goes: a bar on a terminal, plain lines elsewhere; on stderr."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from recis_core.callbacks import Callback, Step

if TYPE_CHECKING:
    from recis_core.train import Trainer


class ProgressBar(Callback):
    """Step, epoch, running loss, the last AUC, rows/s, memory in use and time left.

    `figures` lends what only an upper layer knows, such as MBU, by name; shares of 1. Where stderr
    is no terminal: a line every `seconds`.
    """

    def __init__(
        self,
        console: Console | None = None,
        seconds: float = 5.0,
        figures: Callable[[Step], Mapping[str, float]] = lambda _: {},
    ) -> None:
        self.figures = figures
        self.console = console or Console(stderr=True, highlight=False)
        self.seconds = seconds
        self._bar: Progress | None = None
        self._task = TaskID(0)
        self._rows, self._spent, self._said = 0, 0.0, 0.0

    def on_start(self, trainer: Trainer) -> None:
        self._said = time.monotonic()
        for reason in trainer.passed_over:
            self.console.print(f"passed over a damaged checkpoint: {reason}", soft_wrap=True)
        if trainer.step:
            self.console.print(f"resumed from step {trainer.step}", soft_wrap=True)
        if self.console.is_terminal:
            parts = TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn()
            self._bar = Progress(*parts, console=self.console, transient=True)
            self._task = self._bar.add_task("", total=1.0)
            self._bar.start()

    def on_step(self, trainer: Trainer, step: Step) -> None:
        self._rows += step.rows
        self._spent += step.seconds
        if self._bar is not None:
            total = None if trainer.fraction is None else 1.0
            text = self._line(trainer, step)
            done = trainer.fraction or 0.0
            self._bar.update(self._task, description=text, completed=done, total=total)
        elif time.monotonic() - self._said >= self.seconds:
            self._said = time.monotonic()
            part = "" if trainer.fraction is None else f"  {trainer.fraction:.0%}"
            self.console.print(self._line(trainer, step) + part, soft_wrap=True)
        if trainer.interrupt.requested:
            self.console.print(f"stopping after step {step.step}; Ctrl-C again stops at once")

    def _line(self, trainer: Trainer, step: Step) -> str:
        speed = self._rows / self._spent if self._spent else 0.0
        text = f"step {step.step}  epoch {step.epoch + 1}  loss {trainer.running.mean:.4f}"
        if "auc" in trainer.metrics:
            text += f"  AUC {trainer.metrics['auc']:.4f}"
        text += f"  {speed:,.0f} rows/s"
        text += "".join(f"  {name} {value:.1%}" for name, value in self.figures(step).items())
        return f"{text}  {memory_in_use(trainer.kernels.device) / 1e9:.2f} GB"

    def on_evaluate(self, trainer: Trainer, metrics: Mapping[str, float]) -> None:
        said = "  ".join(f"{name} {value:.4f}" for name, value in metrics.items() if name != "rows")
        self.console.print(
            f"step {trainer.step}  epoch {trainer.epoch}  validation  {said}", soft_wrap=True
        )

    def on_save(self, trainer: Trainer, path: Path) -> None:
        # On a terminal the bar says enough; in a log the name of what was saved is worth a line.
        if self._bar is None:
            self.console.print(f"saved {path}", soft_wrap=True)

    def on_end(self, trainer: Trainer, reason: str) -> None:
        if self._bar is not None:
            self._bar.stop()
        early = trainer.early
        if reason == "stopped":
            self.console.print(
                f"stopped early: {early.metric} was best, {early.best:.4f}, at step "
                f"{early.best_step}, {early.failed} evaluations ago"
                if early.best is not None
                else f"stopped early: {early.metric} was never a number",
                soft_wrap=True,
            )


def memory_in_use(device: torch.device | str) -> int:
    """Bytes: torch's on a GPU, else this process's resident ones (the most ever where the system
    does not tell)."""
    if torch.device(device).type == "cuda":
        return torch.cuda.memory_allocated(device)
    pages = Path("/proc/self/statm")
    if pages.exists():
        return int(pages.read_text().split()[1]) * resource.getpagesize()
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024
