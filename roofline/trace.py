"""Where the time of real training steps goes: per op time, bytes, MBU; and the step's own MBU."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import torch
from rich.table import Table

from recis_core.callbacks import Callback, Step
from recis_core.kernels import Kernels
from recis_core.roofs import GB, Roofs
from roofline.traced import Call, Watch, offsets_read, traced

if TYPE_CHECKING:
    from recis_core.train import Trainer


@dataclass(frozen=True)
class OpShare:
    """One op in a step: figures are means over the watched steps."""

    op: str
    backend: str
    calls: float
    seconds: float
    bytes: float
    gbs: float
    mbu: float
    share: float


@dataclass(frozen=True)
class StepSummary:
    """A mean watched step. `other`: seconds outside every op, the dense model above all.

    Ops that a thread runs ahead for the next step overlap: then all add up to more than `seconds`.

    `bytes` is the backend-independent minimum and `mbu` it over time and copy roof.
    """

    steps: int
    seconds: float
    other: float
    rows: float
    bytes: float
    mbu: float
    ops: tuple[OpShare, ...]

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


class StepTrace(Callback):
    """Watches every `every`-th step after the first `warm`, `most` at most.

    `wrap` the kernels before the trainer and its reader get them.
    """

    def __init__(self, warm: int = 5, every: int = 5, most: int = 20) -> None:
        self.warm, self.every, self.most = warm, every, most
        self.steps, self.seconds, self.rows = 0, 0.0, 0
        self._since = 0
        self._calls: list[Call] = []
        self._needed = 0
        self._watch: Watch | None = None
        self._kernels: Kernels | None = None

    def wrap(self, kernels: Kernels) -> Kernels:
        """The kernels to train with in place of `kernels`."""
        self._watch, self._kernels = Watch(torch.device(kernels.device)), kernels
        return traced(kernels, self._watch)

    def on_start(self, trainer: Trainer) -> None:
        self._since = 0

    def on_step(self, trainer: Trainer, step: Step) -> None:
        watch = self._watch
        if watch is None:
            return
        if watch.on:
            self.steps += 1
            self.seconds += step.seconds - watch.counting
            self.rows += step.rows
            self._calls += watch.calls
            self._needed += sum(call.needed for call in watch.calls)
            self._needed += offsets_read(len(trainer.embedding.features), step.rows)
        self._since += 1
        past = self._since - self.warm
        watch.on = past >= 0 and past % self.every == 0 and self.steps < self.most
        watch.empty()

    def on_evaluate(self, trainer: Trainer, metrics: Any) -> None:
        # What was seen since the step was the evaluation's.
        self._pause()

    def on_save(self, trainer: Trainer, path: Any) -> None:
        self._pause()

    def _pause(self) -> None:
        if self._watch is not None:
            self._watch.on = False
            self._watch.empty()

    def on_end(self, trainer: Trainer, reason: str) -> None:
        self._pause()

    @property
    def needed(self) -> float | None:
        """Minimum bytes of a mean watched step, None if no step was watched."""
        return self._needed / self.steps if self.steps else None

    def summary(self, roofs: Roofs) -> StepSummary | None:
        """The mean watched step against `roofs`, None if no step was watched."""
        if not self.steps or self._watch is None or self._kernels is None:
            return None
        n = self.steps
        seconds, size = self.seconds / n, self._needed / n
        by_op: dict[str, list[Call]] = {}
        for call in self._calls:
            by_op.setdefault(call.name, []).append(call)
        shares = [self._share(name, calls, roofs) for name, calls in by_op.items()]
        ops = tuple(sorted(shares, key=lambda op: -op.seconds))
        return StepSummary(
            steps=n,
            seconds=seconds,
            other=seconds - sum(call.seconds for call in self._calls if not call.ahead) / n,
            rows=self.rows / n,
            bytes=size,
            mbu=size / seconds / roofs.copy,
            ops=ops,
        )

    def _share(self, name: str, calls: list[Call], roofs: Roofs) -> OpShare:
        assert self._kernels is not None
        seconds = sum(call.seconds for call in calls)
        size = sum(call.traffic.minimum for call in calls)
        return OpShare(
            op=name,
            backend=self._kernels.origins[name.partition(".")[0]],
            calls=len(calls) / self.steps,
            seconds=seconds / self.steps,
            bytes=size / self.steps,
            gbs=size / seconds / GB,
            mbu=size / seconds / roofs.copy,
            share=seconds / self.seconds,
        )


def step_table(summary: StepSummary, roofs: Roofs) -> Table:
    """The summary for a human."""
    table = Table(
        title=f"a training step: mean of {summary.steps} watched",
        caption=(
            f"{roofs.device}, {roofs.threads} threads; measured copy roof "
            f"{roofs.copy / GB:.1f} GB/s; MBU = minimum bytes / time / copy roof.\n"
            "The step's bytes: ids, offsets, each touched slot once each way, leaves and gradients."
        ),
    )
    for name in ("op", "backend"):
        table.add_column(name, no_wrap=True)
    for name in ("calls", "ms", "MB", "GB/s", "MBU", "share"):
        table.add_column(name, justify="right", no_wrap=True)
    for op in summary.ops:
        table.add_row(
            op.op, op.backend, *_cells(op.calls, op.seconds, op.bytes, op.mbu, op.share, op.gbs)
        )
    other = summary.other
    table.add_row("dense, reading, other", "torch", "", f"{other * 1e3:.2f}", "", "", "",
                  f"{other / summary.seconds:.1%}")  # fmt: skip
    table.add_section()
    gbs = summary.bytes / summary.seconds / GB
    table.add_row("step", "", *_cells(1, summary.seconds, summary.bytes, summary.mbu, 1.0, gbs))
    return table


def _cells(
    calls: float, seconds: float, size: float, mbu: float, share: float, gbs: float
) -> tuple[str, ...]:
    return (
        f"{calls:.0f}",
        f"{seconds * 1e3:.2f}",
        f"{size / 1e6:.2f}",
        f"{gbs:.2f}",
        f"{mbu:.1%}",
        f"{share:.1%}",
    )
