"""Carrying out `recis compare`: contenders made alike, checked, timed in turns, recorded."""

from __future__ import annotations

import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from recis_core.kernels import Kernels
from recis_core.roofs import Roofs
from reports.compare import Turns, facts, interleaved, judge, ratios, warmed
from reports.compare_drift import reach
from reports.compare_engine import Engine, FirstRows
from reports.console import console, progress, say
from reports.failure import Failure, Misuse
from roofline.kinds import Comparison
from roofline.stamp import stamp
from workloads.baselines.definition import Baseline, Terms


@dataclass(frozen=True)
class Plan:
    """How much each contender trains: steps to warm up and compare losses, then turns."""

    warm: int
    rounds: int
    turn: int
    traced: int

    @property
    def steps(self) -> int:
        return self.warm + self.rounds * self.turn


def compared(
    terms: Terms, plan: Plan, kernels: list[Kernels], baselines: list[Baseline], roofs: Roofs
) -> Comparison:
    """The record of a comparison; contenders that are absent or disagree say why and have no
    ratio. Failure if the first one cannot be timed.

    The first `plan.warm` losses are held to the tolerance of one step, all of them to what
    rounding explains after so many steps.
    """
    absent: list[dict[str, Any]] = []
    steps: dict[str, Any] = {}
    engines = {k.name: Engine(terms, k) for k in kernels}
    steps.update({name: engine.step for name, engine in engines.items()})
    model: Any = terms.workload.model(terms.size)
    with tempfile.TemporaryDirectory(prefix="recis-compare-") as scratch:
        for each in baselines:
            own = Terms(**{**terms.__dict__, "scratch": Path(scratch) / each.name})
            if reason := each.absent(own):
                absent.append(facts(Turns(each.name, reason=reason), "baseline", terms.batch, {})
                              | {"status": "skipped"})  # fmt: skip
                say(f"{each.name} is left out: {reason}")
                continue
            steps[each.name] = each.contender(own, FirstRows(model, kernels[0])).step
        say(f"comparing the losses of {plan.warm} steps of {', '.join(steps)}")
        found = warmed(steps, plan.warm)
        for turns in found.values():
            if turns.reason:
                say(f"{turns.name} gets no time: {turns.reason}")
        agreed = {name: step for name, step in steps.items() if found[name].agrees}
        first = next(iter(steps))
        if first not in agreed:
            raise Failure(found[first].reason)
        took_turns(agreed, found, plan, terms)
        for engine in engines.values():
            engine.close()
        # Losses that part later cost their contender its time all the same.
        apart = reach_of(engines[first], [found[name] for name in agreed])
        judge({name: found[name] for name in agreed}, apart)
    traces = {name: e.traced(plan.traced, roofs) for name, e in engines.items() if name in agreed}
    return record(terms, plan, list(found.values()), absent, engines, traces, roofs, apart)


def reach_of(first: Engine, agreed: list[Turns]) -> np.ndarray | None:
    """Per step, how far right losses may part; None where every loss is within one step's
    tolerance anyway."""
    strict = {turns.name: Turns(turns.name, turns.losses) for turns in agreed}
    judge(strict)
    if all(turns.agrees for turns in strict.values()):
        return None
    count = len(agreed[0].losses)
    say(f"losses part beyond one step's tolerance: {count} steps once more, disturbed by rounding")
    return reach(agreed[0].losses, first.twin(count))


def took_turns(agreed: dict[str, Any], found: dict[str, Turns], plan: Plan, terms: Terms) -> None:
    try:
        with progress() as bar:
            task = bar.add_task("rounds", total=plan.rounds)
            interleaved(agreed, found, plan.rounds, plan.turn, terms.device,
                        lambda: bar.advance(task))  # fmt: skip
    except KeyboardInterrupt:
        done = min(len(found[name].seconds) for name in agreed)
        if done < 2:
            raise
        say(f"interrupted: the record has {done} complete rounds")


