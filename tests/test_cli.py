"""The `recis` command: every sub-command does its work, data on stdout, people's text on stderr."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from recis_core.kernels import every_op
from reports import records
from tests.small_mse import recis, shrink, train


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with data and a run of two epochs."""
    folder = tmp_path_factory.mktemp("mse")
    with pytest.MonkeyPatch.context() as patch:
        shrink(patch)
        assert train(folder, "--epochs", 2, "--save-every", 4) == 0
    return folder


@pytest.fixture
def small(monkeypatch):
    shrink(monkeypatch)


def test_training_prints_the_held_out_auc_beside_the_ceiling(small, tmp_path, capsys):
    assert train(tmp_path, "--json", "--steps", 14) == 0
    out, err = capsys.readouterr()
    [result] = map(json.loads, out.splitlines())
    ceiling = result["ceiling"]
    assert 0.5 < ceiling < 1
    assert f"(teacher's ceiling {ceiling:.4f})" in err
    assert f"held-out AUC {result['metrics']['auc']:.4f}" in err
    assert "MBU" in err
    assert result["step"] == 6  # one epoch of 3000 rows ends before 14 steps
    assert json.loads((tmp_path / "run" / "result.json").read_text()) == result


def test_the_traced_step_adds_up(small, tmp_path, capsys):
    assert train(tmp_path, "--json", "--epochs", 3) == 0
    trace = json.loads(capsys.readouterr().out)["trace"]
    assert trace["steps"] >= 1
    names = {op["op"] for op in trace["ops"]}
    assert {"ids_partition", "id_map.find", "columns_unpack", "rows_adam"} <= names
    spent = sum(op["seconds"] for op in trace["ops"])
    assert spent + trace["other"] == pytest.approx(trace["seconds"])
    assert 0 < spent < trace["seconds"]
    assert trace["mbu"] == pytest.approx(trace["bytes"] / trace["seconds"] / 20e9)


def test_without_a_trace_there_is_none(small, tmp_path, capsys):
    assert train(tmp_path, "--json", "--no-trace", "--steps", 2) == 0
    out, err = capsys.readouterr()
    assert "trace" not in json.loads(out)
    assert "MBU" not in err


def test_default_folders(small, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    plain = ("train", "mse", "--steps", "2", "--no-trace", "--backend", "torch")
    assert recis(*plain) == 0
    assert recis(*plain) == 0
    assert [p.name for p in sorted(Path("runs").iterdir())] == ["mse-tiny-001", "mse-tiny-002"]
    assert Path("data/mse-tiny/manifest.json").exists()
    assert recis("train", "mse", "--resume", "--steps", "4", "--no-trace", "--json") == 0
    assert json.loads(capsys.readouterr().out)["run"].endswith("mse-tiny-002")


def test_a_resumed_run_ends_as_one_that_was_not_stopped(small, trained, tmp_path, capsys):
    assert train(tmp_path, "--epochs", 2, "--steps", 5, "--no-trace") == 0
    capsys.readouterr()
    assert train(tmp_path, "--resume", "--steps", 12, "--no-trace", "--json") == 0
    whole = json.loads((trained / "run" / "result.json").read_text())
    again = json.loads(capsys.readouterr().out)
    assert again["step"] == whole["step"] == 12
    assert again["metrics"] == whole["metrics"]


def test_evaluate_says_what_training_said(small, trained, capsys):
    assert recis("evaluate", trained / "run", "--backend", "torch", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    whole = json.loads((trained / "run" / "result.json").read_text())["metrics"]
    assert {name: found[name] for name in whole} == pytest.approx(whole)


def test_predict_writes_a_score_for_every_row(small, trained, tmp_path, capsys):
    path = tmp_path / "new" / "scores.parquet"
    assert recis("predict", trained / "run", "--to", path, "--json") == 0
    table = pq.read_table(path)
    assert json.loads(capsys.readouterr().out)["rows"] == table.num_rows == 600
    assert table["row"].to_pylist() == list(range(600))
    assert all(0 < score < 1 for score in table["score"].to_pylist())


@pytest.mark.parametrize("format", ["parquet", "orc", "arrow"])
def test_data_are_written_and_shown(small, tmp_path, capsys, format):
    folder = tmp_path / "data"
    assert recis("data", "write", "mse", "--out", folder, "--format", format) == 0
    assert recis("data", "show", folder / "train", "--json") == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert found["rows"] == 3000
    assert all(name.endswith(f".{format}") for name in found["files"])
    assert found["columns"]["label"] == "float"
    assert recis("data", "show", folder / "train") == 0
    assert "3,000 rows" in capsys.readouterr().err


def test_check_passes_a_right_backend_and_prints_every_verdict(capsys):
    assert recis("check", "reference", "--op", "ids_mod", "--op", "rows_norm", "--json") == 0
    out, err = capsys.readouterr()
    verdicts = [json.loads(line) for line in out.splitlines()]
    assert {v["op"] for v in verdicts} == {"ids_mod", "rows_norm"}
    assert {v["status"] for v in verdicts} == {"ok"}
    assert f"{len(verdicts)} of {len(verdicts)} checks passed" in err


def test_bench_writes_records(small, tmp_path, capsys):
    path = tmp_path / "r.jsonl"
    words = ("--op", "rows_norm", "--case", "dim=16", "--budget", 0.01, "--out", path, "--json")
    assert recis("bench", "--backend", "torch,reference", *words) == 0
    out, err = capsys.readouterr()
    found = records.read(path)
    assert [(r.asked, r.status) for r in found] == [("torch", "ok"), ("reference", "ok")]
    assert [json.loads(line) for line in out.splitlines()] == [
        json.loads(records.line(r)) for r in found
    ]
    assert "times as fast as reference" in err


def test_backends_shows_every_op_of_every_backend(capsys):
    assert recis("backends", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert set(found["ops"]) == {op.name for op in every_op()}
    assert found["absent"]["reference"] is None
    assert set(found["ops"]["rows_pool"].values()) <= {"own", "composed", "absent"}
    assert recis("backends", "--device", "cuda", "--json") == 0
    assert "runs on cpu" in json.loads(capsys.readouterr().out)["absent"]["reference"]


def test_the_module_is_the_command_and_help_is_quick():
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "reports", "--help"],
        capture_output=True, text=True, check=True, cwd=Path(__file__).parents[1],
    )  # fmt: skip
    assert "train" in done.stdout
    assert "Exit codes: 0 done, 1 failed, 2 misused" in done.stdout
    # Nothing heavy is imported to say what there is.
    assert not [line for line in done.stderr.splitlines() if line.endswith(("torch", "numba"))]
