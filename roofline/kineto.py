"""What a GPU did in profiled steps: its kernels by stage and op, and when it was idle."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from roofline.stages import Span, Timeline, parts_of

WORK = ("kernel", "gpu_memcpy", "gpu_memset")
LAUNCH = ("cuda_runtime", "cuda_driver")
PREFIX = "recis:"
MICRO = 1e-6


@dataclass(frozen=True)
class Mark:
    """How a span is named in a trace."""

    stage: str
    op: str

    @property
    def text(self) -> str:
        return f"{PREFIX}{self.stage}:{self.op}"

    @classmethod
    def of(cls, text: str) -> Mark:
        _, stage, op = text.split(":", 2)
        return cls(stage, op)


@dataclass(frozen=True)
class DeviceTime:
    """Means of a step, seconds of the device: `ops` by (stage, op), op "" for what the engine or
    the model does between ops; `busy`: when anything ran, overlaps once; `kernels`: launches."""

    ops: Mapping[tuple[str, str], float]
    busy: float
    kernels: float


def device_time(path: Path, steps: int) -> DeviceTime:
    """Read a trace that torch's profiler wrote of `steps` steps."""
    return summed(json.loads(path.read_text())["traceEvents"], steps)


def summed(events: Sequence[Mapping[str, Any]], steps: int) -> DeviceTime:
    """Each piece of device work goes to what its launching thread was doing, or if that is no
    thread of ours (autograd's), to what the main thread was."""
    spans: dict[Any, list[Span]] = {}
    launches: dict[Any, tuple[Any, float]] = {}
    for e in events:
        name, kind = str(e.get("name", "")), e.get("cat")
        if kind == "user_annotation" and name.startswith(PREFIX):
            mark, begin = Mark.of(name), float(e["ts"])
            span = Span(begin, begin + float(e["dur"]), mark.stage, mark.op)
            spans.setdefault(e["tid"], []).append(span)
        elif kind in LAUNCH and "correlation" in e.get("args", {}):
            launches[e["args"]["correlation"]] = (e["tid"], float(e["ts"]))
    lines = {tid: Timeline(parts_of(own, own[0].begin, max(s.end for s in own)))
             for tid, own in ((t, sorted(s)) for t, s in spans.items())}  # fmt: skip
    main = next((t for t, own in spans.items() if any(s.stage == "forward" for s in own)), None)
    work = [e for e in events if e.get("cat") in WORK]
    ops: dict[tuple[str, str], float] = {}
    for e in work:
        tid, moment = launches.get(e.get("args", {}).get("correlation"), (main, float(e["ts"])))
        line = lines.get(tid) or lines.get(main)
        part = line.at(moment) if line is not None else None
        key = ("update", "") if part is None else (part.stage, op_of(part.op, part.stage))
        ops[key] = ops.get(key, 0.0) + float(e["dur"]) * MICRO / steps
    stretches = ((float(e["ts"]), float(e["ts"]) + float(e["dur"])) for e in work)
    return DeviceTime(ops, union(stretches) * MICRO / steps, len(work) / steps)


def stage_time(path: Path, steps: int) -> dict[str, float]:
    """Seconds of a mean step in which the device did something, by the stages of a `Stopwatch`,
    from a trace of `steps` steps; "" where it was in none. As each stage is waited for, what was
    done in its time is its own."""
    return staged(json.loads(path.read_text())["traceEvents"], steps)


def staged(events: Sequence[Mapping[str, Any]], steps: int) -> dict[str, float]:
    """As `stage_time`, of the events themselves."""
    spans = []
    for e in events:
        name = str(e.get("name", ""))
        if e.get("cat") == "user_annotation" and name.startswith(PREFIX):
            begin, took = float(e["ts"]), float(e["dur"])
            spans.append((took, begin, begin + took, Mark.of(name).stage))
    spans.sort()  # a stage within another is the shorter one
    work: dict[str, list[tuple[float, float]]] = {}
    for e in events:
        if e.get("cat") in WORK:
            at = float(e["ts"])
            own = next((stage for _, begin, end, stage in spans if begin <= at < end), "")
            work.setdefault(own, []).append((at, at + float(e["dur"])))
    return {stage: union(own) * MICRO / steps for stage, own in work.items()}


def op_of(op: str, stage: str) -> str:
    return "" if op == stage else op


def union(stretches: Iterable[tuple[float, float]]) -> float:
    """Length of what the stretches cover, overlaps once."""
    total, reach = 0.0, float("-inf")
    for begin, end in sorted(stretches):
        total += max(end - max(begin, reach), 0.0)
        reach = max(reach, end)
    return total
