"""`recis roofline` of ops: records kept and gone on with, wrong kernels of another's refused."""

from __future__ import annotations

import json
from dataclasses import replace
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
import torch

import backends
from recis_core.roofs import Roofs
from reports import records, roofline
from roofline import counters, datasheet
from roofline.kinds import Comparison, Counters, RoofsRecord, StepRecord
from roofline.record import Record
from roofline.stamp import roofs_record
from tests.small_mse import ROOFS, recis, shrink

OPS = ("--op", "ids_mod", "--budget", 0.01)
MOD = ("--op", "ids_mod", "--case", "columns=1", "--budget", 0.01)
RIGHT = "from backends.torch.ids_mod import ids_mod as right\n"
WRONG = {
    "off by one": "def ids_mod(ids, splits, moduli):\n    return right(ids, splits, moduli) + 1\n",
    "half unwritten": (
        "def ids_mod(ids, splits, moduli, out):\n    half = len(ids) // 2\n"
        "    out[:half] = right(ids, splits, moduli)[:half]\n"
    ),
    "last call's buffer": (
        "kept = []\ndef ids_mod(ids, splits, moduli):\n"
        "    kept or kept.append(right(ids, splits, moduli))\n    return kept[0]\n"
    ),
}


@pytest.fixture(autouse=True)
def small(monkeypatch):
    shrink(monkeypatch)
    here = roofline.Place(ROOFS.device, torch.get_num_threads(), torch.__version__)
    monkeypatch.setattr(roofline.Place, "of", classmethod(lambda cls, device: here))


def other_backend(monkeypatch, folder: Path, name: str, body: str) -> None:
    """Someone else's package `name` with an ids_mod of its own, found by its entry point."""
    package = folder / name
    package.mkdir()
    (package / "__init__.py").write_text(
        'DEVICES = ("cpu",)\n\n\ndef absent(device):\n    return None\n'
    )
    (package / "ids_mod.py").write_text(RIGHT + body)
    monkeypatch.syspath_prepend(str(folder))
    point = EntryPoint(name, name, "recis.backends")
    monkeypatch.setattr(backends, "entry_points", lambda group: [point])


def test_roofs_stand_beside_the_data_sheet(capsys, tmp_path):
    out = tmp_path / "r.jsonl"
    assert recis("roofline", "--roofs", "--out", out) == 0
    [record] = records.read(out, RoofsRecord)
    assert Roofs.from_dict(record.roofs) == ROOFS
    assert record.sheet is None
    said = capsys.readouterr().err
    assert "not in the table" in said
    assert "20.00" in said


def test_a_data_sheet_is_found_by_the_whole_name_alone():
    sheet = datasheet.sheet_of("NVIDIA H100 80GB HBM3")
    assert sheet is not None
    assert sheet.memory == 3.35e12
    assert datasheet.sheet_of("NVIDIA H100") is None
    pcie = datasheet.sheet_of("NVIDIA H100 PCIe")
    assert pcie is not None
    assert pcie.memory < sheet.memory


def test_finished_records_are_kept_and_only_missing_ones_measured(tmp_path, capsys, monkeypatch):
    out = tmp_path / "r.jsonl"
    words = ("roofline", "--backend", "torch", *OPS, "--out", out)
    measured = roofline.measured

    def stopped(contenders, plan, setting):
        if plan[0][1].size["columns"] == 400:
            raise KeyboardInterrupt
        return measured(contenders, plan, setting)

    monkeypatch.setattr(roofline, "measured", stopped)
    assert recis(*words) == 1
    assert "interrupted: 1 of 2 records" in capsys.readouterr().err
    # A line that a kill cut off is dropped.
    with out.open("a") as file:
        file.write('{"op": "ids_m')
    monkeypatch.setattr(roofline, "measured", measured)
    assert recis(*words) == 0
    assert "1 measured, 1 kept" in capsys.readouterr().err
    found = records.read(out)
    assert [(r.op, r.status) for r in found] == [("ids_mod", "ok")] * 2
    for r in found:
        assert r.bounds is not None
        assert r.median is not None
        assert r.attainment == pytest.approx(max(r.bounds.values()) / r.median)
        assert r.intensity == pytest.approx((r.flops or 0) / (r.minimum_bytes or 1))
        assert f"--op {r.op}" in r.command
        assert r.source
    assert recis(*words) == 0
    assert "0 measured, 2 kept" in capsys.readouterr().err
    assert recis(*words, "--again", "--case", "columns=1") == 0
    assert "1 measured, 0 kept" in capsys.readouterr().err


def test_a_changed_kernel_is_measured_again(tmp_path, capsys, monkeypatch):
    body = "def ids_mod(ids, splits, moduli):\n    return right(ids, splits, moduli)\n"
    other_backend(monkeypatch, tmp_path, "changing", body)
    from roofline.stamp import source_digest

    source_digest.cache_clear()
    before = source_digest("changing")
    (tmp_path / "changing" / "ids_mod.py").write_text(RIGHT + body + "# faster\n")
    source_digest.cache_clear()
    assert source_digest("changing") != before


