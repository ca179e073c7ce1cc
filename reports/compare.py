"""Training steps of several contenders in turns, and what the turns say of their ratio."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from recis_core.tolerance import LOSS, Disagreement

LEVEL = 0.95
RESAMPLES = 10_000
Step = Callable[[], float]


@dataclass
class Turns:
    """What one contender did: the loss of every step, seconds of a step in each round."""

    name: str
    losses: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    reason: str = ""

    @property
    def agrees(self) -> bool:
        return not self.reason


@dataclass(frozen=True)
class Ratio:
    """Time of `name` over time of `over`, with a confidence interval of `level`."""

    name: str
    over: str
    ratio: float
    low: float
    high: float
    level: float = LEVEL


def warmed(steps: Mapping[str, Step], count: int) -> dict[str, Turns]:
    """Every contender trains its first `count` steps, untimed; those whose losses differ from the
    first one's say so, and are not to be timed."""
    found = {name: Turns(name) for name in steps}
    for name, step in steps.items():
        found[name].losses += [step() for _ in range(count)]
    judge(found)
    return found


def judge(found: Mapping[str, Turns], reach: np.ndarray | None = None) -> None:
    """Write a reason to every contender whose losses are not the first one's.

    Held to the tolerance of one step, or, per step, to `reach`: how far they may lie apart.
    """
    trusted = next(iter(found.values()))
    if not np.isfinite(trusted.losses).all():
        trusted.reason = f"a loss of {trusted.name} is not finite"
    for turns in found.values():
        if turns.reason:
            continue
        if reach is not None:
            turns.reason = parted(turns, trusted, reach)
            continue
        count = min(len(trusted.losses), len(turns.losses))
        try:
            got, want = (np.array(t.losses[:count], np.float32) for t in (turns, trusted))
            LOSS.check(f"losses of {turns.name} beside {trusted.name}", got, want, "float32")
        except Disagreement as error:
            turns.reason = str(error)


def parted(turns: Turns, trusted: Turns, reach: np.ndarray) -> str:
    """At which step the losses part by more than `reach`; empty if they do not."""
    got, want = np.array(turns.losses), np.array(trusted.losses)
    count = min(len(got), len(want), len(reach))
    # A NaN is never near.
    near = np.abs(got[:count] - want[:count]) <= reach[:count]
    if near.all():
        return ""
    at = int(np.argmin(near))
    return (
        f"losses of {turns.name} part from {trusted.name}'s at step {at + 1} of {count}: "
        f"{got[at]:.7g} beside {want[at]:.7g}, and rounding explains {reach[at]:.2g}"
    )


def interleaved(
    steps: Mapping[str, Step],
    found: Mapping[str, Turns],
    rounds: int,
    turn: int,
    device: torch.device,
    told: Callable[[], None] = lambda: None,
) -> None:
    """Rounds in which each contender takes one turn of `turn` steps, another one first each time;
    `found` takes losses and seconds, complete rounds alone if it is interrupted."""
    names = list(steps)
    for number in range(rounds):
        at = number % len(names)
        order = names[at:] + names[:at]
        done = {name: timed(steps[name], turn, device) for name in order}
        for name, (losses, seconds) in done.items():
            found[name].losses += losses
            found[name].seconds.append(seconds)
        told()


def timed(step: Step, turn: int, device: torch.device) -> tuple[list[float], float]:
    """Losses, and seconds of a step; the device is idle before and after."""
    wait = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    wait()
    began = time.perf_counter()
    losses = [step() for _ in range(turn)]
    wait()
    return losses, (time.perf_counter() - began) / turn


def ratio_of(one: Turns, other: Turns, seed: int = 0) -> Ratio:
    """Time of `one` over time of `other`: the geometric mean over rounds, whose two turns met the
    same machine, and its interval by bootstrap over the rounds (percentiles)."""
    logs = np.log(np.array(one.seconds) / np.array(other.seconds))
    drawn = np.random.default_rng(seed).integers(0, len(logs), (RESAMPLES, len(logs)))
    means = logs[drawn].mean(1)
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Ratio(one.name, other.name, *map(math.exp, (float(logs.mean()), low, high)))


def ratios(found: Sequence[Turns]) -> list[Ratio]:
    """The first against each other one, among those that agree and were timed: how much longer
    the other takes."""
    agreed = [turns for turns in found if turns.agrees and turns.seconds]
    if not agreed or agreed[0] is not found[0]:
        return []
    return [ratio_of(other, agreed[0]) for other in agreed[1:]]


def facts(turns: Turns, what: str, batch: int, more: Mapping[str, Any]) -> dict[str, Any]:
    """A contender of a `Comparison` record; without agreement there is no rate."""
    timed = bool(turns.agrees and turns.seconds)
    return {
        "name": turns.name,
        "what": what,
        "status": "ok" if turns.agrees else "wrong",
        "reason": turns.reason,
        "seconds": tuple(turns.seconds) if timed else (),
        "rows_per_s": batch / statistics.median(turns.seconds) if timed else None,
        "losses": tuple(turns.losses) if np.isfinite(turns.losses).all() else (),
        **more,
    }