def record(
    terms: Terms,
    plan: Plan,
    found: list[Turns],
    absent: list[dict[str, Any]],
    engines: dict[str, Engine],
    traces: dict[str, Any],
    roofs: Roofs,
    apart: np.ndarray | None,
) -> Comparison:
    contenders = []
    for turns in found:
        engine, trace = engines.get(turns.name), traces.get(turns.name, {})
        more = {
            "origins": {} if engine is None else engine.kernels.origins,
            "stages": trace.get("stages", []),
            "first": trace.get("first", ""),
        }
        what = "backend" if engine is not None else "baseline"
        contenders.append(facts(turns, what, terms.batch, more))
    backends = ",".join(engines)
    others = ",".join(c["name"] for c in (*contenders, *absent) if c["what"] == "baseline")
    command = (
        f"recis compare {terms.workload.name} --size {terms.size} --backend {backends} "
        f"--device {terms.device} --rounds {plan.rounds} --steps {plan.turn} --warm {plan.warm} "
        f"--batch-size {terms.batch}"
        + (f" --optimizer {terms.optimizer}" if terms.optimizer != "adam" else "")
        + (f" --baseline {others}" if others else "")
    )
    return Comparison(
        **stamp(roofs, command),
        workload=terms.workload.name,
        size=terms.size,
        batch=terms.batch,
        seed=0,
        warm=plan.warm,
        turn=plan.turn,
        rounds=len(found[0].seconds),
        contenders=(*contenders, *absent),
        ratios=[asdict(r) for r in ratios(found)],
        agreed=all(turns.agrees for turns in found),
        optimizer=terms.optimizer,
        reach=() if apart is None else tuple(apart.tolist()),
    )


def shown(r: Comparison) -> None:
    """Rates, ratios with their intervals, and the stages side by side."""
    out = console()
    table = Table(title=f"{r.workload} {r.size}, batches of {r.batch}, {r.rounds} rounds of "
                  f"{r.turn} steps in turns")  # fmt: skip
    table.add_column("contender", no_wrap=True)
    for name in ("rows/s", "ms a step", "time over the first's", "95 % interval"):
        table.add_column(name, justify="right", no_wrap=True)
    by_name = {ratio["name"]: ratio for ratio in r.ratios}
    for c in r.contenders:
        if c["rows_per_s"] is None:
            table.add_row(c["name"], c["status"])
            continue
        ratio = by_name.get(c["name"])
        said = ("1", "") if ratio is None else (
            f"{ratio['ratio']:.2f}", f"{ratio['low']:.2f} to {ratio['high']:.2f}")  # fmt: skip
        table.add_row(c["name"], f"{c['rows_per_s']:,.0f}",
                      f"{r.batch / c['rows_per_s'] * 1e3:.1f}", *said)  # fmt: skip
    out.print(table)
    traced = [c for c in r.contenders if c.get("stages")]
    if traced:
        out.print(stages_table(traced))
    for c in r.contenders:
        if c["reason"]:
            out.print(f"{c['status']}: {c['name']}: {c['reason']}", soft_wrap=True, markup=False)


def stages_table(traced: list[Any]) -> Table:
    """Milliseconds of every stage, a column for each backend."""
    table = Table("stage, ms", title="where a step's time goes")
    for c in traced:
        table.add_column(c["name"], justify="right", no_wrap=True)
    names = dict.fromkeys(s["stage"] for c in traced for s in c["stages"])
    for name in names:
        cells = ({s["stage"]: s["seconds"] for s in c["stages"]}.get(name, 0.0) for c in traced)
        table.add_row(name, *(f"{seconds * 1e3:.2f}" for seconds in cells))
    return table


def baselines_of(names: list[str]) -> list[Baseline]:
    """The baselines named, or Misuse naming those there are."""
    from workloads.baselines.definition import known

    there = known()
    for name in names:
        if name not in there:
            raise Misuse(f"no baseline {name!r}; there are {', '.join(there)}")
    return [there[name] for name in names]
