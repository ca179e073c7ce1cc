"""`recis asv`: follow the times of every op from commit to commit."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

ROOT = Path(__file__).parent.parent.parent
CONFIG = ROOT / "roofline" / "asv" / "asv.conf.json"

asv = typer.Typer(
    name="asv",
    help="Follow every op's time from commit to commit, in airspeed velocity's files.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
Repository = Annotated[Path, typer.Option(help="The git checkout whose commits are measured.")]


@asv.command()
def run(
    backend: Annotated[
        str | None, typer.Option(help="By commas. Default: all that run here but the reference.")
    ] = None,
    op: Annotated[list[str] | None, typer.Option(help="Only this op; may be repeated.")] = None,
    device: Annotated[
        str | None, typer.Option(help="cpu or cuda. Default: the GPU where there is one.")
    ] = None,
    budget: Annotated[
        float, typer.Option(help="Seconds of samples per measurement and round.")
    ] = 0.3,
    rounds: Annotated[
        int, typer.Option(min=1, help="How often all of it, so that what drifts is averaged.")
    ] = 3,
    dirty: Annotated[
        bool, typer.Option("--dirty", help="Measure although files differ from the commit.")
    ] = False,
) -> int:
    """Measure every op at the commit that is checked out; asv itself is not needed.

    The records are kept: interrupted, the same command goes on.
    """
    from recis_core.allocator import keep_freed_memory
    from reports import roofline_run as runs
    from reports.console import say
    from reports.failure import Failure
    from reports.roofline import Place
    from roofline.asv.results import Commit, git
    from roofline.asv.suite import device_here

    commit = Commit.of(ROOT)
    if not dirty and git(ROOT, "status", "--porcelain", "--untracked-files=no"):
        raise Failure(f"files differ from commit {commit.hash[:8]}: commit them, or say --dirty")
    keep_freed_memory()
    where = device or device_here()
    place = Place.of(where)
    names = backend.split(",") if backend else runs.present(where)
    asked = runs.Asked(names, tuple(op or ()), None, budget, False)
    folder, wrong, files = ROOT / ".asv" / "records" / commit.hash[:12], 0, []
    for number in range(1, rounds + 1):
        files.append(folder / f"round-{number}" / place.file.name)
        say(f"round {number} of {rounds} at {commit.hash[:8]}")
        scene = runs.Scene(where, place, files[-1], again=False, json=False)
        wrong = runs.ops_of(scene, runs.roofs_of(scene), asked) or wrong
    _exported(files, commit.hash, ROOT)
    return wrong


@asv.command()
def export(
    records: Annotated[list[Path], typer.Argument(help="Files of records, of any machine.")],
    commit: Annotated[str, typer.Option(help="The commit they were measured at.")] = "HEAD",
    repository: Repository = ROOT,
) -> int:
    """Write records as asv's results of a commit, keyed by the GPU (or processor) they name."""
    _exported(records, commit, repository)
    return 0


def _exported(paths: list[Path], name: str, repository: Path) -> None:
    from reports.console import say
    from reports.failure import Misuse
    from reports.records import read
    from roofline.asv.results import Commit
    from roofline.asv.results import export as write

    for path in paths:
        if not path.is_file():
            raise Misuse(f"{path} is no file of records")
    try:
        commit = Commit.of(repository, name)
    except ValueError as error:
        raise Misuse(f"commit {name!r}: {error}") from None
    folder = repository / ".asv" / "results"
    points, strangers = write((r for path in paths for r in read(path)), commit, folder)
    for machine, count in points.items():
        say(f"{machine}: {count} records at {commit.hash[:8]} in {folder / machine}")
    if strangers:
        say(f"{strangers} records are of no declared bench case and were left out")
    if not points:
        raise Misuse("no record is of a declared bench case")


@asv.command()
def compare(
    before: Annotated[str, typer.Argument(help="A commit.")],
    after: Annotated[str, typer.Argument(help="Another, compared with it.")] = "HEAD",
    machine: Annotated[
        str | None, typer.Option(help="Whose results, where there are several machines'.")
    ] = None,
    factor: Annotated[float, typer.Option(help="Slower or faster by less is no change.")] = 1.1,
    changed: Annotated[bool, typer.Option("--changed", help="Only what changed.")] = False,
) -> int:
    """Compare two measured commits; exit code 1 if anything became slower."""
    words = ["compare", before, after, "--factor", str(factor), "--split"]
    words += ["--machine", machine] if machine else []
    done = _asv(*words, *(["--only-changed"] if changed else []))
    typer.echo(done.stdout, nl=False)
    typer.echo(done.stderr, nl=False, err=True)
    if done.returncode:
        return done.returncode
    return 1 if "Benchmarks that have got worse" in done.stdout else 0


