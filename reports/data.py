"""Writing a workload's data with a bar, and describing column files."""

from __future__ import annotations

from inspect import signature
from pathlib import Path
from typing import Any

from reports.console import progress, say
from reports.failure import Misuse
from workloads import Workload

FORMATS = ("parquet", "orc", "arrow")


def written(
    workload: Workload,
    size: str,
    folder: Path,
    format: str = "",
    seed: int = 0,
    source: Path | None = None,
) -> dict[str, Any]:
    """The manifest of `folder`, written now if it is not complete.

    Without `format` and with data there, whatever format and seed they have are taken. Public data
    are imported from `source`, which no other workload has.
    """
    public = "source" in signature(workload.write).parameters
    if source is not None and not public:
        raise Misuse(f"{workload.name} makes its data: recis data write {workload.name}")
    from workloads.manifest import read_manifest

    if format and format not in FORMATS:
        raise Misuse(f"no format {format!r}; there are {', '.join(FORMATS)}")
    found = read_manifest(folder) if folder.exists() else None
    if found is not None and not format:
        plan = found.get("plan", {})
        format, seed = plan.get("format", "parquet"), plan.get("seed", seed)
    if public and source is None and not (found and found.get("complete")):
        raise Misuse(f"{folder} has no data: recis data import {workload.name} SOURCE")
    if found is None:
        say(f"writing {workload.name} {size} to {folder}")
    with progress() as bar:
        task = bar.add_task("rows written", total=None)

        def step(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        more = {"source": source} if public else {}
        return workload.write(size, folder, format or "parquet", seed, step, **more)


def schema_of(path: Path) -> dict[str, Any]:
    """Files, rows, and columns with their types of a column file or a folder of them."""
    from recis_core.io.files import files_find, source_open

    files = files_find(path)
    sources = [source_open(file) for file in files]
    return {
        "files": [str(file) for file in files],
        "rows": sum(sum(source.pieces) for source in sources),
        "pieces": sum(len(source.pieces) for source in sources),
        "columns": {field.name: str(field.type) for field in sources[0].schema},
    }
