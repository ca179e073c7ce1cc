"""`lma-16k` and `lma-100k`: a dense model over long behaviour sequences (definition: README.md)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from workloads.definition import Defaults
from workloads.lma_data import Planted
from workloads.lma_files import Rows, write_users
from workloads.lma_model import LmaModel, Shape
from workloads.lma_plan import demands, dense_costs
from workloads.manifest import read_manifest
from workloads.plan import Demands, DenseCosts


@dataclass(frozen=True)
class LmaConfig:
    """Data, rows and model of one size, and the batch it is trained with."""

    planted: Planted
    rows: Rows
    shape: Shape
    batch: int
    lr: float
    dense_lr: float


def bench(length: int, batch: int, rows: int, valid: int, positions: int) -> LmaConfig:
    """One 80 GB GPU: a million items, four layers of 512."""
    share = 1.0 if batch > 1 else 0.2
    return LmaConfig(
        Planted(items=1_000_000, categories=16, shops=50_000, length=length),
        Rows(rows, valid, 16),
        Shape(length, 32, 512, 4, 4, (512, 128), items=1_000_000, positions=positions, share=share),
        batch,
        lr=1e-2,
        dense_lr=5e-4,
    )


SMALL = {
    "tiny": LmaConfig(
        Planted(items=1024, categories=16, shops=64, length=64),
        Rows(16_000, 2_000, 2),
        Shape(64, 8, 32, 2, 2, (32,), items=1024, positions=64),
        batch=64,
        lr=1e-2,
        dense_lr=3e-3,
    ),
    "small": LmaConfig(
        Planted(items=16_384, categories=16, shops=1_000, length=1_024),
        Rows(4_000, 500, 4),
        Shape(1_024, 16, 64, 2, 2, (64,), items=16_384, positions=256),
        batch=16,
        lr=1e-2,
        dense_lr=1.5e-3,
    ),
}
LENGTH = "length-"


def longer(config: LmaConfig, length: int) -> LmaConfig:
    """Without layers and next items, for which so many events would be too many."""
    return replace(
        config,
        planted=replace(config.planted, length=length),
        rows=Rows(40 * config.batch, 16, 2),
        shape=replace(config.shape, length=length, layers=0, items=0, positions=0, share=1.0),
    )


CONFIGS = {
    "lma-16k": {**SMALL, "bench": bench(16_384, 8, 3_200, 64, 2_048)},
    "lma-100k": {**SMALL, "bench": bench(100_000, 1, 400, 64, 16_384)},
}


class Lma:
    """One of the two workloads; they differ at `bench` and share the smaller sizes."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.configs = CONFIGS[name]
        self.sizes = tuple(self.configs)

    def of_length(self, length: int) -> str:
        """The size whose users have up to `length` events, which target attention alone reads."""
        return f"{LENGTH}{length}"

    def config(self, size: str) -> LmaConfig:
        length = size.removeprefix(LENGTH)
        if length != size and length.isdecimal() and int(length) > 0:
            return longer(self.configs["bench"], int(length))
        if size not in self.configs:
            raise ValueError(f"{self.name} has no size {size!r}; there are {', '.join(self.sizes)}")
        return self.configs[size]

    def write(
        self,
        size: str,
        folder: Path | str,
        format: str = "parquet",
        seed: int = 0,
        progress: Callable[[int, int], None] | None = None,
    ) -> dict[str, Any]:
        return write_lma(self.config(size), self.name, size, folder, format, seed, progress)

    def model(self, size: str) -> LmaModel:
        return LmaModel(self.config(size).shape)

    def defaults(self, size: str) -> Defaults:
        config = self.config(size)
        return Defaults(config.batch, 1, "adam", config.lr, config.dense_lr, schedule="linear")

    def demands(self, size: str) -> Demands:
        return demands(self.config(size).planted)

    def dense_costs(self, size: str, batch: int) -> DenseCosts:
        config = self.config(size)
        return dense_costs(config.planted, config.shape, batch)

    def train_rows(self, size: str) -> int:
        return self.config(size).rows.train

    def ceiling(self, folder: Path | str) -> float | None:
        manifest = read_manifest(Path(folder))
        return manifest.get("ceiling") if manifest else None


def write_lma(
    config: LmaConfig,
    name: str,
    size: str,
    folder: Path | str,
    format: str = "parquet",
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """The data of any configuration; `Lma.write` is this at a named size."""
    plan = {"workload": name, "size": size, "data": asdict(config.planted)}
    plan |= {"rows": asdict(config.rows), "positions": config.shape.positions}
    return write_users(
        folder,
        config.planted,
        plan,
        config.rows,
        config.shape.positions,
        format=format,
        seed=seed,
        progress=progress,
    )


workloads = tuple(Lma(name) for name in CONFIGS)