@asv.command()
def turns(
    before: Annotated[str, typer.Argument(help="A commit.")],
    after: Annotated[str, typer.Argument(help="Another, set beside it.")] = "HEAD",
    backend: Annotated[
        str | None, typer.Option(help="By commas. Default: all that run here but the reference.")
    ] = None,
    op: Annotated[list[str] | None, typer.Option(help="Only this op; may be repeated.")] = None,
    case: Annotated[str | None, typer.Option(help="Only cases whose name holds this.")] = None,
    device: Annotated[
        str | None, typer.Option(help="cpu or cuda. Default: the GPU where there is one.")
    ] = None,
    rounds: Annotated[int, typer.Option(min=4, help="Turns of either commit, case by case.")] = 12,
    budget: Annotated[float, typer.Option(help="Seconds of samples per turn.")] = 0.2,
    factor: Annotated[float, typer.Option(help="Slower or faster by less is no change.")] = 1.1,
    repository: Repository = ROOT,
) -> int:
    """Measure two commits in turns, each in a checkout and process of its own; asv is not needed.

    Exit code 1 if anything became slower. Records are kept: interrupted, the same command goes on;
    they are also written as asv's results of either commit.
    """
    from reports import asv_turns
    from reports.benchmark import plan_of
    from reports.choice import ops_of
    from reports.console import console, progress, say
    from reports.failure import Failure, Misuse
    from reports.roofline import Place
    from reports.roofline_run import present
    from roofline.asv.results import Commit
    from roofline.asv.suite import device_here

    try:
        commits = [Commit.of(repository, name).hash for name in (before, after)]
    except ValueError as error:
        raise Misuse(str(error)) from None
    if commits[0] == commits[1]:
        raise Misuse(f"{before} and {after} are one commit, {commits[0][:8]}")
    where = device or device_here()
    names = backend.split(",") if backend else present(where)
    points = [(o.name, c.name, n) for o, c in plan_of(ops_of(op or ()), case) for n in names]
    folder = repository / ".asv" / "records" / "-".join(c[:12] for c in commits)
    files = {c: folder / c[:12] / Place.of(where).file.name for c in commits}
    found: list[asv_turns.Verdict] = []
    with ExitStack() as stack:
        trees = stack.enter_context(asv_turns.checkouts(repository, commits))
        workers = {c: stack.enter_context(asv_turns.measurer(trees[c], c, where)) for c in commits}
        bar = stack.enter_context(progress())
        task = bar.add_task("turns", total=len(points))
        turn = asv_turns.in_turns(
            points, workers, files, rounds, budget,
            lambda point: bar.update(task, description=point[0]),
        )  # fmt: skip
        try:
            for verdict in turn:
                found.append(verdict)
                bar.advance(task)
        except KeyboardInterrupt:
            said = f"interrupted: {len(found)} of {len(points)} are done, records in {folder}"
            raise Failure(f"{said}; the same command goes on") from None
    console().print(asv_turns.verdict_table(found, (commits[0], commits[1]), factor))
    for reason in dict.fromkeys(v.reason for v in found if v.reason):
        console().print(f"no time: {reason}", soft_wrap=True, markup=False)
    for c in commits:
        if files[c].exists():
            _exported([files[c]], c, repository)
    slower = [v for v in found if v.changed(factor) == "slower"]
    say(f"{len(slower)} of {len(found)} slower by {factor:g} or more")
    return 1 if slower else 0


@asv.command()
def publish() -> int:
    """Write asv's web pages of every measured commit into .asv/html."""
    done = _asv("publish", "--no-pull")
    typer.echo(done.stdout, nl=False, err=True)
    typer.echo(done.stderr, nl=False, err=True)
    return done.returncode


def _asv(command: str, *words: str):
    import subprocess
    import sys
    from importlib.util import find_spec

    from reports.failure import Failure

    if find_spec("asv") is None:
        raise Failure("asv is not installed: pip install -e '.[asv]'")
    said = [sys.executable, "-m", "asv", command, "--config", str(CONFIG), *words]
    return subprocess.run(said, capture_output=True, text=True, check=False)
