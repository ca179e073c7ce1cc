"""Every shipped backend does what every declaration says: each op, case and variant."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest

from backends import Backend, load, shipped
from backends.arrays import BASE, Variant
from backends.boundary import Bound, bind_machine
from backends.conformance import check, variants
from recis_core.kernels import every_op
from recis_core.spec import Case, Op

pytestmark = pytest.mark.usefixtures("one_torch_thread")

# (backend, op) that a shipped backend may lack, and why. A fused op with a default is no gap.
GAPS: dict[tuple[str, str], str] = {}

BACKENDS = [b for b in shipped() if b.absent() is None]


def points() -> Iterator[Any]:
    for backend in BACKENDS:
        for op in every_op():
            for case in op.cases("test"):
                for variant in variants(op, case):
                    for checked in (False, True) if variant == BASE else (False,):
                        name = f"{backend.name}-{op.name}-{case.name}-{variant}"
                        name += "-checked" * checked
                        yield pytest.param(backend, op, case, variant, checked, id=name)


@cache
def bound(backend: Backend, op: Op[..., Any], checked: bool) -> Any:
    """The one op of a backend, or of all its kernels where it is composed of others."""
    call = backend.implementation(op)
    if call is None and op.default is not None:
        return getattr(load(backend.name, checked=checked), op.name)
    if call is None:
        if (backend.name, op.name) in GAPS:
            pytest.skip(GAPS[backend.name, op.name])
        pytest.fail(f"backend {backend.name!r} has no {op.name}")
    bind = bind_machine if op.machine else Bound.of
    return bind(op, call, backend.name, "cpu", checked)


@pytest.mark.parametrize(("backend", "op", "case", "variant", "checked"), list(points()))
def test_agrees_with_the_reference(
    backend: Backend, op: Op[..., Any], case: Case, variant: Variant, checked: bool
) -> None:
    check(bound(backend, op, checked), op, case, variant)


def test_the_gaps_are_gaps() -> None:
    """A gap that was filled must leave the list."""
    for backend in BACKENDS:
        for op in every_op():
            if (backend.name, op.name) in GAPS:
                assert backend.implementation(op) is None, (backend.name, op.name)


@pytest.mark.parametrize("backend", shipped(), ids=lambda b: b.name)
def test_absence_has_a_reason(backend: Backend) -> None:
    reason = backend.absent()
    if reason is not None:
        assert reason.strip()
        pytest.skip(f"backend {backend.name!r} is absent: {reason}")
