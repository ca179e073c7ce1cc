"""A training step against the roofs: stages, the waterfall from the bound, what to fix first."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from recis_core.roofs import GB, Roofs
from recis_core.spec import Traffic
from roofline.bound import bound
from roofline.observer import Seen, mean_by_op
from roofline.stages import DENSE, STAGES, WAIT, stage_of

Facts = dict[str, Any]


@dataclass(frozen=True)
class OpWork:
    """One op in a mean step, seconds of the device it runs on; `least`: the sum of its bounds."""

    op: str
    calls: float
    seconds: float
    traffic: Traffic
    least: float


@dataclass(frozen=True)
class StepTime:
    """A mean step: its ops, seconds between ops by stage, waiting, idling, what was hidden."""

    seconds: float
    ops: Mapping[str, OpWork]
    between: Mapping[str, float]
    exposed: float
    idle: float | None
    hidden: float  # seconds of work beside the main line, which cost the step nothing
    needed: float
    flops: float

    @property
    def dense(self) -> float:
        return sum(self.between.get(stage, 0.0) for stage in DENSE)

    @property
    def glue(self) -> dict[str, float]:
        """Seconds between ops that are not the dense model's."""
        return {s: t for s, t in self.between.items() if s not in DENSE}

    @property
    def sparse(self) -> float:
        """Seconds of every sparse stage, ops and what is between them."""
        return sum(op.seconds for op in self.ops.values()) + sum(self.glue.values())


def mean_traffic(seen: Seen, roofs: Roofs) -> dict[str, tuple[float, Traffic, float]]:
    """Of each op in a mean counted step: calls, bytes, and the sum of its calls' bounds."""
    steps = max(len(seen.counted), 1)
    totals: dict[str, list[float]] = {}
    for call in (call for calls in seen.counted for call in calls):
        t = call.traffic
        least = bound(t, roofs).seconds
        mine = totals.setdefault(call.op, [0.0] * 6)
        for i, value in enumerate((1, t.read, t.written, t.requested, t.flops, least)):
            mine[i] += value / steps
    return {
        op: (calls, Traffic(round(read), round(written), round(requested), round(flops)), least)
        for op, (calls, read, written, requested, flops, least) in totals.items()
    }


def step_time(seen: Seen, roofs: Roofs) -> StepTime:
    """The mean step on the host's clock, or where there is a device's trace on the device's."""
    seconds = statistics.fmean(seen.seconds)
    moved = mean_traffic(seen, roofs)
    waited = statistics.fmean(
        sum(p.seconds for p in parts if p.stage == WAIT) for parts in seen.parts
    )
    between: dict[str, float] = {}
    took: dict[str, float] = {}
    idle: float | None = None
    if seen.device is None:
        for parts in seen.parts:
            for p in parts:
                if p.stage != WAIT and (not p.op or p.op == p.stage):
                    between[p.stage] = between.get(p.stage, 0.0) + p.seconds / len(seen.parts)
        took = {op: mine for op, (_, mine) in mean_by_op(seen).items()}
        hidden = 0.0
        exposed = waited
    else:
        for (stage, op), mine in seen.device.ops.items():
            if op:
                took[op] = took.get(op, 0.0) + mine
            else:
                between[stage] = between.get(stage, 0.0) + mine
        between["transform"] = between.get("transform", 0.0) + between.pop(WAIT, 0.0)
        hidden = sum(took.values()) + sum(between.values()) - seen.device.busy
        still = max(seconds - seen.device.busy, 0.0)
        exposed = min(waited, still)
        idle = still - exposed
    ops = {
        op: OpWork(op, calls, took.get(op, 0.0), traffic, least)
        for op, (calls, traffic, least) in moved.items()
    }
    for op in took.keys() - ops.keys():
        ops[op] = OpWork(op, 0.0, took[op], Traffic(0, 0, 0), 0.0)
    counted = max(len(seen.counted), 1)
    needed = sum(call.needed for calls in seen.counted for call in calls) + sum(seen.offsets)
    return StepTime(
        seconds=seconds,
        ops=ops,
        between=between,
        exposed=exposed,
        idle=idle,
        hidden=hidden,
        needed=needed / counted,
        flops=statistics.fmean(seen.flops) if seen.flops else 0.0,
    )


def matrix_roof(roofs: Roofs) -> float:
    """The roof of float32 products as this process makes them: tf32 where that is switched on."""
    reduced = torch.get_float32_matmul_precision() != "highest"
    return roofs.tf32 if roofs.kind == "cuda" and reduced and roofs.tf32 else roofs.matmul


def waterfall(step: StepTime, roofs: Roofs) -> list[Facts]:
    """From the bound to the measured step; the seconds add up to the step's."""
    least = step.needed / roofs.copy
    dense = step.flops / matrix_roof(roofs)
    bounds = sum(op.least for op in step.ops.values())
    parts = {
        "step minimum at the copy roof": least,
        "dense arithmetic at its roof": dense,
        "bytes beyond the minimum": bounds - least,
        "ops above their bounds": sum(op.seconds for op in step.ops.values()) - bounds,
        "dense above its roof": step.dense - dense,
        "between ops": sum(step.glue.values()),
        WAIT: step.exposed,
    }
    if step.idle is not None:
        parts["device idle"] = step.idle
    rest = step.seconds - sum(parts.values())
    if abs(rest) > 1e-9 * step.seconds:
        # Overlapped work (below zero), or steps that differ between the ways of watching.
        parts["overlap and rest"] = rest
    return [{"name": name, "seconds": seconds} for name, seconds in parts.items()]


