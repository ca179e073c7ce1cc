"""Times from commit to commit: the files are asv's own, a slower op is flagged, noise is not."""

from __future__ import annotations

import json
import os
import random
import statistics
import subprocess
import sys
import time
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import backends
from recis_core.kernels import find_op
from reports.commands import asv as command
from reports.records import append
from roofline.asv.results import Commit, export, spread
from roofline.asv.suite import METHOD, benchmark, suite_of, suites
from roofline.measure import Setting, measure
from roofline.record import Record
from roofline.subject import subject_of
from roofline.timer import Timer
from tests.small_mse import ROOFS as SMALL
from tests.small_mse import recis

ROOT = Path(__file__).parent.parent
needs_asv = pytest.mark.skipif(find_spec("asv") is None, reason="asv is not installed")
GPU = {"name": "NVIDIA H100 80GB HBM3", "kind": "cuda", "host": "a processor", "cores": 16}
OP = find_op("rows_norm")
# No time beats them.
ROOFS = replace(SMALL, copy=1e15, read=1e15, write=1e15, cache=1e15, matmul=1e18)
CASES = tuple(case.name for case in OP.cases("bench"))
NOISE = 0.02  # of a sample


def record(median: float, backend="torch", case=CASES[0], seed=0, count=15, device=None) -> Record:
    """`count` samples about `median` seconds, two percent of noise."""
    rng = random.Random(seed)
    samples = tuple(rng.gauss(median, NOISE * median) for _ in range(count))
    return Record(
        op=OP.name, op_version=OP.version, case=case, asked=backend, run=backend, status="ok",
        device=device or {"name": "a processor", "kind": "cpu", "cores": 2}, threads=2,
        versions={"python": "3.12"}, seed=0, taken="2026-01-01T00:00:00+00:00", samples=samples,
        median=statistics.median(samples),
    )  # fmt: skip


@pytest.fixture
def repository(tmp_path):
    """A git checkout of three empty commits with asv's configuration in it."""

    def git(*words):
        names = ("-c", "user.name=a", "-c", "user.email=a@example.org")
        subprocess.run(["git", *names, *words], cwd=tmp_path, check=True, capture_output=True)

    git("init", "-q", "-b", "main")
    folder = tmp_path / "roofline" / "asv"
    folder.mkdir(parents=True)
    (folder / "asv.conf.json").write_text((ROOT / "roofline/asv/asv.conf.json").read_text())
    git("add", "-A")
    for name in ("first", "second", "third"):
        git("commit", "-q", "--allow-empty", "-m", name)
        git("tag", name)
    return tmp_path


