"""Processes killed in the midst of steps and saves, resumed, and compared with one left alone."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest

import backends
from recis_core.checkpoint import layout
from tests.killed_run import SAVE_EVERY, main

ROOT = Path(__file__).parents[1]


@dataclass
class Child:
    """A run in a process of its own, and the lines it said."""

    folder: Path
    backend: str
    steps: int
    resume: bool
    said: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        given = str(self.folder), self.backend, str(self.steps), *["--resume"] * self.resume
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.killed_run", *given],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def wait_for(self, line: str) -> None:
        """Read on until the child says `line`."""
        assert self.process.stdout is not None
        for got in self.process.stdout:
            self.said.append(got.strip())
            if self.said[-1] == line:
                return
        self.process.wait()
        raise AssertionError(f"never said {line!r}: {self.process.communicate()[1][-2000:]}")

    def stop(self, number: int) -> int:
        """Send a signal, read what was still said, return the exit code."""
        self.process.send_signal(number)
        rest, _ = self.process.communicate(timeout=60)
        self.said += rest.split("\n")[:-1]
        return self.process.returncode

    @property
    def resumed_from(self) -> int:
        said = [line for line in self.said if line.startswith("resumed ")]
        return int(said[0].split()[1]) if said else 0


def finished(folder: Path, backend: str, steps: int) -> Child:
    """Resume a run and let it come to its end."""
    child = Child(folder, backend, steps, resume=True)
    rest, error = child.process.communicate(timeout=200)
    assert child.process.returncode == 0, error[-2000:]
    child.said = rest.split("\n")[:-1]
    return child


def losses(folder: Path) -> list[float]:
    events = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [event["loss"] for event in events if event["event"] == "step"]


def kill_at(child: Child, at: int, where: str, delay: float) -> str:
    """Kill a run `delay` s after step or save number `at` began; -> where that was."""
    child.wait_for(f"{where} {at} begins")
    time.sleep(delay)
    assert child.stop(signal.SIGKILL) == -signal.SIGKILL
    last = child.said[-1]
    inside = last.split()[0] if last.endswith("begins") else "between"
    # What is left aside of a save shows that it was under way.
    if inside == "save" and not list(child.folder.glob(f"{layout.UNFINISHED}*")):
        inside = "between"
    assert "save 5 ends" in child.said or child.resumed_from, "killed before the first checkpoint"
    print(f"resumed from {child.resumed_from}, killed after {last!r}, inside: {inside}")
    return inside


def moments(kills: int, steps: int, seed: int) -> list[tuple[int, str, float]]:
    """Where to kill: steps that rise, a third each in a save, in a step, and anywhere."""
    rng = random.Random(seed)
    room = (steps - 2 * SAVE_EVERY) // kills
    chosen = []
    for i in range(kills):
        step = SAVE_EVERY + 1 + i * room + rng.randrange(room - SAVE_EVERY)
        where, longest = (("save", 0.004), ("step", 0.002), ("step", 0.03))[i % 3]
        if where == "save":
            step = -(-step // SAVE_EVERY) * SAVE_EVERY
        # A resumed run must come past the moment, so it lies after the last checkpoint.
        chosen.append((step, where, rng.random() * longest))
    return chosen


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """The last line and the losses of a run left alone, for each backend once."""
    known = {}

    def of(backend, steps):
        if (backend, steps) not in known:
            if reason := backends.find(backend).absent():
                pytest.skip(reason)
            folder = tmp_path_factory.mktemp(backend)
            known[backend, steps] = main(folder, backend, steps, resume=False), losses(folder)
        return known[backend, steps]

    return of


def test_a_run_killed_in_a_save_and_in_a_step_and_stopped_by_ctrl_c(uninterrupted, tmp_path):
    last, every = uninterrupted("torch", 80)
    assert last.startswith("final ")
    assert len(every) == 80
    kill_at(Child(tmp_path, "torch", 80, resume=False), 15, "save", 0.001)
    kill_at(Child(tmp_path, "torch", 80, resume=True), 33, "step", 0.0005)
    child = Child(tmp_path, "torch", 80, resume=True)
    child.wait_for("step 51 begins")
    assert child.stop(signal.SIGINT) == 3
    assert child.resumed_from % SAVE_EVERY == 0
    assert child.said[-1].startswith("interrupted saved step 5")
    resumed = finished(tmp_path, "torch", 80)
    assert resumed.resumed_from >= 51
    assert resumed.said[-1] == last
    assert losses(tmp_path) == every
    assert not list(tmp_path.glob(f"{layout.UNFINISHED}*"))


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("backend", ["torch", "numba"])
def test_a_run_killed_ten_times(uninterrupted, tmp_path, backend):
    last, every = uninterrupted(backend, 240)
    insides = [
        kill_at(Child(tmp_path, backend, 240, resume=number > 0), *moment)
        for number, moment in enumerate(moments(10, 240, seed=7))
    ]
    assert insides.count("save") >= 3
    assert insides.count("step") >= 3
    resumed = finished(tmp_path, backend, 240)
    print(f"resumed from {resumed.resumed_from}, finished: {resumed.said[-1]}")
    assert losses(tmp_path) == every
    assert resumed.said[-1] == last
