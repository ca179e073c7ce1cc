"""Two commits in turns: who is first alternates, what is done is kept, a slower one is flagged."""

from __future__ import annotations

import random
import subprocess
from pathlib import Path

import pytest

from reports import asv_turns
from reports.asv_turns import by_point, in_turns
from tests.small_mse import recis
from tests.test_asv import CASES, OP, ROOT, record

POINTS = [(OP.name, case, "torch") for case in CASES]


class Machine:
    """A clock that drifts by tens of percent from round to round, and what is asked of it."""

    def __init__(self) -> None:
        self.noise, self.asked = random.Random(0), []
        self.speed = 1.0

    def commit(self, name: str, seconds: float):
        def measure(point, budget):
            self.asked.append(name)
            if len(self.asked) % 2:
                self.speed = self.noise.uniform(0.8, 1.3)
            return record(seconds * self.speed * self.noise.gauss(1, 0.01), case=point[1])

        return measure


def files_in(folder: Path) -> dict[str, Path]:
    return {name: folder / f"{name}.jsonl" for name in "ab"}


@pytest.mark.parametrize(("factor", "said"), [(1.2, "slower"), (1, ""), (0.8, "faster")])
def test_a_fifth_is_told_from_a_machines_drift(tmp_path, factor, said):
    machine = Machine()
    commits = {"a": machine.commit("a", 1e-3), "b": machine.commit("b", factor * 1e-3)}
    found = list(in_turns(POINTS, commits, files_in(tmp_path), 8, 0.1))
    assert [v.changed(1.1) for v in found] == [said] * len(POINTS)
    assert "".join(machine.asked[:8]) == "abbaabba"
    for v in found:
        assert v.ratio.low < factor < v.ratio.high or v.ratio.ratio == pytest.approx(factor, 0.02)


def test_a_run_that_was_cut_off_goes_on_with_whole_rounds(tmp_path):
    machine, files = Machine(), files_in(tmp_path)
    commits = {"a": machine.commit("a", 1e-3), "b": machine.commit("b", 1e-3)}

    def cut(point, budget):
        if len(machine.asked) == 6:
            raise KeyboardInterrupt
        return commits["b"](point, budget)

    with pytest.raises(KeyboardInterrupt):
        list(in_turns(POINTS, {"a": commits["a"], "b": cut}, files, 4, 0.1))
    # A round is in the files when both have taken their turn.
    assert [len(by_point(path)[POINTS[0]]) for path in files.values()] == [3, 3]
    machine.asked.clear()
    list(in_turns(POINTS, commits, files, 4, 0.1))
    assert len(machine.asked) == 2 + 2 * 4 * (len(POINTS) - 1)
    assert [len(by_point(path)[POINTS[0]]) for path in files.values()] == [4, 4]


def test_what_a_commit_does_not_have_is_said_and_has_no_ratio(tmp_path):
    def lacks(point, budget):
        raise ValueError("12345678: skipped: KeyError: no op")

    commits = {"a": lacks, "b": Machine().commit("b", 1e-3)}
    found = list(in_turns(POINTS[:1], commits, files_in(tmp_path), 4, 0.1))
    assert (found[0].ratio, found[0].changed(1.1)) == (None, "")
    assert "no op" in found[0].reason


def test_commits_that_are_none_or_one_are_misuse(capsys):
    assert recis("asv", "turns", "HEAD", "HEAD") == 2
    assert "are one commit" in capsys.readouterr().err
    assert recis("asv", "turns", "no-such-commit") == 2
    assert "git log" in capsys.readouterr().err


SLOW = """
import time as _time
_right = rows_norm
def rows_norm(*args, **named):
    begin = _time.perf_counter()
    result = _right(*args, **named)
    end = _time.perf_counter() + 0.2 * (_time.perf_counter() - begin)
    while _time.perf_counter() < end:
        pass
    return result
"""


@pytest.mark.slow
def test_a_commit_with_a_slower_kernel_is_flagged_and_one_without_is_not(tmp_path, capsys):
    """Three commits of this project; the last one's kernel waits for a fifth of its time."""
    checkout = tmp_path / "checkout"

    def git(*words, cwd=checkout):
        names = ("-c", "user.name=a", "-c", "user.email=a@example.org")
        subprocess.run(["git", *names, *words], cwd=cwd, check=True, capture_output=True)

    git("clone", "-q", "--shared", str(ROOT), str(checkout), cwd=tmp_path)
    git("tag", "first")
    git("commit", "-q", "--allow-empty", "-m", "same")
    git("tag", "same")
    kernel = checkout / "backends" / "torch" / "rows_norm.py"
    kernel.write_text(kernel.read_text() + SLOW)
    git("commit", "-q", "-a", "-m", "slow")
    given = ("--op", "rows_norm", "--case", "dim=64", "--backend", "torch", "--device", "cpu",
             "--repository", checkout)  # fmt: skip
    codes = [recis("asv", "turns", *two, *given) for two in (("first", "same"), ("same", "HEAD"))]
    said = capsys.readouterr().err
    print(said)
    assert codes == [0, 1], said
    assert not list((checkout / ".asv" / "trees").iterdir())
    assert asv_turns.WORKER.exists()
