"""What users get wrong: one line that names it, exit code 1 or 2, nothing already written lost."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import backends
from tests.small_mse import recis, shrink, train


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with data and a finished run."""
    folder = tmp_path_factory.mktemp("mse")
    with pytest.MonkeyPatch.context() as patch:
        shrink(patch)
        assert train(folder, "--steps", 2, "--no-trace") == 0
    return folder


@pytest.fixture(autouse=True)
def small(monkeypatch):
    shrink(monkeypatch)


def refused(capsys, code, *words):
    """Run the command, which must end with `code` and one last line, and return that line."""
    capsys.readouterr()
    assert recis(*words) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert "Traceback" not in err
    *before, last = err.splitlines()
    assert last.startswith("recis: ")
    assert not [line for line in before if line.startswith("recis: ")]
    return last


def broken(trained, tmp_path, change):
    """The held-out file with `change(table)` done to it."""
    table = pq.read_table(trained / "data" / "valid")
    path = tmp_path / "broken.parquet"
    pq.write_table(change(table), path)
    return path


def evaluated(capsys, trained, path):
    return refused(capsys, 1, "evaluate", trained / "run", "--data", path, "--backend", "torch")


def test_a_missing_file(capsys, trained, tmp_path):
    said = evaluated(capsys, trained, tmp_path / "none.parquet")
    assert f"{tmp_path / 'none.parquet'}: no such file or folder" in said


def test_a_truncated_file(capsys, trained, tmp_path):
    path = broken(trained, tmp_path, lambda table: table)
    path.write_bytes(path.read_bytes()[:-100])
    assert str(path) in evaluated(capsys, trained, path)


@pytest.mark.parametrize("suffix", [".parquet", ".orc", ".arrow"])
def test_a_file_that_is_something_else(capsys, trained, tmp_path, suffix):
    path = tmp_path / f"text{suffix}"
    path.write_text("no columns here")
    assert str(path) in evaluated(capsys, trained, path)


def test_a_missing_column(capsys, trained, tmp_path):
    path = broken(trained, tmp_path, lambda table: table.drop_columns(["id_001"]))
    said = evaluated(capsys, trained, path)
    assert f"{path}: column 'id_001' is missing" in said


def test_a_wrong_type(capsys, trained, tmp_path):
    def change(table):
        at = table.schema.get_field_index("id_001")
        return table.set_column(at, "id_001", pa.array(["x"] * len(table)))

    said = evaluated(capsys, trained, broken(trained, tmp_path, change))
    assert "column 'id_001'" in said
    assert "string" in said


def test_a_null_where_none_is_allowed(capsys, trained, tmp_path):
    def change(table):
        at = table.schema.get_field_index("id_001")
        values = table["id_001"].to_pylist()
        values[17] = None
        return table.set_column(at, "id_001", pa.array(values, pa.int64()))

    path = broken(trained, tmp_path, change)
    said = evaluated(capsys, trained, path)
    assert str(path) in said
    assert "column 'id_001'" in said
    assert "row 17" in said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("train", "nothing"), "no workload 'nothing'; there are"),
        (("train", "mse", "--size", "huge"), "no size 'huge'; there are tiny"),
        (("train", "mse", "--backend", "nope"), "no backend 'nope'; there are"),
        (("train", "mse", "--backend", "auto+torch"), "'auto' stands alone"),
        (("train", "mse", "--rule", "nope"), "no rule 'nope'; there are"),
        (("train", "mse", "--format", "csv"), "no format 'csv'; there are"),
        (("train", "mse", "--epochs", "0"), "--epochs"),
        (("train", "mse", "--epochs", "many"), "--epochs"),
        (("train", "mse", "--threads", "0"), "--threads is 0"),
        (("train", "mse", "--resume"), "nothing to resume"),
        (("train", "movielens"), "recis data import movielens SOURCE"),
        (("data", "import", "mse", "."), "recis data write mse"),
        (("data", "import", "movielens", "none"), "none: no such file or folder"),
        (("train", "mse", "--wrong-option"), "--wrong-option"),
        (("train",), "Missing argument"),
        (("check", "nope"), "no backend 'nope'"),
        (("check", "reference", "--op", "nope"), "no op 'nope'; there are"),
        (("bench", "--backend", "torch", "--op", "nope"), "no op 'nope'"),
        (("bench", "--backend", "torch", "--case", "nope"), "no bench case"),
        (("bench", "--backend", ","), "no backend is named"),
        (("nothing",), "nothing"),
    ],
)
def test_misuse(capsys, tmp_path, monkeypatch, words, said):
    monkeypatch.chdir(tmp_path)
    assert said in refused(capsys, 2, *words)
    assert not list(tmp_path.iterdir()), "misuse leaves nothing behind"


def test_no_command_is_misuse_and_shows_the_help(capsys):
    assert recis() == 2
    assert "Commands" in capsys.readouterr().err


