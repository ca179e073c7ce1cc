"""Kernels that time themselves while a step is watched, and cost one look at a flag otherwise."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from recis_core.blocks import Blocks
from recis_core.kernels import Kernels, every_op
from recis_core.spec import Op, Traffic, nbytes


class Call(NamedTuple):
    """One watched call: its time and bytes, and what it adds to the step's minimum."""

    name: str
    seconds: float
    traffic: Traffic
    needed: int
    ahead: bool = False


@dataclass
class Watch:
    """Whether calls are watched now, and those seen since it was last emptied.

    `counting`: seconds spent on counting bytes, which are not the step's. Calls on other threads
    are `ahead`: they prepare the next step and overlap with this one.
    """

    device: torch.device
    on: bool = False
    thread: int = field(default_factory=threading.get_ident)
    calls: list[Call] = field(default_factory=list)
    counting: float = 0.0

    def empty(self) -> None:
        self.calls.clear()
        self.counting = 0.0

    def timed(
        self,
        name: str,
        call: Callable[..., Any],
        args: tuple[Any, ...],
        count: Callable[[], Traffic],
    ) -> Any:
        """`call(*args)`, its time kept under `name`; bytes are counted after the clock stopped."""
        if not self.on:
            return call(*args)
        ahead = threading.get_ident() != self.thread
        begin = self.now(ahead)
        result = call(*args)
        end = self.now(ahead)
        self.calls.append(Call(name, end - begin, count(), needed(name, args, result), ahead))
        if not ahead:
            self.counting += time.perf_counter() - end
        return result

    def now(self, ahead: bool) -> float:
        if self.device.type == "cuda":
            if ahead:
                # Not the whole device: that is busy with the step.
                torch.cuda.current_stream(self.device).synchronize()
            else:
                torch.cuda.synchronize(self.device)
        return time.perf_counter()


def needed(name: str, args: tuple[Any, ...], result: Any) -> int:
    """A call's part of the step's minimum, the same for every backend and however ops are fused:
    ids read, leaves written and their gradients read, touched slots once each way. The offsets
    read, which belong to features rather than calls, are `offsets_read`."""
    if name == "ids_partition":
        return nbytes(args[0])
    if name in ("rows_pool", "segment_sum"):
        return nbytes(result)
    if name in ("segment_sum_grad", "segment_mean_grad", "segment_tile_grad"):
        return nbytes(args[0])
    if name in UPDATES:
        return slots_moved(*args[:2])
    if name.startswith("rows_reduce_"):
        return slots_moved(*args[:2]) + nbytes(args[2])
    return 0


def offsets_read(features: int, rows: int) -> int:
    """Bytes of the boundaries of every feature's segments in a batch, 4 each."""
    return 4 * features * (rows + 1)


def slots_moved(blocks: Blocks, rows: Tensor) -> int:
    """Bytes of every slot of the touched rows, once each way."""
    return 2 * int((rows >= 0).sum()) * sum(blocks.row_bytes(slot) for slot in blocks.slots)


UPDATES = ("rows_sgd", "rows_adagrad", "rows_adagrad_rowwise", "rows_adam", "rows_adamw")


def traced(kernels: Kernels, watch: Watch) -> Kernels:
    """`kernels` with every op, and every method of a stateful op, watched."""
    bound = {op.name: _traced(op, getattr(kernels, op.name), watch) for op in every_op()}
    return Kernels(kernels.name, bound, kernels.origins, kernels.device)


def _traced(op: Op[..., Any], call: Callable[..., Any], watch: Watch) -> Callable[..., Any]:
    if op.machine:
        return lambda *args: TracedMachine(op, call(*args), args[-1], watch)
    return lambda *args, **out: watch.timed(
        op.name, partial(call, **out), args, lambda: op.traffic(*args)
    )


class TracedMachine:
    """A stateful op's object whose methods are watched; everything else is the object's own."""

    def __init__(self, op: Op[..., Any], state: Any, limit: int, watch: Watch) -> None:
        self._state = state
        for method in ("find", "insert", "erase", "items"):
            setattr(self, method, self._method(op, method, limit, watch))

    def _method(
        self, op: Op[..., Any], method: str, limit: int, watch: Watch
    ) -> Callable[..., Any]:
        call = getattr(self._state, method)
        return lambda *args: watch.timed(
            f"{op.name}.{method}", call, args, lambda: op.traffic(method, args, limit)
        )

    def __len__(self) -> int:
        return len(self._state)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._state, name)