@pytest.mark.parametrize("fault", WRONG)
def test_a_wrong_kernel_of_another_package_is_refused_a_time(tmp_path, monkeypatch, fault, capsys):
    name = "other_" + "".join(c for c in fault if c.isalpha())
    other_backend(monkeypatch, tmp_path, name, WRONG[fault])
    out = tmp_path / "r.jsonl"
    assert recis("roofline", "--backend", f"{name}+torch", *MOD, "--out", out) == 1
    [found] = records.read(out)
    assert (found.status, found.run) == ("wrong", name)
    assert found.median is None
    assert found.samples == ()
    assert f"wrong: ids_mod of {name}" in capsys.readouterr().err


def test_a_time_beyond_the_hardware_fails_the_run(tmp_path, monkeypatch, capsys):
    slow = replace(ROOFS, caches={"L2": 1 << 20}, copy=1e3, read=1e3, write=1e3)
    monkeypatch.setattr("roofline.device.measure_roofs", lambda *args, **kwargs: slow)
    out = tmp_path / "r.jsonl"
    assert recis("roofline", "--backend", "torch", *MOD, "--out", out) == 1
    [found] = records.read(out)
    assert found.status == "error"
    assert "attainment" in found.reason


def test_ncu_says_why_it_cannot_count(tmp_path, capsys):
    out = tmp_path / "r.jsonl"
    assert recis("roofline", "--backend", "torch", *MOD, "--ncu", "--out", out) == 1
    [found] = records.read(out, Counters)
    assert (found.status, found.waste) == ("error", None)
    assert "the device is cpu" in found.reason
    assert "ncu: Nsight Compute counts on a GPU" in capsys.readouterr().err
    assert "nowhere" not in str(counters.absent(torch.device("cpu")))


def test_ncu_missing_is_said(monkeypatch):
    monkeypatch.setattr("shutil.which", lambda name: None)
    assert "ncu is not on the PATH" in str(counters.absent(torch.device("cuda")))


NCU = """==PROF== Connected
"ID","Process ID","Kernel Name","Grid Size","dram__bytes_read.sum","dram__bytes_write.sum"
"","","","","Mbyte","Kbyte"
"0","7","sweep","(9, 1, 1)","100.0","900.0"
"1","7","sweep","(9, 1, 1)","100.5","10.0"
"2","7","mine","(4, 1, 1)","3.0","1,000.0"
"3","7","mine","(8, 1, 1)","1.0","0.0"
"4","7","sweep","(9, 1, 1)","100.5","2,010.0"
"""


def test_counted_bytes_are_the_calls_alone():
    found = counters.launches_of(NCU)
    assert [k.name for k in found][2:4] == ["mine (4, 1, 1)", "mine (8, 1, 1)"]
    # 3 + 1 MB read; 1 MB written in the call and 2 MB that its sweep brought out.
    assert counters.of_call(found) == (4_000_000, 3_000_000, 2)
    with pytest.raises(ValueError, match="no table"):
        counters.launches_of("==ERROR== nothing")
    with pytest.raises(ValueError, match="less than the sweeps"):
        counters.of_call(found[:2])


def test_every_kind_of_record_is_read_back(tmp_path):
    stamp = dict(device={"name": "d", "kind": "cpu"}, threads=2, versions={"torch": "2"})
    step = StepRecord(
        **stamp, workload="mse", size="tiny", backend="torch", origins={}, batch=1, steps=1,
        samples=[1.0], seconds=1.0, rows_per_s=1.0, bytes=1.0, mbu=0.5, stages=[], ops=[],
        waterfall=[], sparse={}, dense={}, exposed=0.0, idle=None, busy=None, first="", roofs={},
    )  # fmt: skip
    compared = Comparison(
        **stamp, workload="mse", size="tiny", batch=1, seed=0, warm=1, turn=1, rounds=2,
        contenders=[], ratios=[], agreed=True,
    )  # fmt: skip
    counted = Counters(**stamp, op="x", op_version="1", case="c", asked="a", run="a", status="ok")
    op = Record(
        op="x", op_version="1", case="c", asked="a", run="a", status="error", seed=0, **stamp
    )
    every = [roofs_record(ROOFS), step, compared, counted, op]
    path = tmp_path / "r.jsonl"
    records.append(path, every)
    assert [records.line(r) for r in records.read_any(path)] == [records.line(r) for r in every]
    assert [json.loads(line)["kind"] for line in path.read_text().splitlines()] == [
        "roofs", "step", "compare", "counters", "op",
    ]  # fmt: skip
    assert records.read(path) == [op]
    with path.open("a") as file:
        file.write('{"kind": "unheard", "schema": 1}\n')
    with pytest.raises(records.RecordError, match="kind 'unheard'"):
        records.read_any(path)


def test_place_distinguishes_machines():
    record = roofs_record(ROOFS)
    assert roofline.Place.of("cpu").has(record)
    assert not roofline.Place("another", torch.get_num_threads(), torch.__version__).has(record)
    assert not roofline.Place(ROOFS.device, 99, torch.__version__).has(record)
