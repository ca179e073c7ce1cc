"""The report as one HTML file: no network, no script needed to read it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path

from reports.page import Page
from reports.page_blocks import Block, Cell, Column, Figure, Prose, Section, Table

HERE = Path(__file__).parent
# Nothing is loaded from anywhere, and the page says so to the browser too.
POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"


def html(page: Page) -> str:
    """The whole page with its style and script."""
    style, script = ((HERE / f"page.{kind}").read_text(encoding="utf-8") for kind in ("css", "js"))
    body = "\n".join(part for section in page.sections for part in _section(section))
    machines = f"{page.machines} machine{'s' * (page.machines != 1)}"
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="{escape(POLICY)}">
<title>{escape(page.title)}</title>
<style>
{style}</style>
</head>
<body>
<a class="skip" href="#main">Skip to the content</a>
<header>
<h1>{escape(page.title)}</h1>
<p>{page.count} records from {machines}. Columns sort by their headings; the marks of a chart can be
pointed at, or reached with Tab and the arrow keys.</p>
{_contents(page.sections)}
</header>
<main id="main">
{body}
</main>
<script>
{script}</script>
</body>
</html>
"""


def _contents(sections: Sequence[Section]) -> str:
    """Links to the sections, those of a machine behind its name."""
    rows: list[list[str]] = []
    for section in sections:
        link = f'<li><a href="#{section.key}">{escape(section.title)}</a></li>'
        if section.level == 2 or not rows:
            rows.append([])
        rows[-1].append(link)
    lists = "".join(f"<ul>{''.join(row)}</ul>" for row in rows)
    return f'<nav aria-label="Contents">{lists}</nav>'


def _section(section: Section) -> Iterator[str]:
    level = section.level
    yield f'<section aria-labelledby="{section.key}">'
    yield f'<h{level} id="{section.key}">{escape(section.title)}</h{level}>'
    for block in section.blocks:
        yield from _block(block)
    yield "</section>"


def _block(block: Block) -> Iterator[str]:
    if isinstance(block, Prose):
        yield f"<p>{inline(block.text)}</p>"
    elif isinstance(block, Figure):
        yield from _figure(block)
    else:
        yield from _folding(block)


def inline(text: str) -> str:
    """Escaped text with `code`, **strong** and *stressed* words."""
    text = escape(text, quote=False)
    text = re.sub(r"`([^`]+)`", r"<code>\1</code>", text)
    text = re.sub(r"\*\*([^*]+)\*\*", r"<strong>\1</strong>", text)
    return re.sub(r"\*([^*]+)\*", r"<em>\1</em>", text)


def _figure(figure: Figure) -> Iterator[str]:
    yield f'<figure id="{figure.key}"><figcaption>{escape(figure.caption)}</figcaption>'
    yield _scroller(figure.caption, figure.svg, "chart")
    yield '<p class="readout" role="status"></p>'
    if figure.table:
        yield "<details><summary>The same as a table</summary>"
        yield _table(figure.table)
        yield "</details>"
    yield _again(figure.command)
    yield "</figure>"


def _folding(table: Table) -> Iterator[str]:
    if table.folded:
        yield f'<details class="folded"><summary>{escape(table.caption)}</summary>'
    # Narrow tables stand side by side where there is room.
    yield '<div class="block">'
    yield _table(table)
    if table.foot:
        yield f'<p class="foot">{inline(table.foot)}</p>'
    yield _again(table.command)
    yield "</div>"
    if table.folded:
        yield "</details>"


def _again(command: str) -> str:
    if not command:
        return ""
    said = f"<pre><code>{escape(command)}</code></pre>"
    return f'<details class="again"><summary>Reproduce it</summary>{said}</details>'


def _scroller(name: str, inner: str, kind: str) -> str:
    # What is wider than a phone scrolls by itself, also by keyboard.
    return (
        f'<div class="scroll {kind}" tabindex="0" role="region" aria-label="{escape(name)}">'
        f"{inner}</div>"
    )


def _table(table: Table) -> str:
    heads = "".join(_head(column) for column in table.columns)
    rows = "\n".join(_row(row, table.columns) for row in table.rows)
    inner = (
        f'<table id="{table.key}"><caption>{escape(table.caption)}</caption>'
        f"<thead><tr>{heads}</tr></thead>\n<tbody>\n{rows}\n</tbody></table>"
    )
    return _scroller(table.caption, inner, "data")


def _head(column: Column) -> str:
    about = f' title="{escape(column.help)}"' if column.help else ""
    kind = ' class="n"' if column.numeric else ""
    return (
        f'<th scope="col" aria-sort="none"{kind}><button type="button"{about}>'
        f"{escape(column.name)}</button></th>"
    )


def _row(row: Sequence[Cell], columns: Sequence[Column]) -> str:
    cells = [_cell(cell, column) for cell, column in zip(row, columns, strict=True)]
    first = cells[0].replace("<td", '<th scope="row"', 1).removesuffix("</td>") + "</th>"
    return f"<tr>{first}{''.join(cells[1:])}</tr>"


def _cell(cell: Cell, column: Column) -> str:
    classes = ["n"] if column.numeric else []
    said = ""
    if cell.sort is not None:
        said += f' data-sort="{cell.sort:.6g}"'
    if cell.heat is not None:
        classes.append("h")
        said += f' style="--h:{100 * cell.heat:.0f}%"'
    if cell.note:
        said += f' title="{escape(cell.note)}"'
    if classes:
        said += f' class="{" ".join(classes)}"'
    return f"<td{said}>{escape(cell.text)}</td>"
