"""The numba backend's work shared among threads, which the kit's small cases alone never are."""

from __future__ import annotations

from typing import Any

import pytest

from backends import find
from backends.arrays import BASE
from backends.boundary import Bound, bind_machine
from backends.conformance import check
from recis_core.kernels import every_op
from recis_core.spec import Case, Op

numba = find("numba")
if reason := numba.absent():
    pytest.skip(f"backend 'numba' is absent: {reason}", allow_module_level=True)

from backends.numba import threads  # noqa: E402  (only where the backend is there)

pytestmark = pytest.mark.usefixtures("one_torch_thread")
POINTS = [
    pytest.param(op, case, id=f"{op.name}-{case.name}")
    for op in every_op()
    if numba.implementation(op) is not None or op.default is None
    for case in op.cases("test")
]


@pytest.mark.parametrize(("op", "case"), POINTS)
def test_agrees_when_work_is_shared(
    op: Op[..., Any], case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three threads, and ranges of 64 bytes, so that every case is cut into many."""
    monkeypatch.setattr(threads, "GRAIN", 64)
    monkeypatch.setattr(threads, "threads", lambda: 3)
    call = numba.implementation(op)
    assert call is not None
    bind = bind_machine if op.machine else Bound.of
    check(bind(op, call, "numba", "cpu", False), op, case, BASE)


def test_work_is_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "GRAIN", 64)
    monkeypatch.setattr(threads, "threads", lambda: 3)
    assert len(threads.cuts(100, 6400)) == 3 * threads.SHARE + 1
