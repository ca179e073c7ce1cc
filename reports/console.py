"""What commands say: tables and text for people on stderr, data on stdout."""

from __future__ import annotations

import json
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from recis_core.callbacks import finite

# Wide enough for a table where stderr is a file.
WIDTH = 140


def console() -> Console:
    """On stderr; 140 columns wide where that is no terminal."""
    made = Console(stderr=True, highlight=False)
    return made if made.is_terminal else Console(stderr=True, highlight=False, width=WIDTH)


def say(text: str) -> None:
    console().print(text, soft_wrap=True, markup=False)


def emit(value: Any) -> None:
    """`value` as one line of JSON on stdout; NaN and infinities as null."""
    print(json.dumps(finite(value), default=str), flush=True)


def progress() -> Progress:
    """A bar for work that comes in known steps; silent where stderr is no terminal."""
    shown = console()
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=shown,
        transient=True,
        disable=not shown.is_terminal,
    )
