"""The numba backend's work shared among threads, which the kit's small cases alone never are."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
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
from backends.numba.rows_norm import RUN, squares  # noqa: E402
from backends.numba.threads import kernel  # noqa: E402

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


def norms(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Sums of squares of 100 runs, each its own range, and the same by NumPy."""
    values = np.random.default_rng(seed).normal(size=100 * RUN).astype(np.float32)
    sums = np.full(100, np.nan)
    threads.run(squares, [*range(101)], values.ctypes.data, len(values), np.float32(0), sums)
    return sums, np.square(values, dtype=np.float64).reshape(100, RUN).sum(1)


@pytest.mark.parametrize("openmp", [True, False])
def test_the_same_bits_whatever_shares_the_work(
    monkeypatch: pytest.MonkeyPatch, openmp: bool
) -> None:
    alone, want = norms(1)
    np.testing.assert_allclose(alone, want, rtol=1e-12)
    monkeypatch.setattr(threads, "threads", lambda: 3)
    if not openmp:
        monkeypatch.setattr(threads, "openmp", lambda: 0)
    assert norms(1)[0].tobytes() == alone.tobytes()


def test_many_threads_call_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "threads", lambda: 3)
    with ThreadPoolExecutor(4) as pool:
        for sums, want in pool.map(norms, range(16)):
            np.testing.assert_allclose(sums, want, rtol=1e-12)


def _child(queue: Any) -> None:
    queue.put(norms(2))


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_does_not_wait_for_the_parents_threads(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(threads, "threads", lambda: 3)
    norms(2)
    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()
    child = context.Process(target=_child, args=(queue,))
    child.start()
    child.join(60)
    if hung := child.is_alive():
        child.kill()
    assert not hung
    sums, want = queue.get()
    np.testing.assert_allclose(sums, want, rtol=1e-12)


@kernel
def increment(begin, end, values):
    for k in range(begin, end):
        if values[k] < 0:
            raise ValueError("negative")
        values[k] += 1


def test_a_kernel_that_raises_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "threads", lambda: 3)
    values = np.zeros(8)
    values[5] = -1
    with pytest.raises(RuntimeError, match="increment: 1 ranges failed"):
        threads.run(increment, [*range(9)], values)
