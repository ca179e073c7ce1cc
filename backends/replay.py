"""Checking a stateful op: its trace is replayed on the implementation and on the reference."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from backends.arrays import BASE, Variant, to_numpy, to_torch
from backends.poison import poisoned_memory
from recis_core.spec import Case, Op, Step, params_of
from recis_core.tolerance import Disagreement


def check_machine(
    make: Callable[..., Any], op: Op[..., Any], case: Case, variant: Variant = BASE
) -> None:
    """Raise Disagreement unless what `make` constructs answers a trace as the reference does."""
    drawn = case.make()
    init = [drawn[p.name] for p in op.params]
    device = getattr(make, "device", torch.device("cpu"))
    state, model = make(*init), op.reference(*init)
    with poisoned_memory():
        got = replay(state, op, drawn["trace"], variant, device)
    want = replay(model, op, drawn["trace"], variant, None)
    check_extent(state, got)
    check_extent(model, want)
    for step, right in zip(got, want, strict=True):
        if len(step.outputs) != len(right.outputs):
            raise Disagreement(
                f"{step.method} returned {len(step.outputs)} outputs, expected "
                f"{len(right.outputs)} (a refusal has none)"
            )
        for g, w in zip(step.outputs, right.outputs, strict=True):
            if g.dtype != w.dtype or g.shape != w.shape:
                raise Disagreement(
                    f"{step.method} returned {g.dtype} {g.shape}, expected {w.dtype} {w.shape}"
                )
    for g, w in zip(op.canonical(drawn, got), op.canonical(drawn, want), strict=True):
        op.tolerance.check("result", g, w, str(g.dtype))


def replay(
    state: Any, op: Op[..., Any], trace: Any, variant: Variant, device: torch.device | None
) -> list[Step]:
    """Run a trace, on NumPy arrays where `device` is None; a step that is refused with
    OverflowError has no outputs."""
    steps, alive = [], []
    for method, *args in trace:
        given = args
        if device is not None:
            kinds = [p.kind for p in params_of(getattr(op.reference, method))]
            drawn = zip(kinds, map(np.array, args), strict=True)
            given = [to_torch(kind, array, variant, device) for kind, array in drawn]
        try:
            returned = getattr(state, method)(*given)
        except OverflowError:
            returned = ()
        outputs = returned if isinstance(returned, tuple) else (returned,)
        copied = tuple(np.array(to_numpy(o)) for o in outputs)
        alive += zip([method] * len(copied), outputs, copied, strict=True)
        for before, after in zip(args, given, strict=True):
            if not np.array_equal(before, to_numpy(after)):
                raise Disagreement(f"an argument of {method} was written to")
        steps.append(Step(method, tuple(args), copied))
    for method, output, copy in alive:
        if not np.array_equal(to_numpy(output), copy):
            raise Disagreement(f"an output of {method} changed in a later call")
    return steps


def check_extent(state: Any, steps: list[Step]) -> None:
    """`len` is the number of pairs a trace leaves, `extent` one more than the largest row."""
    held: set[Any] = set()
    extent = 0
    for step in steps:
        if step.method in ("insert", "erase") and step.outputs:
            pairs = set(zip(*(a.tolist() for a in step.args), strict=True))
            held = held | pairs if step.method == "insert" else held - pairs
            if step.method == "insert":
                extent = max(extent, int(step.outputs[0].max(initial=-1)) + 1)
    if len(state) != len(held):
        raise Disagreement(f"len is {len(state)}, but {len(held)} pairs are held")
    if state.extent != extent:
        raise Disagreement(f"extent is {state.extent}, but the rows given out end at {extent}")
