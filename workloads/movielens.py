"""`movielens`: MovieLens-100K in RecBole's atomic files, and a DeepFM that predicts rating >= 4.

`ml-100k.inter`, `.user`, `.item`: tab-separated, a header of `name:type`, type one of token, float,
token_seq (words apart by spaces), float_seq. Titles and zip codes are not used as features.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from recis_core.schema import Bucketize, Column, Feature, Hash, Initializer, Table
from recis_core.task import Task
from workloads.deepfm import DeepFm
from workloads.definition import Defaults
from workloads.public import source_file, write_splits

AGES = tuple(float(a) for a in range(15, 70, 5))
YEARS = (*(float(y) for y in range(1930, 1990, 10)), *(float(y) for y in range(1990, 1999)))


@dataclass(frozen=True)
class MovieLensConfig:
    """The model's numbers and the share of rows held out by a seeded shuffle."""

    dim: int = 32
    hidden: tuple[int, ...] = (64, 32)
    dropout: float = 0.3
    deviation: float = 0.01
    held_out: float = 0.2


def read_atomic(path: Path) -> dict[str, list[Any]]:
    """Columns of one atomic file by name: strings, floats, or lists of them; "" is a null float.

    ValueError names file, line and column of what cannot be read.
    """
    with path.open(encoding="utf-8") as file:
        header = [name.rpartition(":") for name in file.readline().rstrip("\n").split("\t")]
        names, types = [h[0] for h in header], [h[2] for h in header]
        for name, kind in zip(names, types, strict=True):
            if kind not in PARSE:
                raise ValueError(
                    f"{path}: column {name!r} has type {kind!r}, not {', '.join(PARSE)}"
                )
        columns: list[list[Any]] = [[] for _ in names]
        for number, line in enumerate(file, 2):
            cells = line.rstrip("\n").split("\t")
            if len(cells) != len(names):
                raise ValueError(f"{path}: line {number} has {len(cells)} cells, not {len(names)}")
            for column, name, kind, cell in zip(columns, names, types, cells, strict=True):
                try:
                    column.append(PARSE[kind](cell))
                except ValueError as error:
                    raise ValueError(f"{path}: line {number}, column {name!r}: {error}") from None
    return dict(zip(names, columns, strict=True))


PARSE: dict[str, Callable[[str], Any]] = {
    "token": str,
    "float": lambda cell: float(cell) if cell else None,
    "token_seq": str.split,
    "float_seq": lambda cell: [float(x) for x in cell.split()],
}


def read_movielens(source: Path | str | None) -> pa.Table:
    """Interactions in file order joined with their users and items.

    user_id, item_id int64; rating, label, age, release_year float32 (null where unknown);
    timestamp int64; gender, occupation, zip (first digit) string; genres list<string>.
    """
    inter, users, items = (
        read_atomic(source_file(source, f"ml-100k.{kind}", "MovieLens-100K"))
        for kind in ("inter", "user", "item")
    )
    user_at = {user: i for i, user in enumerate(users["user_id"])}
    item_at = {item: i for i, item in enumerate(items["item_id"])}
    of_user = [user_at[u] for u in inter["user_id"]]
    of_item = [item_at[i] for i in inter["item_id"]]

    def user(name: str) -> list[Any]:
        return [users[name][i] for i in of_user]

    def item(name: str) -> list[Any]:
        return [items[name][i] for i in of_item]

    rating = np.array(inter["rating"], np.float32)
    return pa.table({
        "user_id": np.array(inter["user_id"]).astype(np.int64),
        "item_id": np.array(inter["item_id"]).astype(np.int64),
        "rating": rating,
        "timestamp": np.array(inter["timestamp"], np.int64),
        "label": (rating >= 4).astype(np.float32),
        "age": pa.array(map(number, user("age")), pa.float32()),
        "gender": user("gender"),
        "occupation": user("occupation"),
        "zip": [code[:1] for code in user("zip_code")],
        "release_year": pa.array(map(number, item("release_year")), pa.float32()),
        "genres": item("class"),
    })  # fmt: skip


def number(token: str) -> float | None:
    # Where a title holds other brackets the published file has a word of it for a year.
    return float(token) if token.isdigit() else None


def shuffled(rows: int, held_out: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Row numbers of train and held-out part under a seeded shuffle."""
    order = np.random.default_rng(seed).permutation(rows)
    cut = round(rows * held_out)
    return order[cut:], order[:cut]


def movielens_model(config: MovieLensConfig) -> DeepFm:
    def table(name: str) -> Table:
        return Table(name, config.dim, Initializer("normal", 0.0, config.deviation))

    features = (
        Feature("user", "user_id", table("user")),
        Feature("item", "item_id", table("item")),
        Feature("age", "age", table("age"), transforms=(Bucketize(AGES),)),
        Feature("gender", "gender", table("gender"), transforms=(Hash(),)),
        Feature("occupation", "occupation", table("occupation"), transforms=(Hash(),)),
        Feature("zip", "zip", table("zip"), transforms=(Hash(),)),
        Feature("year", "release_year", table("year"), transforms=(Bucketize(YEARS),)),
        Feature("genres", "genres", table("genres"), "mean", transforms=(Hash(),)),
    )
    columns = (
        Column("user_id", "ids", 1),
        Column("item_id", "ids", 1),
        Column("age", "values", missing="empty"),
        Column("gender", "strings"),
        Column("occupation", "strings"),
        Column("zip", "strings"),
        Column("release_year", "values", missing="empty"),
        Column("genres", "strings"),
        Column("label", "values", 1),
    )
    task = Task(label="label", group="user_id")
    return DeepFm(features, columns, task, hidden=config.hidden, dropout=config.dropout)


class MovieLens:
    """The workload at its one size."""

    name = "movielens"
    sizes = ("100k",)

    def config(self, size: str) -> MovieLensConfig:
        if size not in self.sizes:
            raise ValueError(f"{self.name} has no size {size!r}; there is {self.sizes[0]}")
        return MovieLensConfig()

    def write(
        self,
        size: str,
        folder: Path | str,
        format: str = "parquet",
        seed: int = 0,
        progress: Callable[[int, int], None] | None = None,
        source: Path | str | None = None,
    ) -> dict[str, Any]:
        """Import from `source`, the folder of the atomic files; `seed` shuffles the split."""
        config = self.config(size)
        plan = {"workload": self.name, "size": size, "held_out": config.held_out, "seed": seed}
        found: list[pa.Table] = []

        def part(which: int) -> pa.Table:
            if not found:
                found.append(read_movielens(source))
            return found[0].take(shuffled(len(found[0]), config.held_out, seed)[which])

        splits = {"train": lambda: part(0), "valid": lambda: part(1)}
        return write_splits(folder, splits, plan, format=format, progress=progress)

    def model(self, size: str) -> DeepFm:
        return movielens_model(self.config(size))

    def defaults(self, size: str) -> Defaults:
        self.config(size)
        return Defaults(
            batch_size=1024,
            epochs=15,
            rule="adamw",
            lr=4e-3,
            dense_lr=2e-3,
            decay=0.3,
            dense_decay=1e-2,
        )

    def ceiling(self, folder: Path | str) -> float | None:
        return None


workload = MovieLens()
