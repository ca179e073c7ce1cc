"""Records as asv's result files (format 2), for machines without asv and for statistics.

asv keeps one value of what it tracks. A file written here also holds the samples, by which
`asv compare` tells a change from noise.
"""

from __future__ import annotations

import json
import math
import re
import statistics
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from roofline.asv.suite import PARAMETERS, UNIT, Suite, suites
from roofline.record import Record

VERSION = 2
COLUMNS = (
    "result", "params", "version", "started_at", "duration", "stats_ci_99_a", "stats_ci_99_b",
    "stats_q_25", "stats_q_75", "stats_number", "stats_repeat", "samples", "profile",
)  # fmt: skip
STATISTICS = tuple(name for name in COLUMNS if name.startswith("stats_"))
ENVIRONMENT = "existing-records"


@dataclass(frozen=True)
class Commit:
    """A commit of the project's repository: its whole hash, its date in seconds."""

    hash: str
    date: int

    @classmethod
    def of(cls, repository: Path, name: str = "HEAD") -> Commit:
        """The commit called `name`; ValueError with git's words if there is none."""
        said = git(repository, "log", "-1", "--format=%H %at", name, "--")
        whole, date = said.split()
        return cls(whole, int(date))


def git(repository: Path, *words: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(repository), *words], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise ValueError(f"git {words[0]}: {done.stderr.strip()}")
    return done.stdout.strip()


def machine_of(record: Record) -> str:
    """asv's name for the machine of a record: a GPU's own, else processor, cores and threads."""
    device = record.device
    name = re.sub(r"[^a-z0-9]+", "-", str(device["name"]).lower()).strip("-")
    if device.get("kind") == "cuda":
        return name
    return f"{name}-{device.get('cores', 0)}c-{record.threads}t"


def export(records: Iterable[Record], commit: Commit, folder: Path) -> tuple[dict[str, int], int]:
    """Write `records` as results of `commit` below `folder`; points by machine, and records that
    are of no declared bench case. Several records of a point are rounds of one measurement: their
    samples are pooled. What a file of the same commit holds of other points is kept."""
    declared = suites()
    known = {(s.op, case, name): s for s in declared for case, name in s.points}
    machines: dict[str, list[Record]] = {}
    strangers = 0
    for record in records:
        if (record.op, record.case, record.asked) in known:
            machines.setdefault(machine_of(record), []).append(record)
        else:
            strangers += 1
    for machine, mine in machines.items():
        _write_machine(folder / machine, machine, mine[-1])
        path = folder / machine / f"{commit.hash[:8]}-{ENVIRONMENT}.json"
        _write(path, result_file(mine, declared, commit, machine, _read(path)))
    if machines:
        _write_benchmarks(folder / "benchmarks.json", declared)
    return {machine: len(mine) for machine, mine in machines.items()}, strangers


def result_file(
    records: Sequence[Record],
    declared: Sequence[Suite],
    commit: Commit,
    machine: str,
    before: Mapping[str, Any],
) -> dict[str, Any]:
    """The content of one file: records of one machine at one commit."""
    by = pooled(records)
    results = dict(before.get("results", {}))
    for suite in declared:
        points = [by.get((suite.op, case, name)) for case, name in suite.points]
        if any(points):
            results[suite.name] = row(suite, points, results.get(suite.name))
    python = records[-1].versions.get("python", "")
    return {
        "commit_hash": commit.hash,
        "env_name": ENVIRONMENT,
        "date": commit.date * 1000,
        "params": {"machine": machine, "python": python},
        "python": python,
        "requirements": {},
        "env_vars": {},
        "result_columns": list(COLUMNS),
        "results": results,
        "durations": {},
        "version": VERSION,
    }


def pooled(records: Sequence[Record]) -> dict[tuple[str, str, str], Record]:
    """One record a point: with the samples of all its rounds, or the first that has no time."""
    rounds: dict[tuple[str, str, str], list[Record]] = {}
    for r in records:
        rounds.setdefault((r.op, r.case, r.asked), []).append(r)
    found = {}
    for point, each in rounds.items():
        bad = next((r for r in each if r.median is None), None)
        samples = tuple(t for r in each for t in r.samples)
        found[point] = bad or replace(each[-1], samples=samples, median=statistics.median(samples))
    return found


def row(suite: Suite, records: Sequence[Record | None], before: Sequence[Any] | None) -> list[Any]:
    """One benchmark's columns; points without a new record keep what `before` says of them."""
    old: dict[str, Any] = dict(zip(COLUMNS, before or (), strict=False))
    same = old.get("params") == suite.params and old.get("version") == suite.version

    def column(name: str, new: Sequence[Any]) -> list[Any] | None:
        kept = (old.get(name) if same else None) or [None] * len(new)
        found = [k if r is None else n for r, n, k in zip(records, new, kept, strict=True)]
        return None if all(value is None for value in found) else found

    times = [[t * 1e6 for t in r.samples] if r and r.median else None for r in records]
    values = [statistics.median(t) if t else None for t in times]
    figures = [spread(t) if t else {} for t in times]
    taken = max(datetime.fromisoformat(r.taken) for r in records if r)
    started = int(taken.timestamp() * 1000)
    return [
        column("result", values),
        suite.params,
        suite.version,
        started,
        None,
        *(column(name, [f.get(name) for f in figures]) for name in STATISTICS),
        column("samples", times),
    ]


def spread(samples: Sequence[float]) -> dict[str, float]:
    """asv's statistics of `samples`; an interval that so few cannot give is without end."""
    ordered, low = sorted(samples), _interval(len(samples))
    quarters = (
        statistics.quantiles(ordered, n=4, method="inclusive")
        if len(ordered) > 1
        else [ordered[0]] * 3
    )
    return {
        "stats_ci_99_a": -math.inf if low is None else ordered[low],
        "stats_ci_99_b": math.inf if low is None else ordered[-1 - low],
        "stats_q_25": quarters[0],
        "stats_q_75": quarters[2],
        "stats_number": 1,
        "stats_repeat": len(ordered),
    }


def _interval(count: int) -> int | None:
    """Which smallest and largest sample hold the median between them 99 times in 100."""
    tail, found = 0.0, None
    for k in range(count // 2):
        tail += math.comb(count, k) / 2**count
        if tail > 0.005:
            break
        found = k
    return found


def _write_machine(folder: Path, machine: str, record: Record) -> None:
    device = record.device
    content = {
        "machine": machine,
        "cpu": str(device.get("host", "")),
        "num_cpu": str(device.get("cores", "")),
        "gpu": str(device["name"]) if device.get("kind") == "cuda" else "",
        "version": 1,
    }
    _write(folder / "machine.json", content)


def _write_benchmarks(path: Path, declared: Sequence[Suite]) -> None:
    """What asv needs to read the results: as it would find it in `benchmarks/`."""
    found = {**_read(path), "version": VERSION}
    for suite in declared:
        entry = {
            "code": f"bench cases of {suite.op}",
            "name": suite.name,
            "param_names": list(PARAMETERS),
            "params": suite.params,
            "type": "track",
            "unit": UNIT,
            "version": suite.version,
        }
        found.setdefault(suite.name, entry)
        found[suite.name] |= {k: entry[k] for k in ("params", "version", "unit")}
    _write(path, found)


def _read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def _write(path: Path, content: Mapping[str, Any]) -> None:
    """Aside and renamed, so that an interruption leaves the old file or the new."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_suffix(".part")
    aside.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    aside.replace(path)
