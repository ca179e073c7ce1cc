"""Records on disk: what is written is read back, what is no record is refused by line."""

from __future__ import annotations

import json
import time
from types import SimpleNamespace

import pytest
import torch

import backends
from backends.boundary import Bound
from recis_core.kernels import find_op
from reports import gpu_conformance, gpu_counters, gpu_run, records, repeat, sheet
from roofline.anchors import Anchor
from roofline.record import SCHEMA, Record, versions


def record(asked="numba", op="ids_mod", case="n=1", status="ok", median=1.0, **more):
    return Record(
        op=op, op_version="abc", case=case, asked=asked, run=asked, status=status,
        device={"name": "a processor", "kind": "cpu"}, threads=2, versions={"python": "3.12"},
        seed=7, taken="2020-01-01T00:00:00+00:00", samples=(1.0, 2.0) if median else (),
        median=median, mbu=0.5, minimum_gbs=2.0, **more,
    )  # fmt: skip


def test_appended_records_are_read_back(tmp_path):
    path = tmp_path / "new" / "r.jsonl"
    one, two = record(), record(asked="torch", status="wrong", median=None, reason="out: far off")
    records.append(path, [one])
    records.append(path, [two])
    assert records.read(path) == [one, two]
    assert all(json.loads(text)["schema"] == SCHEMA for text in path.read_text().splitlines())


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "line 2"),
        ("[]", "line 2"),
        (json.dumps({**record().as_dict(), "schema": 99}), "schema 99"),
        (json.dumps({**record().as_dict(), "surprise": 1}), "surprise"),
    ],
)
def test_what_is_no_record_is_refused_with_its_line(tmp_path, text, said):
    path = tmp_path / "r.jsonl"
    records.append(path, [record()])
    with path.open("a") as file:
        file.write(text + "\n")
    with pytest.raises(records.RecordError, match=said) as caught:
        records.read(path)
    assert f"{path}, line 2" in str(caught.value)


def test_a_table_has_a_row_for_each_record():
    table = records.table([record(), record(asked="torch")])
    assert list(table["asked"]) == ["numba", "torch"]
    assert list(table["device.name"]) == ["a processor"] * 2


def test_ratios_are_geometric_means_over_cases_then_ops():
    found = [
        record("a", "x", "1", median=1.0), record("b", "x", "1", median=2.0),
        record("a", "x", "2", median=1.0), record("b", "x", "2", median=8.0),
        record("a", "y", "1", median=1.0), record("b", "y", "1", median=1.0),
        record("a", "z", "1", median=1.0), record("b", "z", "1", "wrong", None),
    ]  # fmt: skip
    assert sheet.ratio_by_op(found, "a", "b") == pytest.approx({"x": 4.0, "y": 1.0})
    [said] = sheet.ratios(found, ["a", "b"])
    assert "a is 2.00 times as fast as b" in said
    assert "2 ops; least at y: 1.00" in said


def test_versions_name_what_results_depend_on():
    assert set(versions()) == {"python", "numpy", "torch", "numba"}


def test_two_runs_agree_within_three_percent_of_what_takes_longer_than_20_us(tmp_path, capsys):
    one = [record(case=c, median=m) for c, m in (("a", 1e-3), ("b", 30e-6), ("c", 5e-6))]
    near = [record(case=c, median=m) for c, m in (("a", 1.02e-3), ("b", 29.2e-6), ("c", 9e-6))]
    far = [record(case="a", median=1.04e-3), record(case="d", median=1.0)]
    paths = [tmp_path / name for name in ("one", "near", "far")]
    for path, records_ in zip(paths, (one, near, far), strict=True):
        records.append(path, records_)
    assert repeat.main(paths[0], paths[1]) == 0
    assert "2 within 3%, 0 apart, largest difference 2.67%" in capsys.readouterr().out
    assert repeat.main(paths[0], paths[2]) == 1
    said = capsys.readouterr().out
    assert "APART" in said
    assert "2 in the first run alone" in said


def test_the_gpu_run_says_what_its_records_are(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "a GPU")
    monkeypatch.setattr(gpu_run, "seconds", lambda *args, clean=False: (1e-3 - clean * 1e-4,) * 4)
    k = backends.load("torch")
    anchor = Anchor("ids_mod", "n=1", lambda: None, 12)
    found = gpu_run.anchored(k, anchor, torch.empty(1), 1e9)
    assert found.kind == "anchor"
    assert found.roofs
    assert found.roofs["clean_share_of_copy"] > found.roofs["share_of_copy"]


def test_the_gpu_run_tells_which_checks_failed(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "a GPU")
    op = find_op("ids_mod")
    right = backends.load("torch")
    found = gpu_conformance.conformance(right, "ids_mod")
    assert (found.kind, found.status, found.op) == ("conformance", "ok", "ids_mod")
    count = int(found.case.split()[1])
    assert found.case == f"conformance, {count} of {count} checks"
    call = Bound.of(op, lambda ids, splits, moduli, out: out.fill_(7), "torch", "cpu")
    wrong = SimpleNamespace(name="torch", origins=right.origins, ids_mod=call)
    found = gpu_conformance.conformance(wrong, "ids_mod")  # pyright: ignore[reportArgumentType]
    assert found.status == "wrong"
    assert "out" in found.reason


@pytest.mark.parametrize(("patience", "said"), [(0, "left out, no time left: torch ids_mod"),
                                               (60, "torch ids_mod: TypeError")])  # fmt: skip
def test_an_op_whose_process_came_to_nothing_does_not_conform(
    monkeypatch, tmp_path, capsys, patience, said
):
    monkeypatch.setattr(gpu_conformance, "every_op", lambda: [find_op("ids_mod")])
    monkeypatch.setattr(gpu_conformance, "examined", int)  # int("torch", "ids_mod") raises
    assert gpu_conformance.conform(tmp_path, ["torch"], time.monotonic() + patience) == 1
    out = capsys.readouterr().out
    assert said in out
    assert "torch: 0 of 1 ops conform" in out
    assert not list(tmp_path.iterdir())


def test_the_counters_of_kernels_are_read_with_their_units():
    names = ["ID", "Kernel Name", "Grid Size", "Block Size", "thread Domain:Push/Pop_Range:More"]
    units = dict.fromkeys(gpu_counters.METRICS.values(), "%")
    units |= {"gpu__time_duration.sum": "ns", "dram__bytes_read.sum": "Mbyte"}
    row = ["0", "void sum<4>(int)", "(2, 1, 1)", "(64, 1, 1)", "<default>:rows_sum~D=8~x:none"]
    lines = [
        [*names, *units],
        [*[""] * 5, *units.values()],
        [*row, *["1,500"] * len(units)],
    ]
    text = "\n".join(",".join(f'"{word}"' for word in line) for line in lines)
    (found,) = gpu_counters.table(f"CASE rows_sum\n==PROF== x\n{text}\n==PROF== y")
    assert (found["case"], found["kernel"]) == ("rows_sum D=8 x", "void sum<4>")
    assert (found["microseconds"], found["dram_read_mb"], found["registers"]) == (
        "1.5",
        "1500",
        "1500",
    )
    with pytest.raises(ValueError, match="no table"):
        gpu_counters.table("==ERROR== nothing")
