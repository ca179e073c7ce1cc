"""Watching a trainer from outside: its kernels wrapped, its model hooked, its steps marked.

Steps are watched for one thing at a time, so that no measurement disturbs another: first when
things happen, then how many bytes and flops they take, then, on a GPU, what the device does.
"""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch.profiler import record_function
from torch.utils.flop_counter import FlopCounterMode

from recis_core.callbacks import Callback, Step
from recis_core.kernels import Kernels
from recis_core.spec import Traffic
from roofline.kineto import DeviceTime, Mark, device_time
from roofline.stages import Part, Span, parts_of, stage_of
from roofline.traced import needed, offsets_read, traced

OFF, TIME, COUNT, PROFILE = range(4)


@dataclass(frozen=True)
class Counted:
    """Bytes of one call, and what it adds to the step's minimum."""

    op: str
    traffic: Traffic
    needed: int


@dataclass
class Seen:
    """What was observed: of each timed step its seconds, its main thread's parts, the seconds of
    ops on other threads; of each counted step its calls, offsets' bytes, flops; of the device its
    time."""

    seconds: list[float] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)
    cores: list[float] = field(default_factory=list)
    parts: list[list[Part]] = field(default_factory=list)
    beside: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    counted: list[list[Counted]] = field(default_factory=list)
    offsets: list[int] = field(default_factory=list)
    flops: list[int] = field(default_factory=list)
    device: DeviceTime | None = None


class Observer(Callback):
    """Watches `most` steps after the first `warm`, then `few` for bytes, then `few` on a GPU."""

    def __init__(self, warm: int = 5, most: int = 20, few: int = 3) -> None:
        self.seen = Seen()
        self._plan = [OFF] * warm + [TIME] * most + [COUNT] * few
        self._few, self._mode = few, OFF
        self._spans: list[Span] = []
        self._beside: list[Span] = []
        self._calls: list[Counted] = []
        self._begun = self._cpu = 0.0
        self._main = threading.get_ident()
        self._flops: FlopCounterMode | None = None
        self._profiler: Any = None
        self._device = torch.device("cpu")
        self._at = 0

    @property
    def steps(self) -> int:
        """How many steps a trainer must make."""
        return len(self._plan) + 1

    def wrap(self, kernels: Kernels) -> Kernels:
        """The kernels to train with in place of `kernels`."""
        self._device = torch.device(kernels.device)
        if self._device.type == "cuda":
            self._plan += [PROFILE] * self._few
        return traced(kernels, self)  # pyright: ignore[reportArgumentType]

    # As `roofline.traced.Watch`.

    def timed(
        self,
        name: str,
        call: Callable[..., Any],
        args: tuple[Any, ...],
        count: Callable[[], Traffic],
    ) -> Any:
        mode = self._mode
        if mode == OFF:
            return call(*args)
        if mode == COUNT:
            result = call(*args)
            self._calls.append(Counted(name, count(), needed(name, args, result)))
            return result
        with self._span(stage_of(name), name):
            return call(*args)

    @contextmanager
    def _span(self, stage: str, op: str) -> Iterator[None]:
        mark = record_function(Mark(stage, op).text) if self._mode == PROFILE else nullcontext()
        begin = time.perf_counter()
        with mark:
            yield
        own = threading.get_ident() == self._main
        (self._spans if own else self._beside).append(Span(begin, time.perf_counter(), stage, op))

    # As a callback.

    def on_start(self, trainer: Any) -> None:
        self._main = threading.get_ident()
        forward: list[Any] = []

        def enter(*_: Any) -> None:
            forward.append(self._span("forward", "") if self._mode in (TIME, PROFILE) else None)
            if forward[-1] is not None:
                forward[-1].__enter__()

        def leave(*_: Any) -> None:
            span = forward.pop()
            if span is not None:
                span.__exit__(None, None, None)

        self._hooks = [
            trainer.model.register_forward_pre_hook(enter),
            trainer.model.register_forward_hook(leave),
        ]
        self._turn(self._plan[0])

    def on_step(self, trainer: Any, step: Step) -> None:
        now = time.perf_counter()
        if self._mode == TIME:
            self.seen.seconds.append(now - self._begun)
            self.seen.cores.append(time.process_time() - self._cpu)
            self.seen.rows.append(step.rows)
            self.seen.losses.append(step.loss)
            self.seen.parts.append(parts_of(self._spans, self._begun, now))
            self.seen.beside.append(sum(s.end - s.begin for s in self._beside))
        elif self._mode == COUNT:
            self.seen.counted.append(self._calls)
            self.seen.offsets.append(offsets_read(len(trainer.embedding.features), step.rows))
        self._at += 1
        self._turn(self._plan[self._at] if self._at < len(self._plan) else OFF)

    def on_end(self, trainer: Any, reason: str) -> None:
        self._turn(OFF)
        for hook in self._hooks:
            hook.remove()

    def _turn(self, mode: int) -> None:
        """Begin a step watched for `mode`; what the last one needed ends."""
        if self._flops is not None:
            self._flops.__exit__(None, None, None)
            self.seen.flops.append(self._flops.get_total_flops())
            self._flops = None
        if self._mode == PROFILE and mode != PROFILE:
            self._end_profile()
        if mode == PROFILE and self._mode != PROFILE:
            self._begin_profile()
        self._mode = mode
        self._spans, self._beside, self._calls = [], [], []
        if mode == COUNT:
            self._flops = FlopCounterMode(display=False)
            self._flops.__enter__()
        self._cpu, self._begun = time.process_time(), time.perf_counter()

    def _begin_profile(self) -> None:
        kinds = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
        self._profiler = torch.profiler.profile(activities=kinds)
        torch.cuda.synchronize(self._device)
        self._profiler.__enter__()

    def _end_profile(self) -> None:
        torch.cuda.synchronize(self._device)
        self._profiler.__exit__(None, None, None)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "trace.json"
            self._profiler.export_chrome_trace(str(path))
            self.seen.device = device_time(path, self._few)
        self._profiler = None


def mean_by_op(seen: Seen) -> Mapping[str, tuple[float, float]]:
    """(calls, seconds) of each op in a mean step, on the main thread."""
    steps = max(len(seen.parts), 1)
    found: dict[str, list[float]] = {}
    for parts in seen.parts:
        for part in parts:
            if part.op and part.op != part.stage:
                found.setdefault(part.op, []).append(part.seconds)
    return {op: (len(times) / steps, sum(times) / steps) for op, times in found.items()}