BOUNDS = 2  # of the waterfall's parts, the first are what cannot be saved


def first_to_fix(step: StepTime, roofs: Roofs) -> str:
    """One line: the part above the bound that costs most, and what is most of it."""
    parts = {p["name"]: p["seconds"] for p in waterfall(step, roofs)[BOUNDS:]}
    name = max(parts, key=lambda n: parts[n])
    ops = step.ops.values()
    detail = ""
    if name == "ops above their bounds":
        worst = max(ops, key=lambda op: op.seconds - op.least)
        detail = f"most of it {worst.op}: {ms(worst.seconds)} for a bound of {ms(worst.least)}"
    elif name == "bytes beyond the minimum":
        worst = max(ops, key=lambda op: op.least)
        detail = f"fuse or spare passes; the most bytes move in {worst.op}"
    elif name == "dense above its roof":
        mfu = step.flops / matrix_roof(roofs) / step.dense if step.dense else 0.0
        longest = max(DENSE, key=lambda s: step.between.get(s, 0.0))
        detail = f"MFU {mfu:.1%}, most of it {longest}"
    elif name == "between ops":
        longest = max(step.glue, key=lambda s: step.glue[s])
        detail = f"most of it before the ops of {longest}"
    elif name == WAIT:
        detail = "the step waits for its batch: read ahead or decode faster"
    elif name == "device idle":
        detail = "the host launches too slowly or waits for the device"
    share = parts[name] / step.seconds
    return f"{name}: {ms(parts[name])} of {ms(step.seconds)} ({share:.0%}); {detail}".rstrip("; ")


def ms(seconds: float) -> str:
    return f"{seconds * 1e3:.2f} ms"


def stage_facts(step: StepTime, roofs: Roofs) -> list[Facts]:
    """Every stage in order: seconds, share of the step, minimum bytes of its ops and their MBU."""
    facts = []
    for stage in STAGES:
        ops = [op for op in step.ops.values() if stage_of(op.op) == stage]
        glue = step.between.get(stage, 0.0)
        seconds = glue + sum(op.seconds for op in ops)
        size = sum(op.traffic.minimum for op in ops)
        facts.append(_facts(step, roofs, seconds, size) | {
            "stage": stage, "calls": sum(op.calls for op in ops), "between": glue,
        })  # fmt: skip
    for stage, seconds in ((WAIT, step.exposed), ("idle", step.idle)):
        if seconds is not None:
            facts.append(_facts(step, roofs, seconds, 0) | {
                "stage": stage, "calls": 0.0, "between": seconds,
            })  # fmt: skip
    return facts


def op_facts(step: StepTime, roofs: Roofs, origins: Mapping[str, str]) -> list[Facts]:
    """Every op, the longest first."""
    return [
        _facts(step, roofs, op.seconds, op.traffic.minimum)
        | {"op": op.op, "backend": origins[op.op.partition(".")[0]], "stage": stage_of(op.op)}
        | {"calls": op.calls, "bound": op.least}
        for op in sorted(step.ops.values(), key=lambda op: -op.seconds)
    ]


def _facts(step: StepTime, roofs: Roofs, seconds: float, size: float) -> Facts:
    rate = size / seconds if seconds and size else None
    return {
        "seconds": seconds,
        "share": seconds / step.seconds,
        "bytes": size,
        "gbs": rate and rate / GB,
        "mbu": rate and rate / roofs.copy,
    }


def busy_share(seen: Seen, roofs: Roofs) -> float:
    """Share of the device's time, or of the threads' together, that was used."""
    seconds = statistics.fmean(seen.seconds)
    if seen.device is not None:
        return seen.device.busy / seconds
    return statistics.fmean(seen.cores) / (seconds * roofs.threads)


def step_facts(seen: Seen, roofs: Roofs, origins: Mapping[str, str]) -> Facts:
    """The fields of a `StepRecord` that were measured."""
    step = step_time(seen, roofs)
    rows = statistics.fmean(seen.rows)
    sparse = step.sparse
    dense = step.dense
    return {
        "steps": len(seen.seconds),
        "samples": tuple(seen.seconds),
        "seconds": step.seconds,
        "rows_per_s": rows / step.seconds,
        "bytes": step.needed,
        "mbu": step.needed / step.seconds / roofs.copy,
        "stages": stage_facts(step, roofs),
        "ops": op_facts(step, roofs, origins),
        "waterfall": waterfall(step, roofs),
        "sparse": {
            "seconds": sparse,
            "bytes": step.needed,
            "mbu": step.needed / sparse / roofs.copy if sparse else None,
        },
        "dense": {
            "seconds": dense,
            "flops": step.flops,
            "mfu": step.flops / matrix_roof(roofs) / dense if dense else None,
        },
        "exposed": step.exposed,
        "idle": step.idle,
        "busy": busy_share(seen, roofs),
        "first": first_to_fix(step, roofs),
    }
