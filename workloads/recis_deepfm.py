"""`recis-deepfm`: the ORC files of RecIS's own DeepFM example, read as they are or imported.

Columns c1…c26 list<int64> (ids already hashed), i1…i13 list<double>, label list<double> of one;
missing values are empty lists. The last part in name order is held out.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.orc as orc

from workloads.criteo import CriteoConfig, criteo_model
from workloads.deepfm import DeepFm
from workloads.definition import Defaults
from workloads.public import write_splits

CONFIG = CriteoConfig(dim=8, hidden=(32,), dropout=0.5)


def parts(source: Path | str | None) -> list[Path]:
    """The example's ORC files under `source`, in name order; two or more."""
    if source is None:
        raise ValueError("recis-deepfm is public data: say where it lies (source)")
    found = sorted(Path(source).glob("*.orc"))
    if len(found) < 2:
        raise FileNotFoundError(f"{source}: {len(found)} ORC files, two or more are needed")
    return found


class RecisDeepFm:
    """The workload at its one size."""

    name = "recis-deepfm"
    sizes = ("example",)

    def config(self, size: str) -> CriteoConfig:
        if size not in self.sizes:
            raise ValueError(f"{self.name} has no size {size!r}; there is {self.sizes[0]}")
        return CONFIG

    def write(
        self,
        size: str,
        folder: Path | str,
        format: str = "parquet",
        seed: int = 0,
        progress: Callable[[int, int], None] | None = None,
        source: Path | str | None = None,
    ) -> dict[str, Any]:
        """Import from `source`, the folder of the ORC parts; `seed` is unused."""
        self.config(size)

        def read(held_out: bool) -> pa.Table:
            files = parts(source)
            chosen = files[-1:] if held_out else files[:-1]
            return pa.concat_tables([orc.read_table(str(file)) for file in chosen])

        splits = {"train": lambda: read(False), "valid": lambda: read(True)}
        plan = {"workload": self.name, "size": size}
        return write_splits(folder, splits, plan, format=format, progress=progress)

    def model(self, size: str) -> DeepFm:
        return criteo_model(self.config(size))

    def defaults(self, size: str) -> Defaults:
        self.config(size)
        return Defaults(
            batch_size=256,
            epochs=6,
            rule="adamw",
            lr=2e-3,
            dense_lr=2e-3,
            decay=0.1,
            dense_decay=1e-2,
        )

    def ceiling(self, folder: Path | str) -> float | None:
        return None


workload = RecisDeepFm()
