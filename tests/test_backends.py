"""Finding, choosing and binding backends; what is missing is said, never passed over."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import backends
from backends import Backend, BackendError, find, known, load, shipped
from backends.boundary import Bound, Machine
from backends.reference import adapt
from recis_core.blocks import Blocks, Slot
from recis_core.kernels import Kernels, every_op, find_op

OPS = [op.name for op in every_op()]
FUSED = [op.name for op in every_op() if op.default is not None]


def third_party(
    folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, package: str, **modules: str
) -> None:
    """An installed distribution with a backend: its package, and the entry point naming it."""
    home = folder / package
    home.mkdir()
    start = "DEVICES = ('cpu',)\n\ndef absent(device):\n    return None\n"
    for module, text in {"__init__": start, **modules}.items():
        (home / f"{module}.py").write_text(text)
    info = folder / f"{package}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[recis.backends]\n{name} = {package}\n")
    monkeypatch.syspath_prepend(str(folder))
    for loaded in [m for m in sys.modules if m.partition(".")[0] == package]:
        monkeypatch.delitem(sys.modules, loaded)


NORM = """
import torch

def rows_norm(values):
    return values.double().square().sum().sqrt().reshape(1)
"""


def test_reference_is_complete() -> None:
    kernels = load("reference")
    assert isinstance(kernels, Kernels)
    assert kernels.origins == dict.fromkeys(OPS, "reference")
    assert (kernels.name, kernels.device, repr(kernels)) == ("reference", "cpu", "reference")
    assert all(callable(getattr(kernels, op)) for op in OPS)


@pytest.mark.parametrize("backend", shipped(), ids=lambda b: b.name)
def test_every_shipped_backend_loads_or_says_why_not(backend: Backend) -> None:
    reason = backend.absent()
    if reason is None:
        kernels = load(backend.name)
        assert set(kernels.origins) == set(OPS)
        for op, origin in kernels.origins.items():
            composed = f"{backend.name} (composed)"
            assert origin == backend.name or (origin == composed and op in FUSED)
    else:
        with pytest.raises(BackendError, match=f"{backend.name!r} is absent: ") as caught:
            load(backend.name)
        assert reason in str(caught.value)


def test_order_decides_op_by_op(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    third_party(tmp_path, monkeypatch, "mine", "mine_kernels", rows_norm=NORM)
    first = load("mine", "reference")
    assert first.origins == {**dict.fromkeys(OPS, "reference"), "rows_norm": "mine"}
    assert first.name == "mine+reference"
    assert first.rows_norm(torch.tensor([[3.0, 4.0]])).tolist() == [5.0]
    assert load("reference", "mine").origins["rows_norm"] == "reference"


def test_one_name_is_strict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    third_party(tmp_path, monkeypatch, "mine", "mine_kernels", rows_norm=NORM)
    with pytest.raises(BackendError, match=r"op 'columns_unpack' is not implemented .*'mine'"):
        load("mine")


def test_third_party_is_under_the_same_boundary(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    third_party(tmp_path, monkeypatch, "mine", "mine_kernels", rows_norm=NORM + "    # float64\n")
    kernels = load("mine", "reference")
    with pytest.raises(TypeError, match="rows_norm: argument 'values'"):
        kernels.rows_norm(torch.ones(3, 4, dtype=torch.float64))
    assert known()["mine"] == Backend("mine", "mine_kernels")


@pytest.mark.parametrize("name", ["reference", "twice"])
def test_names_do_not_clash(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    third_party(tmp_path, monkeypatch, name, "one_package", rows_norm=NORM)
    if name == "twice":
        third_party(tmp_path, monkeypatch, name, "other_package", rows_norm=NORM)
    with pytest.raises(BackendError, match=f"two backends are called '{name}': .* and .*_package"):
        known()


def test_module_without_its_function(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    third_party(tmp_path, monkeypatch, "mine", "mine_kernels", rows_norm="def norm(): ...\n")
    with pytest.raises(BackendError, match=r"mine_kernels.rows_norm of backend 'mine' has no"):
        load("mine", "reference")


@pytest.mark.parametrize(
    ("start", "reason"),
    [
        ("import no_such_package_at_all", "no_such_package_at_all"),
        ("raise RuntimeError('driver too old')", "RuntimeError: driver too old"),
        ("DEVICES = ('cuda',)\ndef absent(device): return None", "runs on cuda, not on cpu"),
        ("DEVICES = ('cpu',)\ndef absent(device): return 'needs AVX'", "needs AVX"),
    ],
)
def test_absent_with_the_reason(
    start: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    third_party(tmp_path, monkeypatch, "mine", "mine_kernels", __init__=start)
    assert reason in str(find("mine").absent())
    with pytest.raises(BackendError, match="backend 'mine' is absent: ") as caught:
        load("mine", "reference")
    assert reason in str(caught.value)


def test_unknown_backend_and_none_at_all() -> None:
    with pytest.raises(BackendError, match=r"no backend 'nonsense'; there are .*reference"):
        load("nonsense")
    with pytest.raises(BackendError, match="no backend is named"):
        load()
    with pytest.raises(BackendError, match="no order of backends is known for device 'mps'"):
        load("auto", device="mps")


def test_reference_does_not_run_on_cuda() -> None:
    with pytest.raises(BackendError, match="'reference' is absent: runs on cpu, not on cuda"):
        load("reference", device="cuda")


def test_auto_takes_what_is_there_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(backends.ORDER, "cpu", ("gone", "reference"))
    there = {"gone": Backend("gone", "no_such_package"), "reference": find("reference")}
    monkeypatch.setattr(backends, "known", lambda: there)
    kernels = load("auto")
    assert kernels.name == "auto"
    assert set(kernels.origins.values()) == {"reference"}
    monkeypatch.setitem(backends.ORDER, "cpu", ("gone",))
    with pytest.raises(BackendError, match=r"'columns_unpack' .*no available backend"):
        load("auto")


def test_auto_order_is_of_shipped_backends() -> None:
    assert backends.ORDER["cpu"] == ("numba", "torch")
    assert backends.ORDER["cuda"][-1] == "torch"


def without(*missing: str) -> Any:
    """The reference backend's `implementation`, for all but some ops."""

    def implementation(self: Backend, op: Any, deterministic: bool = False) -> Any:
        return None if op.name in missing else adapt(op) if not op.machine else object

    return implementation


