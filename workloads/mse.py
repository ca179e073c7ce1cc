"""`mse`: a wide, sparse-dominated ranking model on synthetic data (definition: README.md)."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from recis_core.schema import Column, Feature, Initializer, Pooling, Table
from recis_core.task import Task
from workloads.columns import IdColumn
from workloads.definition import Defaults
from workloads.demand import Demand, shown
from workloads.dense import LowRankCross, RecencySum, mlp, wide, widen
from workloads.manifest import read_manifest
from workloads.synthetic import LABEL, write_data
from workloads.teacher import Part, Target, Teacher


@dataclass(frozen=True)
class MseConfig:
    """Every number of the model and its data. `dims`: (dim, how many features have it)."""

    singles: int
    bags: int
    sequences: int
    dims: tuple[tuple[int, int], ...]
    vocab_low: int
    vocab_high: int
    bag_mean: float
    sequence_mean: float
    sequence_length: int
    dense: int
    hidden: tuple[int, ...]
    cross_rank: int
    train_rows: int
    valid_rows: int
    parts: int
    skew: float = 1.05
    weighted_bags: int = 2
    deviation: float = 1.8
    dense_share: float = 0.12
    pair_share: float = 0.02
    pairs: int = 2
    bias: float = -1.0
    targets: int = 1
    batch_size: int = 1024


BENCH = MseConfig(
    singles=300, bags=80, sequences=20, dims=((8, 100), (16, 150), (32, 100), (64, 40), (128, 10)),
    vocab_low=10, vocab_high=30_000_000, bag_mean=8, sequence_mean=50, sequence_length=64,
    dense=50, hidden=(1024, 512, 256), cross_rank=64, train_rows=48 * 8192, valid_rows=4 * 8192,
    parts=48, weighted_bags=20, pairs=4, targets=2,
    batch_size=8192,
)  # fmt: skip
CONFIGS = {
    "tiny": MseConfig(
        singles=16, bags=5, sequences=3, dims=((8, 14), (16, 10)), vocab_low=10,
        vocab_high=20_000, bag_mean=4, sequence_mean=6, sequence_length=8, dense=8,
        hidden=(64, 32), cross_rank=8, train_rows=160_000, valid_rows=30_000, parts=4,
    ),
    "small": MseConfig(
        singles=75, bags=20, sequences=5, dims=((8, 30), (16, 40), (32, 25), (64, 5)),
        vocab_low=10, vocab_high=1_000_000, bag_mean=4, sequence_mean=12, sequence_length=16,
        dense=20, hidden=(128, 64), cross_rank=16, train_rows=400_000, valid_rows=50_000,
        parts=8, weighted_bags=5, pairs=4,
    ),
    "bench": BENCH,
    # A cluster's: planned, not run.
    "paper": replace(
        BENCH, vocab_high=1_000_000_000, train_rows=1_000_000_000, valid_rows=1_000_000,
        parts=2048, batch_size=65_536,
    ),
}  # fmt: skip


# A second target shares the ids' part and turns the dense one round; its loss counts half.
TARGETS = (Target(LABEL), Target(f"{LABEL}_1", ids=0.7, dense=-1.5))
SHARES = (1.0, 0.5)
FEW = 200  # ids of a column that rows show often enough each; beyond it, the more ids the less each


def targets(config: MseConfig) -> list[tuple[Target, float]]:
    """The labels to predict and what the loss of each counts for."""
    return list(zip(TARGETS, SHARES, strict=True))[: config.targets]


class Field(NamedTuple):
    """One feature of the model and its column: what is drawn, and how it is embedded."""

    column: IdColumn
    dim: int
    pooling: Pooling
    length: int | None = None


def fields(config: MseConfig) -> tuple[Field, ...]:
    """Single ids, bags (sum and mean in turn, the first ones weighted), sequences.

    Vocabularies of each kind are spaced evenly in their logarithm; dims are dealt out in turn.
    """
    dims = iter(deal(config.dims))
    found = []
    for name, vocab in spaced("id", config.singles, config):
        found.append(Field(IdColumn(name, vocab, config.skew), next(dims), "sum"))
    for i, (name, vocab) in enumerate(spaced("bag", config.bags, config)):
        column = IdColumn(name, vocab, config.skew, config.bag_mean, i < config.weighted_bags)
        found.append(Field(column, next(dims), ("sum", "mean")[i % 2]))
    for name, vocab in spaced("seq", config.sequences, config):
        column = IdColumn(name, vocab, config.skew, config.sequence_mean)
        found.append(Field(column, next(dims), "tile", config.sequence_length))
    return tuple(found)


def ids_of_row(config: MseConfig) -> float:
    """Mean number of ids in a row."""
    return sum(1.0 if f.column.mean is None else f.column.mean for f in fields(config))


def spaced(kind: str, count: int, config: MseConfig) -> list[tuple[str, int]]:
    ratio = config.vocab_high / config.vocab_low
    at = [round(config.vocab_low * ratio ** (i / max(count - 1, 1))) for i in range(count)]
    return [(f"{kind}_{i:03}", vocab) for i, vocab in enumerate(at)]


def deal(dims: tuple[tuple[int, int], ...]) -> list[int]:
    """Each dim as often as asked, spread evenly over the features."""
    places = [((i + 0.5) / n, dim) for dim, n in dims for i in range(n)]
    return [dim for _, dim in sorted(places)]


def dense_names(config: MseConfig) -> tuple[str, ...]:
    return tuple(f"dense_{i:03}" for i in range(config.dense))


def group_name(config: MseConfig) -> str:
    """The id column whose values group rows for grouped AUC: the first with 100 ids or more."""
    return next(
        f.column.name for f in fields(config) if f.column.vocab >= min(100, config.vocab_high)
    )


def teacher_of(config: MseConfig, seed: int) -> Teacher:
    """Columns of two hundred ids or fewer carry most; larger ones less, as fewer rows show each."""
    reduce = {"sum": "sum", "mean": "mean", "tile": "recent"}
    parts = [
        Part(f.column, reduce[f.pooling], f.length, min(1.0, FEW / f.column.vocab))
        for f in fields(config)
    ]
    few = [f.column.name for f in fields(config)[: config.singles] if f.column.vocab <= FEW]
    return Teacher(
        parts, dense_names(config), seed=seed, deviation=config.deviation,
        dense_share=config.dense_share, pair_share=config.pair_share, bias=config.bias,
        pairs=list(zip(few[::2], few[1::2], strict=False))[: config.pairs],
        targets=TARGETS[: config.targets],
    )  # fmt: skip


class MseModel(nn.Module):
    """Pooled features, recency-weighted sequences, dense columns; crossed, an MLP; a linear part.

    `forward(inputs)`: every feature's leaf by name ([rows, dim], sequences [rows, length, dim])
    and every dense column by name [rows, 1] -> logits [rows], of several targets [rows, targets].
    """

    def __init__(self, config: MseConfig) -> None:
        super().__init__()
        found = fields(config)
        self.features = tuple(feature_of(f) for f in found)
        self.dense = dense_names(config)
        group = group_name(config)
        self.columns = (*columns_of(found), *(Column(n, "values", 1) for n in self.dense),
                        *(Column(t.label, "values", 1) for t, _ in targets(config)))  # fmt: skip
        tasks = tuple(Task(t.label, group=group, share=share) for t, share in targets(config))
        self.task = tasks[0] if len(tasks) == 1 else tasks
        self.recency = nn.ModuleDict(
            {f.column.name: RecencySum(f.length) for f in found if f.length is not None}
        )
        width = sum(f.dim for f in found) + len(self.dense)
        self.cross = LowRankCross(width, config.cross_rank)
        self.mlp = mlp(width, config.hidden, outputs=config.targets, zero=True)
        begins = [(f.dim, f.dim**-0.5 * min(1.0, FEW / f.column.vocab) ** 0.25) for f in found]
        self.wide = wide([*begins, (len(self.dense), 0.0)], config.targets)
        self.spare = widen(self.cross, self.mlp[0], self.wide)

    def forward(self, inputs: dict[str, Tensor]) -> Tensor:
        weighed = iter(self.weigh([inputs[name] for name in self.recency]))
        flat = [next(weighed) if f.name in self.recency else inputs[f.name] for f in self.features]
        spare = flat[0].new_zeros(len(flat[0]), self.spare)
        x = torch.cat([*flat, *(inputs[name] for name in self.dense), spare], 1)
        logits = self.head(x)
        return logits.squeeze(1) if logits.shape[1] == 1 else logits

    def weigh(self, sequences: list[Tensor]) -> list[Tensor]:
        return [layer(x) for layer, x in zip(self.recency.values(), sequences, strict=True)]

    def head(self, x: Tensor) -> Tensor:
        return self.mlp(self.cross(x)) + self.wide(x)

    def compile_parts(self, compiler: Callable[..., Callable]) -> None:
        """What has much to gain; a graph of hundreds of leaves would take minutes to make."""
        self.weigh, self.head = compiler(self.weigh), compiler(self.head)


def feature_of(field: Field) -> Feature:
    name = field.column.name
    weights = field.column.weight_name if field.column.weighted else None
    table = Table(name, field.dim, Initializer("normal", 0.0, 0.001))
    return Feature(name, name, table, field.pooling, field.length, weights)


def columns_of(found: tuple[Field, ...]) -> tuple[Column, ...]:
    columns = []
    for field in found:
        columns.append(Column(field.column.name, "ids", 1 if field.column.mean is None else None))
        if field.column.weighted:
            columns.append(Column(field.column.weight_name, "values"))
    return tuple(columns)


class Mse:
    """Data written once, the model, what it is trained with by default."""

    name = "mse"
    sizes = tuple(CONFIGS)

    def config(self, size: str) -> MseConfig:
        if (found := CONFIGS.get(size)) is None:
            raise ValueError(f"{self.name} has no size {size!r}; there are {', '.join(CONFIGS)}")
        return found

    def write(
        self,
        size: str,
        folder: Path | str,
        format: str = "parquet",
        seed: int = 0,
        progress: Callable[[int, int], None] | None = None,
    ) -> dict[str, Any]:
        config = self.config(size)
        # A process takes seconds to begin; a core draws some five million ids a second.
        drawn = ids_of_row(config) * (config.train_rows + config.valid_rows)
        workers = min(os.cpu_count() or 1, 1 + int(drawn) // 20_000_000)
        return write_mse(config, size, folder, format, seed, progress, workers)

    def model(self, size: str) -> MseModel:
        return MseModel(self.config(size))

    def defaults(self, size: str) -> Defaults:
        batch = self.config(size).batch_size
        if batch > 1024:
            return Defaults(batch, epochs=1, rule="adamw", lr=1e-3, dense_lr=1e-3)
        if size == "small":
            return Defaults(batch, 1, "adam", 1e-2, 4e-3, schedule="linear", eps=2.5e-4)
        return Defaults(batch, epochs=1, rule="adam", lr=2e-3, dense_lr=2e-3)

    def demands(self, size: str) -> dict[str, Demand]:
        """What each feature asks of its table, by its name."""
        found = {}
        for f in fields(self.config(size)):
            mean = 1.0 if f.column.mean is None else f.column.mean
            per_row = mean if f.length is None else shown(mean, f.length)
            found[f.column.name] = Demand(per_row, f.column.vocab, f.column.skew)
        return found

    def train_rows(self, size: str) -> int:
        return self.config(size).train_rows

    def ceiling(self, folder: Path | str) -> float | None:
        manifest = read_manifest(Path(folder))
        return manifest.get("ceiling") if manifest else None


def write_mse(
    config: MseConfig,
    size: str,
    folder: Path | str,
    format: str = "parquet",
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
    workers: int = 1,
) -> dict[str, Any]:
    """The data of any configuration; `Mse.write` is this at a named size."""
    about = {"workload": "mse", "size": size, "config": asdict(config)}
    return write_data(
        folder, teacher_of(config, seed), about, train_rows=config.train_rows,
        valid_rows=config.valid_rows, parts=config.parts, format=format, seed=seed,
        progress=progress, workers=workers,
    )  # fmt: skip


workload = Mse()