def test_an_absent_backend(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    said = refused(capsys, 1, "train", "mse", "--backend", "torch", "--device", "cuda")
    assert "backend 'torch' is absent" in said


@pytest.fixture
def partial(tmp_path, monkeypatch):
    """A third-party backend with one op, and that one wrong."""
    package = tmp_path / "partial_backend"
    package.mkdir()
    (package / "__init__.py").write_text(
        'DEVICES = ("cpu",)\n\n\ndef absent(device):\n    return None\n'
    )
    (package / "ids_mod.py").write_text(
        "def ids_mod(ids, splits, moduli):\n    return ids.clone()\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    point = EntryPoint("partial", "partial_backend", "recis.backends")
    monkeypatch.setattr(backends, "entry_points", lambda group: [point])


def test_an_op_a_backend_lacks(capsys, partial):
    said = refused(capsys, 1, "check", "partial")
    assert "op 'columns_unpack' is not implemented by backend 'partial'" in said


def test_a_wrong_op_fails_the_check_and_gets_no_time(capsys, partial):
    assert recis("check", "partial+reference", "--op", "ids_mod") == 1
    assert "wrong: ids_mod" in capsys.readouterr().err
    words = ("bench", "--op", "ids_mod", "--case", "columns=1", "--budget", 0.01)
    assert recis(*words, "--backend", "partial+reference", "--json") == 1
    out, err = capsys.readouterr()
    assert '"status": "wrong"' in out
    assert '"median": null' in out
    assert "wrong: ids_mod of partial" in err


def test_a_folder_that_is_no_run(capsys, tmp_path):
    assert "has no run.json" in refused(capsys, 1, "evaluate", tmp_path)
    assert "has no run.json" in refused(
        capsys, 1, "predict", tmp_path, "--to", tmp_path / "p.parquet"
    )


def test_a_run_is_not_begun_over_another(capsys, trained):
    before = checkpoints(trained)
    with pytest.raises(AssertionError):
        assert train(trained, "--no-trace") == 0
    assert "holds checkpoints up to step 2" in capsys.readouterr().err
    assert checkpoints(trained) == before


def test_a_resumed_run_cannot_become_another(capsys, trained):
    words = ("train", "mse", "--resume", "--out", trained / "run", "--batch-size", 7)
    assert "batch_size was 500" in refused(capsys, 2, *words)


def test_data_of_another_plan_are_not_overwritten(capsys, trained):
    before = files(trained / "data")
    words = ("data", "write", "mse", "--out", trained / "data", "--seed", 5)
    said = refused(capsys, 1, *words)
    assert "seed is 0, asked for 5" in said
    assert files(trained / "data") == before


def checkpoints(folder: Path):
    return sorted(p.name for p in (folder / "run" / "checkpoints").iterdir())


def files(folder: Path):
    return {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}


FULL = """
import resource, sys
import pytest
from tests.small_mse import recis, shrink
shrink(pytest.MonkeyPatch())
resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))
sys.exit(recis(*sys.argv[1:]))
"""


def on_a_full_disk(limit, *words):
    """The command in a process whose files cannot grow above `limit` bytes."""
    return subprocess.run(
        [sys.executable, "-c", FULL.format(limit=limit), *map(str, words)],
        capture_output=True, text=True, cwd=Path(__file__).parents[1], timeout=120,
    )  # fmt: skip


pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
needs_limits = pytest.mark.skipif(os.name != "posix", reason="file size limits are POSIX")


@needs_limits
def test_a_full_disk_while_writing_data(tmp_path):
    done = on_a_full_disk(20_000, "data", "write", "mse", "--out", tmp_path / "data")
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"recis: {tmp_path / 'data'}")
    assert "File too large" in last
    assert "Traceback" not in done.stderr
    # What is there is no data, and says so: nothing is taken for complete.
    assert not [p for p in (tmp_path / "data").rglob("*.parquet") if not p.name.startswith(".")]


@needs_limits
def test_a_full_disk_while_predicting_keeps_the_old_file(trained, tmp_path):
    path = tmp_path / "scores.parquet"
    words = ("predict", trained / "run", "--backend", "torch", "--to", path)
    assert recis(*words) == 0
    before = path.read_bytes()
    done = on_a_full_disk(1000, *words)
    assert done.returncode == 1
    assert str(path) in done.stderr.splitlines()[-1]
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["scores.parquet"]


@needs_limits
def test_a_full_disk_while_saving_keeps_the_checkpoints_there_are(trained, tmp_path):
    copy = tmp_path / "run"
    for path, content in files(trained / "run").items():
        to = copy / path.relative_to(trained / "run")
        to.parent.mkdir(parents=True, exist_ok=True)
        to.write_bytes(content)
    before = files(copy / "checkpoints")
    words = ("train", "mse", "--resume", "--out", copy, "--steps", 4, "--no-trace")
    done = on_a_full_disk(10_000, *words, "--backend", "torch")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("recis: ")
    assert "Traceback" not in done.stderr
    assert files(copy / "checkpoints") == before
    assert recis(*words, "--backend", "torch") == 0


def test_a_traceback_only_with_debug(capsys, tmp_path):
    assert recis("data", "show", tmp_path / "none") == 1
    assert "Traceback" not in capsys.readouterr().err
    assert recis("--debug", "data", "show", tmp_path / "none") == 1
    assert "Traceback" in capsys.readouterr().err
