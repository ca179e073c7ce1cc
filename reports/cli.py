"""The `recis` command: its sub-commands, and how errors become one line and an exit code."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Sequence

import typer

from reports.commands.asv import asv
from reports.commands.backends import backends
from reports.commands.bench import bench
from reports.commands.check import check
from reports.commands.compare import compare
from reports.commands.data import data
from reports.commands.evaluate import evaluate
from reports.commands.plan import plan
from reports.commands.predict import predict
from reports.commands.report import report
from reports.commands.roofline import roofline
from reports.commands.train import train
from reports.failure import Misuse

# Typer carries its own copy of click in newer versions; this finds the classes in either.
UsageError: type[Exception] = typer.BadParameter.__mro__[1]
ClickError: type[Exception] = typer.BadParameter.__mro__[2]

app = typer.Typer(
    name="recis",
    help="Train recommenders, swap their kernels, and see how close each runs to the hardware.",
    epilog="Exit codes: 0 done, 1 failed, 2 misused. --debug anywhere shows the traceback.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (train, plan, evaluate, predict, check, bench, roofline, compare, report, backends):
    app.command()(command)
app.add_typer(data, name="data")
app.add_typer(asv, name="asv")


@app.callback()
def options(debug: bool = typer.Option(False, "--debug", help="Show the traceback.")) -> None:
    """Taken from the arguments by `main`, so that it may stand anywhere; here for the help."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run `argv` (default: the process's) and return the exit code: 0, 1 failed, 2 misused."""
    given = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in given
    given = [word for word in given if word != "--debug"]
    try:
        code = app(given, prog_name="recis", standalone_mode=False)
        return code if isinstance(code, int) else 0
    except KeyboardInterrupt:
        return fail("interrupted", 1, debug)
    except typer.Abort:
        return fail("aborted", 1, debug)
    except ClickError as error:
        said = error.format_message()  # type: ignore[attr-defined]
        # Without arguments the help itself is the message.
        if type(error).__name__ == "NoArgsIsHelpError":
            print(said, file=sys.stderr)
            return 2
        return fail(one_line(said), 2 if isinstance(error, UsageError) else 1, debug)
    except Misuse as error:
        return fail(one_line(str(error)), 2, debug)
    except BrokenPipeError:
        # Whoever read our output has enough; closing it now keeps Python from complaining.
        sys.stderr.close()
        return 1
    except Exception as error:
        return fail(describe(error), 1, debug)


def fail(said: str, code: int, debug: bool) -> int:
    """One line on stderr, after the traceback if that is wanted."""
    if debug:
        traceback.print_exc()
    print(f"recis: {said}", file=sys.stderr)
    return code


def describe(error: Exception) -> str:
    """An error in one line: with its type where the text alone says too little."""
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename else ""
        return one_line(f"{where}{error.strerror}")
    plain = type(error).__module__.split(".")[0] in (
        "recis_core",
        "backends",
        "workloads",
        "reports",
    )
    text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    if text and (plain or isinstance(error, ValueError | OSError | FloatingPointError)):
        return one_line(text)
    return one_line(f"{type(error).__name__}: {text}" if text else type(error).__name__)


def one_line(text: str) -> str:
    return " ".join(text.split())
