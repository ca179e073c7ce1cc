"""Every op: a kernel that is wrong, writes half, or hands out last call's result gets no time.

Faults of `id_map`, whose results are a state's, are in test_ledger.py and test_mutants.py.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import backends
from backends.arrays import Variant
from backends.conformance import as_tuple
from recis_core.kernels import every_op
from recis_core.spec import Case, Op
from roofline import subject as subject_module
from roofline.measure import measure
from tests.test_roofline import SETTING, kernels_with

CALLED = [op for op in every_op() if not op.machine]


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    """Blocks of 64 rows: those of a bench have a million, each of which is compared."""
    monkeypatch.setattr(subject_module, "BENCH", Variant())


def largest(op: Op[..., Any]) -> Case:
    """The test case with the most to write."""

    def size(case: Case) -> int:
        return sum(a.size for a in case.make().values() if hasattr(a, "size"))

    return max(op.cases("test"), key=size)


class Fault:
    """The right kernel of an op, of which a subclass spoils something."""

    def __init__(self, op: Op[..., Any]) -> None:
        self.op, self.right = op, getattr(backends.load("torch"), op.name)

    def named(self, args: tuple[Any, ...]) -> dict[str, Any]:
        return {p.name: a for p, a in zip(self.op.params, args, strict=True)}

    def outputs(self, args: tuple[Any, ...]) -> tuple[Tensor, ...]:
        return as_tuple(self.right(*args), len(self.op.outs(*args)))


class Wrong(Fault):
    """Off by one, in the first element or row."""

    def __call__(self, *args: Any) -> tuple[Tensor, ...]:
        found = self.outputs(args)
        if not found:
            given = self.named(args)
            blocks, row = given["blocks"], int(given["rows"][given["rows"] >= 0][0])
            blocks.views("weight")[row >> blocks.log2_rows][row % (1 << blocks.log2_rows)] += 1
            return found
        first = found[0].view(-1)
        first[0] = ~first[0] if first.dtype == torch.bool else first[0] + 1
        return found


class Half(Fault):
    """The second half is not written."""

    def __call__(self, *args: Any) -> tuple[Tensor, ...]:
        if not self.op.outs(*args):
            given = self.named(args)
            rows = given["rows"].clone()
            rows[len(rows) // 2 :] = -1
            self.right(*(given | {"rows": rows}).values())
            return ()
        half = []
        for whole in self.outputs(args):
            half.append(torch.empty_like(whole))
            half[-1][: len(whole) // 2] = whole[: len(whole) // 2]
        return tuple(half)


class Last(Fault):
    """The first call is right; later ones hand out its result, or change nothing."""

    kept: tuple[Tensor, ...] | None = None

    def __call__(self, *args: Any) -> tuple[Tensor, ...]:
        if self.kept is None:
            self.kept = self.outputs(args)
        return self.kept


@pytest.mark.parametrize("fault", [Wrong, Half, Last], ids=lambda f: f.__name__)
@pytest.mark.parametrize("op", CALLED, ids=lambda op: op.name)
def test_a_faulty_kernel_is_refused_a_time(op: Op[..., Any], fault: type[Fault]) -> None:
    spoiled = fault(op)

    def call(*args: Any) -> Any:
        returned = spoiled(*args)
        return returned[0] if len(returned) == 1 else returned or None

    found = measure(kernels_with(**{op.name: call}), op, largest(op), SETTING)
    assert (found.status, found.median, found.samples) == ("wrong", None, ())
    assert found.reason


@pytest.mark.parametrize("op", CALLED, ids=lambda op: op.name)
def test_the_same_kernel_without_a_fault_gets_one(op: Op[..., Any]) -> None:
    right = Fault(op)
    found = measure(kernels_with(**{op.name: lambda *a: right.right(*a)}), op, largest(op), SETTING)
    assert found.status == "ok", found.reason
