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
        from torch._C._autograd import DeviceType

        traced: Any = self._profile.profiler
        return busy_of(
            [
                (e.start_ns(), e.start_ns() + e.duration_ns(), e.device_resource_id(), e.name())
                for e in traced.kineto_results.events()
                if e.device_type() == DeviceType.CUDA and e.duration_ns()
            ]
        )


def busy_of(spans: Sequence[tuple[int, int, int, str]]) -> dict[str, float]:
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


def union(spans: Sequence[tuple[int, int, int, str]]) -> float:
    """Seconds covered by spans sorted by their beginning."""
    covered = last = 0
    for begin, end, *_ in spans:
        covered += max(0, end - max(begin, last))
        last = max(last, end)
    return covered / 1e9
