"""Ways to change the reference: each makes an implementation of an op out of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from torch import Tensor

from backends.reference import adapt, adapt_machine
from recis_core.spec import Op

Call = Callable[..., Any]
Change = Callable[[Op[..., Any]], Call]


def given(**changes: Callable[[Any], Any]) -> Change:
    """The reference, called with some arguments replaced: name -> function of its value."""

    def make(op: Op[..., Any]) -> Call:
        names, right = [p.name for p in op.params], adapt(op)
        return lambda *a: right(
            *(changes.get(n, lambda v: v)(v) for n, v in zip(names, a, strict=True))
        )

    return make


def then(change: Callable[..., Any], at: int = 0) -> Change:
    """The reference, its output at `at` passed through `change(output, *args)`."""

    def make(op: Op[..., Any]) -> Call:
        right = adapt(op)

        def call(*args: Any) -> Any:
            outputs = list(right(*args))
            outputs[at] = change(outputs[at], *args)
            return tuple(outputs)

        return call

    return make


def besides(act: Callable[..., Any]) -> Change:
    """The reference, and `act(*args)` after it."""

    def make(op: Op[..., Any]) -> Call:
        right = adapt(op)

        def call(*args: Any) -> Any:
            outputs = right(*args)
            act(*args)
            return outputs

        return call

    return make


def meaning(function: Call) -> Change:
    """Another NumPy function (for a machine another class) in place of the reference."""

    def make(op: Op[..., Any]) -> Call:
        if op.machine:
            return adapt_machine(replace(op, reference=function))

        # The parameters of `function` are not annotated, so the declared op describes the call.
        class Swapped:
            params, mutates, outs, reference = (
                op.params,
                op.mutates,
                op.outs,
                staticmethod(function),
            )

        return adapt(Swapped)  # pyright: ignore[reportArgumentType]

    return make


def into(write: Callable[[Tensor, Tensor], Any]) -> Change:
    """`segment_sum` that takes its output from the boundary: `write(out, right)` fills it."""

    def make(op: Op[..., Any]) -> Call:
        right = adapt(op)

        def segment_sum(values: Any, index: Any, offsets: Any, weights: Any, out: Tensor) -> None:
            write(out, right(values, index, offsets, weights)[0])

        return segment_sum

    return make
