"""`recis report`: one HTML page, and Markdown, from records alone; or of this machine, measured."""

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
    measure: Annotated[
        bool,
        typer.Option("--measure", help="Measure this machine first: roofs, a step, every op."),
    ] = False,
    device: Annotated[
        str | None, typer.Option(help="With --measure: cpu or cuda. Default: the GPU if any.")
    ] = None,
    backend: Annotated[
        str | None, typer.Option(help="With --measure: by commas. Default: all that run here.")
    ] = None,
    op: Annotated[
        list[str] | None, typer.Option(help="With --measure: only this op; may be repeated.")
    ] = None,
    budget: Annotated[
        float, typer.Option(help="With --measure: seconds of samples per measurement.")
    ] = 0.25,
) -> int:
    """Write a self-contained HTML page from records: rooflines, steps, comparisons, history.

    With --measure of this machine, in some minutes; interrupted with Ctrl-C it writes the page of
    what there is, and the same command goes on.
    """
    from reports.console import say
    from reports.failure import Failure, Misuse
    from reports.page import page_of
    from reports.page_html import html
    from reports.page_markdown import markdown as as_markdown
    from reports.page_measure import measure as measured
    from roofline.asv.suite import device_here

    if (device or backend or op) and not measure:
        raise Misuse("--device, --backend and --op say what --measure measures; it is not given")
    paths = list(results or ())
    for path in paths:
        if not path.exists():
            raise Misuse(f"{path} is no file and no folder of records")
    reason = ""
    if measure:
        file, reason = measured(device or device_here(), budget, backend, tuple(op or ()))
        if file.exists():
            paths.append(file)
        elif not paths:
            raise Failure(reason)
    page = page_of(paths or [Path(__file__).parent.parent / "results"])
    if not page.count:
        raise Misuse(f"no records in {', '.join(map(str, paths))}")
    written = [(out, html(page)), *([(markdown, as_markdown(page))] if markdown else [])]
    for path, text in written:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        say(f"{path}: {len(text.encode()) / 1e3:,.0f} kB, {page.count} records")
    if reason:
        raise Failure(reason)
    return 0