def test_fused_op_is_composed_of_the_same_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Backend, "implementation", without(*FUSED))
    kernels = load("reference")
    assert {op for op, o in kernels.origins.items() if o == "reference (composed)"} == set(FUSED)
    blocks = Blocks([Slot("weight", 2)], log2_rows=3)
    blocks.grow(4)
    blocks.views("weight")[0][:] = torch.arange(16.0).reshape(8, 2)
    rows, index = torch.tensor([2, -1, 1]), torch.tensor([0, 1, 2])
    offsets = torch.tensor([0, 1, 3])
    asked = blocks, "weight", rows, index, offsets, None
    assert kernels.rows_pool(*asked).tolist() == [[4.0, 5.0], [2.0, 3.0]]
    calls: list[str] = []
    for name in ("rows_gather", "segment_sum"):
        right = getattr(kernels, name)
        setattr(kernels, name, lambda *a, r=right, n=name: (calls.append(n), r(*a))[1])
    kernels.rows_pool(*asked)
    assert calls == ["rows_gather", "segment_sum"]


def test_an_op_without_default_is_not_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Backend, "implementation", without("rows_reduce"))
    with pytest.raises(BackendError, match=r"op 'rows_reduce' is not implemented .*'reference'"):
        load("reference")


def test_kernels_refuse_a_partial_set() -> None:
    full = {op: len for op in OPS}
    assert Kernels("all", full, {}).rows_norm is len
    with pytest.raises(TypeError, match=r"kernels 'some' lack rows_norm, rows_adam$"):
        Kernels("some", {o: len for o in OPS if o not in ("rows_norm", "rows_adam")}, {})


def test_deterministic_binds_the_other_form(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = NORM + "\ndef rows_norm_deterministic(values):\n    return rows_norm(values) * 0 + 7\n"
    third_party(tmp_path, monkeypatch, "mine", "mine_kernels", rows_norm=both)
    values = torch.tensor([[3.0, 4.0]])
    assert load("mine", "reference").rows_norm(values).tolist() == [5.0]
    bound = load("mine", "reference", deterministic=True)
    assert bound.rows_norm(values).tolist() == [7.0]
    assert bound.origins["rows_norm"] == "mine"


def test_checked_reads_values_unchecked_does_not() -> None:
    values, inverse = torch.ones(2, 3), torch.tensor([0, 5])
    with pytest.raises(IndexError, match=r"rows_reduce: argument 'inverse' has value 5"):
        load("reference", checked=True).rows_reduce(values, inverse, 2)
    unchecked = Bound.of(find_op("rows_reduce"), lambda v, i, d: torch.zeros(d, 3), "x", "cpu")
    assert unchecked(values, inverse, 2).shape == (2, 3)


def test_stateful_op_behind_the_boundary() -> None:
    table = load("reference").id_map(4, 100)
    assert isinstance(table, Machine)
    rows, fresh = table.insert(torch.tensor([0, 1, 0]), torch.tensor([7, 7, 8]))
    assert (rows.dtype, fresh.tolist()) == (torch.int32, [True] * 3)
    assert (len(table), table.extent) == (3, 3)
    strided = torch.tensor([7, 0, 8, 0])[::2]
    found, missing = table.find(torch.tensor([0, 0]), strided)
    assert (found.tolist(), missing.tolist()) == ([int(rows[0]), int(rows[2])], [0])


def test_outputs_are_verified() -> None:
    op = find_op("rows_norm")
    for wrong, said in (
        (lambda values: torch.zeros(2).double(), r"norm has shape \(2,\), not \(1,\)"),
        (lambda values: torch.zeros(1), "norm is torch.float32, not torch.float64"),
        (lambda values: (torch.zeros(1).double(),) * 2, "returned 2 outputs, declared are 1"),
    ):
        with pytest.raises(TypeError, match=f"rows_norm of backend mine.*{said}"):
            Bound.of(op, wrong, "mine", "cpu")(torch.ones(2, 2))


def test_outputs_are_allocated_where_the_function_takes_them() -> None:
    def rows_norm(values: torch.Tensor, norm: torch.Tensor) -> None:
        norm[0] = values.norm()

    bound = Bound.of(find_op("rows_norm"), rows_norm, "mine", "cpu")
    assert bound(torch.tensor([[3.0, 4.0]])).tolist() == [5.0]
    assert bound(torch.tensor([[3.0, 4.0]])).dtype == torch.float64
