"""Which files are meant by a path, and how each is opened."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pyarrow as pa

from recis_core.io.arrow import ArrowSource
from recis_core.io.error import ColumnError, first_line
from recis_core.io.orc import OrcSource
from recis_core.io.parquet import ParquetSource
from recis_core.io.source import Source

FORMATS: dict[str, Callable[[Path], Source]] = {
    ".parquet": ParquetSource,
    ".orc": OrcSource,
    ".arrow": ArrowSource,
    ".feather": ArrowSource,
}


def files_find(paths: str | Path | Sequence[str | Path]) -> list[Path]:
    """The files of `paths`: files as given, folders by their column files at any depth, by name.

    Within a folder, names that begin with "." or "_" and other suffixes are passed over.
    """
    given = [paths] if isinstance(paths, str | Path) else list(paths)
    if not given:
        raise ColumnError("no path given")
    return [file for path in given for file in path_files(Path(path))]


def path_files(path: Path) -> list[Path]:
    """The files one path stands for, or ColumnError if there is none."""
    known = ", ".join(FORMATS)
    if path.is_dir():
        found = sorted(p for p in path.rglob("*") if p.suffix in FORMATS and p.is_file())
        found = [p for p in found if not any(n[0] in "._" for n in p.relative_to(path).parts)]
        if not found:
            raise ColumnError(f"{path}: the folder has no file ending in {known}")
        return found
    if not path.exists():
        raise ColumnError(f"{path}: no such file or folder")
    if path.suffix not in FORMATS:
        raise ColumnError(f"{path}: the suffix is {path.suffix!r}, not one of {known}")
    return [path]


def source_open(path: Path) -> Source:
    """Open one file by its suffix; ColumnError if it is missing, truncated or of another format."""
    try:
        source = FORMATS[path.suffix](path)
        _ = source.schema.names  # each is text
        return source
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise ColumnError(f"{path}: cannot be opened: {first_line(error)}") from error
