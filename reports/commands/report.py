"""`recis report`: one HTML page, and Markdown, from records alone."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def report(
    results: Annotated[
        list[Path] | None,
        typer.Argument(help="Files of records, or folders of them. Default: the suite's own."),
    ] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="The page.")] = Path("report.html"),
    markdown: Annotated[Path | None, typer.Option(help="Write Markdown there too.")] = None,
) -> int:
    """Write a self-contained HTML page from records: rooflines, tables, history."""
    from reports.console import say
    from reports.failure import Misuse
    from reports.page import page_of
    from reports.page_html import html
    from reports.page_markdown import markdown as as_markdown

    paths = results or [Path(__file__).parent.parent / "results"]
    for path in paths:
        if not path.exists():
            raise Misuse(f"{path} is no file and no folder of records")
    page = page_of(paths)
    if not page.count:
        raise Misuse(f"no records in {', '.join(map(str, paths))}")
    written = [(out, html(page)), *([(markdown, as_markdown(page))] if markdown else [])]
    for path, text in written:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        say(f"{path}: {len(text.encode()) / 1e3:,.0f} kB, {page.count} records")
    return 0
