"""Tables to files: Parquet, ORC or Arrow IPC, chunk by chunk, written aside and renamed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import pyarrow as pa

FORMATS = {"parquet": ".parquet", "orc": ".orc", "arrow": ".arrow"}


class Sink(Protocol):
    def write(self, table: pa.Table, /) -> None:
        """Append `table` as one row group, stripe or record batch."""
        ...


def suffix_of(format: str) -> str:
    if format not in FORMATS:
        raise ValueError(f"format {format!r} is not one of {', '.join(FORMATS)}")
    return FORMATS[format]


@contextlib.contextmanager
def open_sink(path: Path, schema: pa.Schema) -> Iterator[Sink]:
    """A sink for `path` by its suffix. The file appears under its name only when complete."""
    aside = path.with_name(f".{path.name}.part")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with _writer(aside, schema, path.suffix) as sink:
            yield sink
        aside.rename(path)
    except OSError as error:
        raise OSError(f"{path}: {error.strerror or error}") from error
    finally:
        aside.unlink(missing_ok=True)


@contextlib.contextmanager
def _writer(path: Path, schema: pa.Schema, suffix: str) -> Iterator[Sink]:
    if suffix == ".parquet":
        import pyarrow.parquet as parquet

        # Ids of small vocabularies shrink by dictionary alone; a codec would cost reading time.
        with parquet.ParquetWriter(path, schema, compression="none") as writer:
            yield writer
    elif suffix == ".orc":
        import pyarrow.orc as orc

        with path.open("wb") as file, orc.ORCWriter(file) as writer:
            yield writer
    elif suffix == ".arrow":
        with path.open("wb") as file, pa.ipc.new_file(file, schema) as writer:
            yield writer
    else:
        raise ValueError(f"{path}: suffix {suffix!r} is not one of {', '.join(FORMATS.values())}")
