"""How long a GPU did nothing while some steps ran."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

# Where a trace begins and ends the host does more than a steady step: shares left out there.
EDGE = 0.2


class DeviceTrace:
    """Within a `with`, records what the GPU does, not what the host calls, which would slow it.

    `shares`: of the traced time without its edges, "idle": no kernel or copy on any stream,
    "kernels idle": no kernel, and for each stream how long it did something.
    """

    def __enter__(self) -> DeviceTrace:
        self._profile = profile(activities=[ProfilerActivity.CUDA])
        torch.cuda.synchronize()
        self._profile.start()
        return self

    def __exit__(self, *error: object) -> None:
        torch.cuda.synchronize()
        self._profile.stop()

    def shares(self) -> dict[str, float]:
        from torch._C._autograd import DeviceType

        traced: Any = self._profile.profiler
        events = traced.kineto_results.events()
        return shares_of(
            [
                (e.start_ns(), e.start_ns() + e.duration_ns(), e.device_resource_id(), e.name())
                for e in events
                if e.device_type() == DeviceType.CUDA and e.duration_ns()
            ]
        )


def shares_of(spans: Sequence[tuple[int, int, int, str]]) -> dict[str, float]:
    """`DeviceTrace.shares` of (begin, end, stream, name)."""
    if not spans:
        return {}
    ordered = sorted(spans)
    begin, end = ordered[0][0], max(stop for _, stop, _, _ in ordered)
    low, high = begin + EDGE * (end - begin), end - EDGE * (end - begin)
    inner = [(max(a, low), min(b, high), stream, name) for a, b, stream, name in ordered]
    inner = [span for span in inner if span[0] < span[1]]
    kernels = [span for span in inner if not span[3].startswith(("Memcpy", "Memset"))]
    found = {"idle": 1 - union(inner) / (high - low)}
    found["kernels idle"] = 1 - union(kernels) / (high - low)
    for stream in sorted({span[2] for span in inner}):
        own = union([span for span in inner if span[2] == stream])
        found[f"stream {stream}"] = own / (high - low)
    return found


def union(spans: Sequence[tuple[float, float, int, str]]) -> float:
    """Length covered by spans sorted by their beginning."""
    covered, last = 0.0, float("-inf")
    for begin, end, *_ in spans:
        covered += max(0.0, end - max(begin, last))
        last = max(last, end)
    return covered
