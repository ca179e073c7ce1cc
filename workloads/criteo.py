"""`criteo`: click logs in Criteo's text format, and the DeepFM over them.

A line is a label, 13 integers and 26 hexadecimal categories, apart by tabs (the published files) or
commas, with or without a header; any but the label may be empty. Imported columns are those of
RecIS's DeepFM example: label, i1…i13 list<double>, c1…c26 list<int64>, an empty list for a missing
value.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from recis_core.schema import Bucketize, Column, Feature, Initializer, Table
from recis_core.task import Task
from workloads.deepfm import DeepFm
from workloads.definition import Defaults
from workloads.public import source_file, write_splits

NUMBERS = tuple(f"i{i}" for i in range(1, 14))
CATEGORIES = tuple(f"c{i}" for i in range(1, 27))
CELLS = 1 + len(NUMBERS) + len(CATEGORIES)
# Counts: every small one apart, then two buckets an octave.
COUNTS = (-0.5, 0.5, 1.5, 2.5, *(2 ** (k / 2) + 0.5 for k in range(3, 42)))


@dataclass(frozen=True)
class CriteoConfig:
    """The model's numbers; `held_out`: share of rows, the last ones of the file."""

    dim: int = 8
    hidden: tuple[int, ...] = (64, 32)
    dropout: float = 0.5
    deviation: float = 0.01
    held_out: float = 0.2


def read_criteo(path: Path) -> pa.Table:
    """All rows of one text file; ValueError names file, line and column of what cannot be read."""
    rows: list[list[Any]] = []
    with path.open(encoding="ascii") as file:
        for number, line in enumerate(file, 1):
            cells = line.rstrip("\r\n").split("\t" if "\t" in line else ",")
            if len(cells) != CELLS:
                raise ValueError(f"{path}: line {number} has {len(cells)} cells, not {CELLS}")
            if number == 1 and not cells[0].lstrip("-").isdigit():
                continue  # a header
            rows.append([_cell(path, number, at, cell) for at, cell in enumerate(cells)])
    names = ("label", *NUMBERS, *CATEGORIES)
    kinds = [pa.int64() if name in CATEGORIES else pa.float64() for name in names]
    cells_of = list(zip(*rows, strict=True)) or [()] * CELLS
    return pa.table({
        name: pa.array(values, pa.list_(kind))
        for name, kind, values in zip(names, kinds, cells_of, strict=True)
    })  # fmt: skip


def _cell(path: Path, line: int, at: int, cell: str) -> list[Any]:
    try:
        if at == 0 and cell not in ("0", "1"):
            raise ValueError(f"label {cell!r} is not 0 or 1")
        if not cell:
            return []
        return [int(cell, 16)] if at > len(NUMBERS) else [float(cell)]
    except ValueError as error:
        raise ValueError(f"{path}: line {line}, cell {at + 1}: {error}") from None


def criteo_model(config: CriteoConfig) -> DeepFm:
    """13 bucketized counts and 26 categories; a missing value adds nothing."""

    def table(name: str) -> Table:
        return Table(name, config.dim, Initializer("normal", 0.0, config.deviation))

    numbers = [Feature(n, n, table(n), transforms=(Bucketize(COUNTS),)) for n in NUMBERS]
    categories = [Feature(n, n, table(n)) for n in CATEGORIES]
    columns = (
        *(Column(n, "values", missing="empty") for n in NUMBERS),
        *(Column(n, "ids", missing="empty") for n in CATEGORIES),
        Column("label", "values", 1),
    )
    return DeepFm(
        [*numbers, *categories],
        columns,
        Task(label="label"),
        hidden=config.hidden,
        dropout=config.dropout,
    )


class Criteo:
    """The workload at its one size: whatever the source file holds."""

    name = "criteo"
    sizes: Sequence[str] = ("text",)

    def config(self, size: str) -> CriteoConfig:
        if size not in self.sizes:
            raise ValueError(f"{self.name} has no size {size!r}; there is {self.sizes[0]}")
        return CriteoConfig()

    def write(
        self,
        size: str,
        folder: Path | str,
        format: str = "parquet",
        seed: int = 0,
        progress: Callable[[int, int], None] | None = None,
        source: Path | str | None = None,
    ) -> dict[str, Any]:
        """Import from `source`, a text file or a folder with criteo_sample.txt; `seed` is unused:
        clicks are cut by their order, so that the later ones are held out."""
        config = self.config(size)
        plan = {"workload": self.name, "size": size, "held_out": config.held_out}
        found: list[pa.Table] = []

        def part(held_out: bool) -> pa.Table:
            if not found:
                found.append(read_criteo(source_file(source, "criteo_sample.txt", "Criteo text")))
            cut = round(len(found[0]) * (1 - config.held_out))
            return found[0].slice(cut) if held_out else found[0].slice(0, cut)

        splits = {"train": lambda: part(False), "valid": lambda: part(True)}
        return write_splits(folder, splits, plan, format=format, progress=progress)

    def model(self, size: str) -> DeepFm:
        return criteo_model(self.config(size))

    def defaults(self, size: str) -> Defaults:
        self.config(size)
        return Defaults(batch_size=256, epochs=2, rule="adamw", lr=2e-3, dense_lr=1e-3)

    def ceiling(self, folder: Path | str) -> float | None:
        return None


workload = Criteo()