def asv(repository: Path, *words: str) -> str:
    """What asv prints; it must not touch the user's own files."""
    done = subprocess.run(
        [sys.executable, "-m", "asv", words[0], "--config", "roofline/asv/asv.conf.json",
         *words[1:]],
        cwd=repository, capture_output=True, text=True, check=False,
        env={**os.environ, "HOME": str(repository / "home")},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def marked(said: str) -> dict[str, str]:
    """The mark of each line of `asv compare`: + slower, - faster, "" no change."""
    lines = [line.split("|") for line in said.splitlines() if METHOD in line]
    return {cells[-2].strip(): cells[1].strip() for cells in lines}


def written(repository: Path, name: str, *records: Record) -> dict[str, int]:
    folder = repository / ".asv" / "results"
    return export(records, Commit.of(repository, name), folder)[0]


def test_a_suite_for_every_declared_op():
    found = suites()
    assert len(found) > 20
    made = benchmark(suite_of(OP))
    assert (made.__name__, made.unit, made.version) == ("rows_norm", "µs", OP.version)
    assert made.params[0] == CASES
    assert "torch" in made.params[1]
    assert "reference" not in made.params[1]


def test_a_suite_measures_in_microseconds_and_skips_what_is_absent(monkeypatch):
    made = benchmark(suite_of(OP))()
    monkeypatch.setattr("roofline.asv.suite.device_here", lambda: "cpu")
    made.setup(CASES[0], "torch")
    with pytest.raises(NotImplementedError):
        made.setup(CASES[0], "cuda")
    taken = [record(0.25)]
    monkeypatch.setattr("roofline.measure.measure", lambda *args: taken[0])
    monkeypatch.setattr("roofline.asv.suite._setting", lambda: None)
    assert made.track_microseconds(CASES[0], "torch") == taken[0].median * 1e6
    taken[0] = replace(taken[0], status="wrong", median=None, reason="out differs")
    with pytest.raises(RuntimeError, match="wrong: out differs"):
        made.track_microseconds(CASES[0], "torch")


def test_results_are_keyed_by_the_gpu_and_keep_what_was_there(repository):
    assert written(repository, "first", record(1.0, "cuda", device=GPU)) == {
        "nvidia-h100-80gb-hbm3": 1
    }
    assert written(repository, "first", record(2.0, "torch", device=GPU)) == {
        "nvidia-h100-80gb-hbm3": 1
    }
    folder = repository / ".asv" / "results" / "nvidia-h100-80gb-hbm3"
    assert json.loads((folder / "machine.json").read_text())["gpu"] == GPU["name"]
    [path] = folder.glob("*-existing-records.json")
    content = json.loads(path.read_text())
    assert content["version"] == 2
    row = dict(zip(content["result_columns"], content["results"][suite_of(OP).name], strict=False))
    found = dict(zip(suite_of(OP).points, row["result"], strict=True))
    assert found[CASES[0], "cuda"] == pytest.approx(1e6, rel=NOISE)
    assert found[CASES[0], "torch"] == pytest.approx(2e6, rel=NOISE)
    assert sum(value is not None for value in found.values()) == 2
    stranger = replace(record(1.0), case="no such case")
    _, count = export([stranger], Commit.of(repository), repository / "none")
    assert count == 1
    assert not (repository / "none").exists()


def test_intervals_hold_the_median_99_times_in_100():
    assert spread([1.0] * 7)["stats_ci_99_a"] == -float("inf")
    exact = spread([float(k) for k in range(1, 9)])
    assert (exact["stats_ci_99_a"], exact["stats_ci_99_b"]) == (1.0, 8.0)
    rng = random.Random(1)
    held = 0
    for _ in range(2000):
        s = spread([rng.gauss(0, 1) for _ in range(15)])
        held += s["stats_ci_99_a"] <= 0 <= s["stats_ci_99_b"]
    assert held / 2000 > 0.985


@needs_asv
def test_asv_reads_what_is_written_flags_slower_and_not_noise(repository):
    first = [record(1e-3, seed=1), record(5e-3, "numba", CASES[1], seed=2)]
    written(repository, "first", *first)
    written(repository, "second", record(1e-3, seed=3), record(5e-3, "numba", CASES[1], seed=4))
    written(repository, "third", record(1.2e-3, seed=5), record(5e-3, "numba", CASES[1], seed=6))
    idle = marked(asv(repository, "compare", "first", "second"))
    assert set(idle.values()) == {""}
    slower = marked(asv(repository, "compare", "second", "third"))
    assert [name for name, mark in slower.items() if mark == "+"] == [
        f"{suite_of(OP).name}('{CASES[0]}', 'torch')"
    ]
    assert "-" in marked(asv(repository, "compare", "third", "second")).values()


@needs_asv
def test_asv_publishes_what_is_written(repository):
    for name, seconds in (("first", 1e-3), ("second", 1.1e-3)):
        written(repository, name, record(seconds, "cuda", device=GPU))
    asv(repository, "publish", "--no-pull")
    index = json.loads((repository / ".asv/html/index.json").read_text())
    assert suite_of(OP).name in index["benchmarks"]
    assert index["params"]["machine"] == ["nvidia-h100-80gb-hbm3"]
    graphs = [p for p in (repository / ".asv/html/graphs").rglob("*.json")
              if "nvidia-h100-80gb-hbm3" in str(p) and p.stem == suite_of(OP).name]  # fmt: skip
    assert graphs
    values = [v for _, row in json.loads(graphs[0].read_text()) for v in row if v]
    assert sorted(values) == pytest.approx([1000, 1100], rel=NOISE)


@needs_asv
def test_the_commands_export_compare_and_publish(repository, monkeypatch, capfd, tmp_path):
    monkeypatch.setattr(command, "CONFIG", repository / "roofline/asv/asv.conf.json")
    for name, seconds in (("first", 1e-3), ("third", 1.25e-3)):
        path = tmp_path / f"{name}.jsonl"
        append(path, [record(seconds, seed=len(name))])
        assert recis("asv", "export", path, "--commit", name, "--repository", repository) == 0
    assert recis("asv", "compare", "first", "third") == 1
    assert recis("asv", "compare", "first", "first") == 0
    assert recis("asv", "publish") == 0
    assert (repository / ".asv/html/index.html").exists()
    assert recis("asv", "export", path, "--commit", "nothing", "--repository", repository) == 2
    assert "nothing" in capfd.readouterr().err


def test_without_asv_it_is_named(monkeypatch, capsys):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert recis("asv", "publish") == 1
    assert "asv is not installed" in capsys.readouterr().err


@needs_asv
@pytest.mark.slow
def test_asv_itself_finds_the_suites_that_are_exported(repository):
    """Names, parameters, versions and unit, by asv's own discovery."""
    (repository / "roofline/asv/benchmarks").symlink_to(ROOT / "roofline/asv/benchmarks")
    asv(repository, "machine", "--yes", "--machine", "m")
    environment = {**os.environ, "HOME": str(repository / "home"), "ASV_PYTHONPATH": str(ROOT)}
    subprocess.run(
        [sys.executable, "-m", "asv", "run", "--config", "roofline/asv/asv.conf.json",
         "-E", "existing:same", "--machine", "m", "--bench", "just-discover"],
        cwd=repository, check=True, env=environment, capture_output=True,
    )  # fmt: skip
    found = json.loads((repository / ".asv/results/benchmarks.json").read_text())
    for suite in suites():
        entry = found.pop(suite.name)
        assert entry["params"] == suite.params
        assert (entry["version"], entry["unit"], entry["type"]) == (suite.version, "µs", "track")
    assert set(found) == {"version"}


def slowed(call):
    """`call`, which then waits for a fifth of the time it took."""

    def wait(*args):
        begin = time.perf_counter()
        result = call(*args)
        end = time.perf_counter() + 0.2 * (time.perf_counter() - begin)
        while time.perf_counter() < end:
            pass
        return result

    return wait


@needs_asv
@pytest.mark.slow
def test_a_kernel_made_a_fifth_slower_is_flagged_and_a_repeat_is_not(repository):
    """Measured for real in rounds, as `recis asv run` does, and the commits in turns. Needs a
    machine without other work, as every timing does. `-s` shows what asv said."""
    kernels = backends.load("torch")
    setting = Setting(ROOFS, Timer.of("cpu"), budget=0.1)
    keys = []
    for name in ("ids_mod", "values_bucketize", "segment_mean", "rows_gather", "rows_norm"):
        op = find_op(name)
        case = next(iter(op.cases("bench")))
        subject = subject_of(op, case, torch.device("cpu"))
        bound = getattr(kernels, name)
        slow = SimpleNamespace(
            name="torch", origins=kernels.origins, device=kernels.device,
            **{name: replace(bound, call=slowed(bound.call))},
        )  # fmt: skip
        found: dict[str, list[Record]] = {"first": [], "second": [], "third": []}
        for _ in range(8):
            for commit, records in found.items():
                contender = slow if commit == "third" else kernels
                records.append(measure(contender, op, case, setting, subject))
                assert records[-1].median, records[-1].reason
        for commit, records in found.items():
            written(repository, commit, *records)
        keys.append(f"{suite_of(op).name}('{case.name}', 'torch')")
    for names in (("first", "second"), ("second", "third")):
        print(asv(repository, "compare", *names))
    repeat = marked(asv(repository, "compare", "first", "second"))
    slower = marked(asv(repository, "compare", "second", "third"))
    assert {key: repeat[key] for key in keys} == dict.fromkeys(keys, "")
    assert {key: slower[key] for key in keys} == dict.fromkeys(keys, "+")
