"""Writing a workload's data with a bar, and describing column files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from reports.console import progress, say
from reports.failure import Misuse
from workloads import Workload

FORMATS = ("parquet", "orc", "arrow")


def written(
    workload: Workload, size: str, folder: Path, format: str = "", seed: int = 0
) -> dict[str, Any]:
    """The manifest of `folder`, written now if it is not complete.

    Without `format` and with data there, whatever format and seed they have are taken.
    """
    from workloads.manifest import read_manifest

    if format and format not in FORMATS:
        raise Misuse(f"no format {format!r}; there are {', '.join(FORMATS)}")
    found = read_manifest(folder) if folder.exists() else None
    if found is not None and not format:
        plan = found.get("plan", {})
        format, seed = plan.get("format", "parquet"), plan.get("seed", seed)
    if found is None:
        say(f"writing {workload.name} {size} to {folder}")
    with progress() as bar:
        task = bar.add_task("rows written", total=None)

        def step(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        return workload.write(size, folder, format or "parquet", seed, step)


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
