"""Floating-point operations of one pass of `lma`, counted from the lengths; a product counts 2."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from workloads.lma_files import EVENTS

if TYPE_CHECKING:
    from workloads.lma_model import Shape


@dataclass(frozen=True)
class Flops:
    """Of the forward pass: causal attention (only what is not masked), its projections and the
    feed-forward layers, the rest (events' and target attention's projections), the output."""

    attention: float
    layers: float
    rest: float
    output: float

    @property
    def forward(self) -> float:
        return self.attention + self.layers + self.rest + self.output

    @property
    def training(self) -> float:
        """Forward, and twice as much backward; what is computed again does not count."""
        return 3 * self.forward

    def times(self, share: float) -> Flops:
        return Flops(*(share * getattr(self, f.name) for f in fields(self)))


def flops_of(shape: Shape, lengths: Sequence[int]) -> Flops:
    """`lengths`: events of each user."""
    width, events = shape.width, sum(lengths)
    squares = sum(n * (n + 1) for n in lengths)
    next_items = sum(min(max(n - 1, 0), shape.positions) for n in lengths)
    return Flops(
        attention=2.0 * shape.layers * width * squares,
        layers=24.0 * shape.layers * width**2 * events,
        rest=events * (2.0 * len(EVENTS) * shape.dim * width + 4.0 * shape.heads * width),
        output=2.0 * width * shape.items * next_items,
    )
