"""Two commits measured in turns: each in a checkout and a process of its own, case by case.

A machine drifts by more within seconds than a regression is large; turns of a few seconds meet
the same machine, and the ratio is taken within each round.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from rich.table import Table

from reports.compare import Ratio, Turns, ratio_of
from reports.records import append, mend, read
from reports.sheet import short
from roofline.asv.results import git
from roofline.record import Record

Point = tuple[str, str, str]  # op, case, backend
WORKER = Path(__file__).parent.parent / "roofline" / "asv" / "worker.py"


class Measurer(Protocol):
    """Measures a point with one commit's code; ValueError where it has no time."""

    def __call__(self, point: Point, budget: float) -> Record: ...


@dataclass(frozen=True)
class Verdict:
    """A point of two commits: time of the second over the first's, or why there is none."""

    point: Point
    ratio: Ratio | None
    reason: str = ""

    def changed(self, factor: float) -> str:
        """ "slower" or "faster" if by `factor` and surely, else nothing."""
        if self.ratio is None:
            return ""
        if self.ratio.ratio >= factor and self.ratio.low > 1:
            return "slower"
        return "faster" if self.ratio.ratio <= 1 / factor and self.ratio.high < 1 else ""


def in_turns(
    points: Sequence[Point],
    commits: Mapping[str, Measurer],
    files: Mapping[str, Path],
    rounds: int,
    budget: float,
    told: Callable[[Point], None] = lambda point: None,
) -> Iterator[Verdict]:
    """Every point `rounds` times with either commit, another one first each time. Records are in
    the commit's file when both have taken their turn; what the files hold is not measured again.
    """
    one, other = commits
    kept = {name: by_point(files[name]) for name in commits}
    for point in points:
        told(point)
        found = {name: kept[name].get(point, [])[:rounds] for name in commits}
        done = min(map(len, found.values()))
        found = {name: records[:done] for name, records in found.items()}
        try:
            for number in range(done, rounds):
                order = (one, other) if number % 2 == 0 else (other, one)
                new = {name: commits[name](point, budget) for name in order}
                for name, record in new.items():
                    append(files[name], [record])
                    found[name].append(record)
        except ValueError as error:
            yield Verdict(point, None, str(error))
            continue
        yield Verdict(point, compared(found[other], found[one], names=(other, one)))


def by_point(path: Path) -> dict[Point, list[Record]]:
    """The timed records of a file by what they are of, in order."""
    found: dict[Point, list[Record]] = {}
    if path.exists():
        mend(path)
        for r in read(path):
            if r.median is not None:
                found.setdefault((r.op, r.case, r.asked), []).append(r)
    return found


def compared(
    after: Sequence[Record], before: Sequence[Record], names: tuple[str, str] = ("after", "before")
) -> Ratio:
    """Time of `after` over `before`, by rounds."""
    one, other = (
        Turns(name, seconds=[r.median or 0.0 for r in records])
        for name, records in zip(names, (after, before), strict=True)
    )
    return ratio_of(one, other)


@contextmanager
def checkouts(repository: Path, commits: Sequence[str]) -> Iterator[dict[str, Path]]:
    """A worktree of each commit below .asv/trees, removed afterwards."""
    with ExitStack() as stack:
        found = {}
        for commit in commits:
            tree = repository / ".asv" / "trees" / commit[:12]
            if not tree.exists():
                git(repository, "worktree", "prune")
                git(repository, "worktree", "add", "--detach", str(tree), commit)
            stack.callback(git, repository, "worktree", "remove", "--force", str(tree))
            found[commit] = tree
        yield found


@contextmanager
def measurer(tree: Path, commit: str, device: str) -> Iterator[Measurer]:
    """A process that measures with the code of `tree`."""
    words = [sys.executable, "-P", str(WORKER), device]
    environment = {**os.environ, "PYTHONPATH": str(tree)}
    # A session of its own: Ctrl-C is for this process, which ends the other.
    process = subprocess.Popen(
        words, cwd=tree, env=environment, text=True, start_new_session=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    stdin, stdout = process.stdin, process.stdout

    def measure(point: Point, budget: float) -> Record:
        op, case, backend = point
        asked = {"op": op, "case": case, "backend": backend, "budget": budget}
        stdin.write(json.dumps(asked) + "\n")
        stdin.flush()
        line = stdout.readline()
        if not line:
            raise RuntimeError(f"the process of commit {commit[:8]} ended: {process.wait()}")
        said: dict[str, Any] = json.loads(line)
        if said.get("median") is None:
            raise ValueError(f"{commit[:8]}: {said['status']}: {said['reason']}")
        return Record.from_dict(said)

    try:
        yield measure
    finally:
        process.terminate()
        process.wait()


def verdict_table(found: Sequence[Verdict], names: tuple[str, str], factor: float) -> Table:
    """A line for each point: both times' ratio, its interval, and what it means."""
    table = Table(title=f"time at {names[1][:8]} over time at {names[0][:8]}, by rounds in turns")
    table.add_column("op", no_wrap=True)
    table.add_column("case", overflow="fold")
    table.add_column("backend", no_wrap=True)
    for name in ("ratio", "95 % interval", ""):
        table.add_column(name, justify="right", no_wrap=True)
    for v in found:
        op, case, backend = v.point
        if v.ratio is None:
            table.add_row(op, short(case), backend, "", "", "no time")
            continue
        r = v.ratio
        between = f"{r.low:.3f} to {r.high:.3f}"
        table.add_row(op, short(case), backend, f"{r.ratio:.3f}", between, v.changed(factor))
    return table
