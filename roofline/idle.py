"""How long a GPU did something in some steps, from a trace of it alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile


class DeviceTrace:
    """Within a `with`, records what the GPU does, not what the host calls, which would slow it."""

    def __enter__(self) -> DeviceTrace:
        self._profile = profile(activities=[ProfilerActivity.CUDA])
        torch.cuda.synchronize()
        self._profile.start()
        return self

    def __exit__(self, *error: object) -> None:
        torch.cuda.synchronize()
        self._profile.stop()

    def busy(self) -> dict[str, float]:
        """Seconds: see `busy_of`."""
        return busy_of(self._spans())

    def idle(self) -> float:
        """Share: see `idle_of`."""
        return idle_of(self._spans())

    def _spans(self) -> list[Stretch]:
        from torch._C._autograd import DeviceType

        traced: Any = self._profile.profiler
        return [
            (e.start_ns(), e.start_ns() + e.duration_ns(), e.device_resource_id(), e.name())
            for e in traced.kineto_results.events()
            if e.device_type() == DeviceType.CUDA and e.duration_ns()
        ]


Stretch = tuple[int, int, int, str]
"""What a GPU did: begin, end, stream, name."""


def idle_of(spans: Sequence[Stretch]) -> float:
    """The share of the second half of what was traced in which nothing ran: by then a pipeline is
    full. A host that is watched is slower, so without a watch it is less."""
    begin, end = min(s[0] for s in spans), max(s[1] for s in spans)
    half = (begin + end) // 2
    late = sorted((max(s[0], half), s[1]) for s in spans if s[1] > half)
    return 1 - union(late) * 1e9 / (end - half)


def busy_of(spans: Sequence[Stretch]) -> dict[str, float]:
    """Seconds in which anything ran ("any"), in which a kernel did ("kernels"), and each stream
    did something, of (begin, end, stream, name) in nanoseconds; what overlaps counts once.

    A host that is watched is slower, so idle shares are to be had by setting this beside the time
    of steps that are not.
    """
    ordered = sorted(spans)
    kernels = [span for span in ordered if not span[3].startswith(("Memcpy", "Memset"))]
    found = {"any": union(ordered), "kernels": union(kernels)}
    for stream in sorted({span[2] for span in ordered}):
        found[f"stream {stream}"] = union([span for span in ordered if span[2] == stream])
    return found


def union(spans: Sequence[tuple[Any, ...]]) -> float:
    """Seconds covered by spans sorted by their beginning."""
    covered = last = 0
    for begin, end, *_ in spans:
        covered += max(0, end - max(begin, last))
        last = max(last, end)
    return covered / 1e9
