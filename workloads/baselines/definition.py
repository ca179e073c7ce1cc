"""Baselines: other ways to train a workload, to stand beside the engine; found by name.

Shipped ones are modules of this package; others join through the entry-point group
`recis.baselines`, whose value is an object with the members of `Baseline`. None is a dependency:
one whose library is missing says so in `absent`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

import numpy as np
import torch

from workloads.definition import Workload


@dataclass(frozen=True)
class Terms:
    """What every contender trains alike.

    `data`: the workload's folder, whose first `steps` batches of `batch` rows are trained on in
    the order of the files, over and over; `optimizer` with `lr` on rows: "adam" (eps outside the
    correction, as TensorFlow and torch's SparseAdam have it), "adagrad" or "adagrad_rowwise" (eps
    1e-10); `eps`: Adam's, None for 1e-8; AdamW with `dense_lr` on the dense part; seed 0.
    `scratch`: a folder for what a baseline derives from the data.
    """

    workload: Workload
    size: str
    data: Path
    scratch: Path
    batch: int
    steps: int
    lr: float
    dense_lr: float
    device: torch.device
    optimizer: str = "adam"
    eps: float | None = None

    @property
    def rates(self) -> dict[str, float]:
        """What the rows' optimizer is given, whoever's it is."""
        eps = self.eps if self.optimizer == "adam" else None
        return {"lr": self.lr} | ({} if eps is None else {"eps": eps})


class Contender(Protocol):
    """Something that trains a step at a time."""

    def step(self) -> float:
        """Read the next batch, train on it, and return its loss before the update."""
        ...


class Rows(Protocol):
    """How rows begin, so that a baseline can begin alike."""

    def __call__(self, table: str, ids: np.ndarray, dim: int) -> torch.Tensor:
        """float32 [n, dim] on the CPU: the first weights of these ids of a table."""
        ...


class Baseline(Protocol):
    """A way to train; `absent` says why it cannot here, None if it can."""

    @property
    def name(self) -> str: ...

    def absent(self, terms: Terms) -> str | None: ...

    def contender(self, terms: Terms, rows: Rows) -> Contender: ...


def not_installed(package: str, distribution: str) -> str | None:
    """Why `package` cannot be imported; None if it can."""
    if find_spec(package) is None:
        return f"package {package} is not installed: pip install {distribution}"
    try:
        import_module(package)
    except (ImportError, OSError, RuntimeError) as error:
        return f"package {package} cannot be imported: {error}".splitlines()[0]
    return None


@dataclass(frozen=True)
class Missing:
    """A known library without a plug-in here: its name, and what would bring one."""

    name: str
    package: str
    why: str

    def absent(self, terms: Terms) -> str | None:
        return f"there is no plug-in {self.name!r} of recis.baselines here: {self.why}"

    def contender(self, terms: Terms, rows: Rows) -> Contender:
        raise RuntimeError(f"baseline {self.name}: {self.absent(terms)}")


SHIPPED = ("plain", "fbgemm", "torchrec")
# Only what was tried is shipped.
LIBRARIES = (Missing("dynamicemb", "dynamicemb", "it is built from source and runs on GPUs alone"),)


def known() -> Mapping[str, Baseline]:
    """Every baseline by name: libraries without a plug-in, the shipped ones, installed ones."""
    found: dict[str, Baseline] = {each.name: each for each in LIBRARIES}
    for name in SHIPPED:
        for each in baselines_of(import_module(f"workloads.baselines.{name}")):
            found[each.name] = each
    for point in entry_points(group="recis.baselines"):
        found[point.name] = point.load()
    return found


def baselines_of(module: object) -> Sequence[Baseline]:
    return module.baselines  # type: ignore[attr-defined]
