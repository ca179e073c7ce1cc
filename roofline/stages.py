"""The stages of a training step, and which of them a moment of its main thread belongs to."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

STAGES = (
    "read",
    "transform",
    "route",
    "locate",
    "pool",
    "forward",
    "backward",
    "gradient",
    "update",
)
DENSE = ("forward", "backward")
# By the first part of an op's name that is here, tried from the longest.
BY_NAME = {
    "columns": "read",
    "ids_hash": "transform",
    "ids_mod": "transform",
    "ids_partition": "route",
    "ids_transpose": "route",
    "values": "transform",
    "ragged": "transform",
    "id_map": "locate",
    "rows_init": "locate",
    "rows_gather": "pool",
    "rows_pool": "pool",
    "rows_scatter": "update",
    "segment": "pool",
    "segment_sum_grad": "gradient",
    "segment_mean_grad": "gradient",
    "segment_tile_grad": "gradient",
    "rows_reduce": "gradient",
    "rows_reduce_": "update",
    "rows_norm": "update",
    "rows_sgd": "update",
    "rows_ada": "update",
}
# What the engine does before an op belongs to it, but for these: features are truncated and packed
# before ids are routed.
BEFORE = {"route": "transform"}
WAIT = "exposed IO"


def stage_of(op: str) -> str:
    """The stage of an op (or "op.method"); KeyError for an op that no stage is known of."""
    for part in sorted(BY_NAME, key=len, reverse=True):
        if op.startswith(part):
            return BY_NAME[part]
    raise KeyError(f"no stage is known of op {op!r}; roofline/stages.py says them")


@dataclass(frozen=True, order=True)
class Span:
    """A stretch of one thread: an op ("" for the model's forward) of a stage, in seconds."""

    begin: float
    end: float
    stage: str
    op: str = ""


@dataclass(frozen=True)
class Part:
    """A stretch of a step, all of which is covered by parts; `op` is "" between ops."""

    begin: float
    end: float
    stage: str
    op: str

    @property
    def seconds(self) -> float:
        return self.end - self.begin


def parts_of(spans: Sequence[Span], begin: float, end: float) -> list[Part]:
    """A step's main thread from `begin` to `end`, cut at its spans.

    Between spans: before the first the step waits for its batch; after the forward comes the loss
    and the backward, until something else; else it prepares what comes next; after the last span
    the update ends.
    """
    parts: list[Part] = []
    at, before = begin, None
    for span in sorted(spans):
        if span.begin > at:
            parts.append(Part(at, span.begin, between(before, span), ""))
        if span.end > at:
            parts.append(Part(max(at, span.begin), span.end, span.stage, span.op or span.stage))
        at, before = max(at, span.end), span
    if end > at:
        last = "backward" if before is not None and before.stage == "forward" else "update"
        parts.append(Part(at, end, last if parts else WAIT, ""))
    return parts


def between(before: Span | None, after: Span) -> str:
    """The stage of what happens between two spans of the main thread."""
    if before is None:
        return WAIT
    if before.stage == "forward":
        return "backward"
    return BEFORE.get(after.stage, after.stage) if before.stage != after.stage else after.stage


@dataclass(frozen=True)
class Timeline:
    """The spans of one thread, to ask for the stage of a moment."""

    parts: Sequence[Part]

    def at(self, moment: float) -> Part | None:
        place = bisect_right(self.parts, moment, key=lambda part: part.begin) - 1
        if place < 0 or moment > self.parts[place].end:
            return None
        return self.parts[place]
