"""What hangs on the training loop: the protocol, and the log it leaves."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from recis_core.train import Trainer


@dataclass(frozen=True)
class Step:
    """One optimizer step: its number from 1, the weighted mean loss of its rows, the norm of its
    gradient before clipping (None where nothing needs it), whether the guard `skipped` the
    update, the `seconds` from asking for its first batch to its end."""

    step: int
    epoch: int
    rows: int
    loss: float
    norm: float | None
    skipped: bool
    seconds: float


class Callback(Protocol):
    """Told what happens while a model trains. Derive from it and define what is wanted."""

    def on_start(self, trainer: Trainer) -> None:
        """Before the first step; `trainer.step` is where a resumed run goes on."""

    def on_step(self, trainer: Trainer, step: Step) -> None:
        """After every optimizer step; on a GPU when the next one's gradients are launched."""

    def on_evaluate(self, trainer: Trainer, metrics: Mapping[str, float]) -> None:
        """After an evaluation on the validation data."""

    def on_save(self, trainer: Trainer, path: Path) -> None:
        """After a checkpoint is complete."""

    def on_end(self, trainer: Trainer, reason: str) -> None:
        """Last, whatever happened: `reason` is "done", "stopped" (early), "interrupted" or
        "failed"."""


class JsonLog(Callback):
    """One JSON object a line: "event" (start, step, evaluate, save, end), "step", and what it says.

    A line is handed to the system at once, so a killed process keeps it. A resumed run drops the
    lines of steps after the one it goes on from, and a line that was cut off.
    Values that are not finite become null.
    """

    def __init__(self, path: Path, every: int = 1) -> None:
        """`every`: log each step whose number it divides."""
        self.path, self.every = path, every
        self._file: IO[str] | None = None

    def on_start(self, trainer: Trainer) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if self.path.exists():
            truncate_log(self.path, trainer.step)
        self._file = self.path.open("a")
        settings = {k: v for k, v in asdict(trainer.settings).items() if not callable(v)}
        self._say("start", trainer.step, kernels=trainer.kernels.name, settings=settings)

    def on_step(self, trainer: Trainer, step: Step) -> None:
        if step.step % self.every == 0:
            self._say("step", **asdict(step))

    def on_evaluate(self, trainer: Trainer, metrics: Mapping[str, float]) -> None:
        self._say("evaluate", trainer.step, epoch=trainer.epoch, **metrics)

    def on_save(self, trainer: Trainer, path: Path) -> None:
        self._say("save", trainer.step, path=str(path))

    def on_end(self, trainer: Trainer, reason: str) -> None:
        if self._file is not None:
            self._say("end", trainer.step, reason=reason)
            self._file.close()

    def _say(self, event: str, step: int, **facts: Any) -> None:
        assert self._file is not None
        line = json.dumps(finite({"event": event, "step": step, **facts}), default=str)
        self._file.write(line + "\n")
        self._file.flush()


def finite(value: Any) -> Any:
    """`value` with None for every NaN and infinity, which JSON does not have."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def truncate_log(path: Path, step: int) -> None:
    """Drop the lines that say something of a step after `step`, and a last one cut off."""
    aside = path.with_name(f".{path.name}.part")
    with path.open() as lines, aside.open("w") as kept:
        for line in lines:
            if not line.endswith("\n"):
                break
            if json.loads(line)["step"] <= step:
                kept.write(line)
        kept.flush()
        os.fsync(kept.fileno())
    aside.replace(path)
