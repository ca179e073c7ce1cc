"""The report as Markdown: tables as they are, figures as their tables."""

from __future__ import annotations

from collections.abc import Iterator

from reports.page import Page
from reports.page_blocks import Block, Cell, Prose, Section, Table


def markdown(page: Page) -> str:
    """The whole page; figures that have no table of their own are named, not drawn."""
    parts = [f"# {page.title}", f"{page.count} records, {page.machines} machines."]
    for section in page.sections:
        parts += _section(section)
    return "\n\n".join(parts) + "\n"


def _section(section: Section) -> Iterator[str]:
    yield f"{'#' * section.level} {section.title}"
    for block in section.blocks:
        yield from _block(block)


def _block(block: Block) -> Iterator[str]:
    if isinstance(block, Prose):
        yield block.text
        return
    table = block if isinstance(block, Table) else block.table
    yield f"**{block.caption}**"
    if table is None:
        yield "(a drawing, in the HTML page; its numbers stand in the tables here)"
    else:
        yield _table(table)
        if table.foot:
            yield table.foot
    if block.command:
        yield f"Again: `{block.command}`"


def _table(table: Table) -> str:
    heads = [_escaped(column.name) for column in table.columns]
    rules = ["--:" if column.numeric else "---" for column in table.columns]
    rows = [[_cell(cell) for cell in row] for row in table.rows]
    return "\n".join(f"| {' | '.join(row)} |" for row in (heads, rules, *rows))


def _cell(cell: Cell) -> str:
    return _escaped(cell.text)


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("*", "\\*").replace("\n", " ")
