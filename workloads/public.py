"""Importing public data: a source's table, cut into splits, written as column files once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from workloads.files import open_sink, suffix_of
from workloads.manifest import check_plan, read_manifest, write_manifest

ROW_GROUP = 1 << 13


def write_splits(
    folder: Path | str,
    splits: Mapping[str, Callable[[], pa.Table]],
    plan: Mapping[str, Any],
    *,
    format: str = "parquet",
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Write `folder/<split>/part-0.<suffix>` for every split once; -> the manifest.

    A complete folder of the same plan is left alone; ValueError names what differs otherwise.
    """
    folder, suffix = Path(folder), suffix_of(format)
    plan = {**plan, "format": format}
    found = read_manifest(folder)
    if found is not None:
        check_plan(folder, found, plan)
        if found["complete"]:
            return found
    folder.mkdir(parents=True, exist_ok=True)
    write_manifest(folder, {"complete": False, "plan": plan})
    tables = {name: make() for name, make in splits.items()}
    total, done = sum(len(table) for table in tables.values()), 0
    for name, table in tables.items():
        with open_sink(folder / name / f"part-0{suffix}", table.schema) as sink:
            for at in range(0, len(table), ROW_GROUP):
                piece = table.slice(at, ROW_GROUP)
                sink.write(piece)
                done += len(piece)
                if progress:
                    progress(done, total)
    manifest = {
        "complete": True,
        "plan": plan,
        "rows": {name: len(table) for name, table in tables.items()},
        "ceiling": None,
        "versions": {"pyarrow": pa.__version__},
    }
    write_manifest(folder, manifest)
    return manifest


def source_file(source: Path | str | None, name: str, what: str) -> Path:
    """`source/name`, or `source` itself where it is a file; one line where there is none."""
    if source is None:
        raise ValueError(f"{what} is public data: say where it lies (source)")
    path = Path(source)
    path = path / name if path.is_dir() else path
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file ({what})")
    return path
