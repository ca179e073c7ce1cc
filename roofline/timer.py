"""How a second is measured: warm code, cold caches, many samples, the median and its spread."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from roofline.processor import describe

# Cycles a GPU is kept busy while a call is launched, for each second that launching takes; more
# than a clock's, so that the launch is always over first. And the most of them: a call that waits
# for the device itself cannot be launched ahead.
CYCLES_PER_SECOND = 3e9
MOST_CYCLES = 20_000_000
# Seconds a GPU is kept busy before a case: after drawing it on the host its clocks are not up.
ROUSING = 0.05
# Fewest samples a spread is trusted with; a GPU's differ by where the result is allocated.
SETTLED = {"cpu": 10, "cuda": 20}


def nothing() -> None:
    """What is done before a sample that needs no preparation."""


@dataclass(frozen=True)
class Timing:
    """Raw samples in seconds, in the order taken; `host`: until each call returned."""

    samples: tuple[float, ...]
    host: tuple[float, ...] = ()

    @property
    def median(self) -> float:
        return statistics.median(self.samples)

    @property
    def host_median(self) -> float | None:
        return statistics.median(self.host) if self.host else None

    @property
    def spread(self) -> float:
        """Distance between the quartiles over the median."""
        if len(self.samples) < 2:
            return 0.0
        low, _, high = statistics.quantiles(self.samples, n=4, method="inclusive")
        return (high - low) / self.median


@dataclass(frozen=True)
class Timer:
    """Times calls on one device; `scratch`, larger than its last cache, is swept before each."""

    device: torch.device
    scratch: Tensor

    @classmethod
    def of(cls, device: torch.device | str) -> Timer:
        device = torch.device(device)
        if device.type == "cuda":
            cache = torch.cuda.get_device_properties(device).L2_cache_size
        else:
            cache = max(describe().caches.values())
        return cls(device, torch.ones(cache * 5 // 4 // 4, device=device))

    def flush(self) -> None:
        """Leave none of what the caches held: what is timed starts from memory."""
        self.scratch.sum()

    def rouse(self) -> None:
        """Let a GPU that has waited for the host reach its clocks."""
        end = time.perf_counter() + ROUSING
        while self.device.type == "cuda" and time.perf_counter() < end:
            self.flush()
            torch.cuda.synchronize(self.device)

    def sample(self, call: Callable[[], Any], cycles: int = 0) -> tuple[float, float]:
        """Seconds of one call, and of the host until it returned.

        On a GPU events around it; the device spins `cycles` first, so that launching is hidden.
        """
        if self.device.type == "cuda":
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            if cycles:
                torch.cuda._sleep(cycles)
            start.record()
            begin = time.perf_counter()
            call()
            host = time.perf_counter() - begin
            end.record()
            end.synchronize()
            return start.elapsed_time(end) / 1e3, host
        begin = time.perf_counter()
        kept = call()
        took = time.perf_counter() - begin
        # Freeing the result is not part of the call.
        del kept
        return took, took

    def time(
        self,
        call: Callable[[], Any],
        before: Callable[[], None] = nothing,
        *,
        budget: float = 1.0,
        least: int = 5,
        most: int = 50,
        noise: float = 0.005,
        warm: int = 2,
    ) -> Timing:
        """Samples of `call`, `before` and the flush untimed in front of each.

        Ends after `most` samples, after `budget` seconds in all, or when the spread over the root
        of their number is below `noise`; never before `least` samples, nor for the latter reason
        before SETTLED.
        """
        cycles, trusted = 0, max(least, SETTLED[self.device.type])
        self.rouse()
        for _ in range(warm):
            before()
            _, host = self.sample(call)
            cycles = min(int(2 * host * CYCLES_PER_SECOND), MOST_CYCLES)
        samples: list[float] = []
        hosts: list[float] = []
        end = time.perf_counter() + budget
        while len(samples) < most:
            before()
            self.flush()
            device, host = self.sample(call, cycles)
            samples.append(device)
            hosts.append(host)
            if len(samples) >= least:
                settled = Timing(tuple(samples)).spread / len(samples) ** 0.5 < noise
                if time.perf_counter() > end or (settled and len(samples) >= trusted):
                    break
        return Timing(tuple(samples), tuple(hosts))
