"""`mse` in plain PyTorch as a baseline: eager, and with its dense part under torch.compile."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import Any

import torch

from workloads.baselines.definition import Contender, Rows, Terms
from workloads.baselines.numbered import numbered
from workloads.baselines.plain_torch import PlainTrainer
from workloads.mse import Mse, fields


@dataclass(frozen=True)
class Plain:
    """EmbeddingBag(sparse=True) with SparseAdam over ids numbered offline, dense part with AdamW.

    The tables begin with the engine's weights, so losses agree step by step. The offline numbering
    spares it the id map and the deduplication's bookkeeping. `compiled`: torch.compile of the
    dense part; sparse embeddings stay eager, as torch.compile leaves them.
    """

    name: str
    compiled: bool

    def absent(self, terms: Terms) -> str | None:
        if not isinstance(terms.workload, Mse):
            return f"it has a model for mse alone, not for {terms.workload.name}"
        if terms.device.type != "cpu":
            return f"it reads to the CPU; the device is {terms.device.type}"
        if not any((terms.data / "train").glob("*.parquet")):
            return f"it reads Parquet, and {terms.data / 'train'} has none"
        if self.compiled and shutil.which("g++") is None and shutil.which("clang++") is None:
            return "torch.compile needs a C++ compiler on the CPU, and there is none"
        return None

    def contender(self, terms: Terms, rows: Rows) -> Contender:
        config = terms.workload.config(terms.size)
        trainer_rows: dict[str, torch.Tensor] = {}
        ids = [field.column.name for field in fields(config)]
        made = numbered(terms.data, terms.scratch / "plain", ids, terms.batch, terms.steps)
        for field in fields(config):
            name = field.column.name
            trainer_rows[name] = rows(name, made.ids[name], field.dim)
        trainer = PlainTrainer(config, made.folder, terms.batch, terms.lr, terms.dense_lr)
        with torch.no_grad():
            for name, first in trainer_rows.items():
                table: Any = trainer.model.tables[name]
                table.weight[: len(first)] = first
        if self.compiled:
            dense: Any = torch.compile(trainer.model.dense)
            trainer.model.dense = dense
        return trainer


baselines = (Plain("plain", compiled=False), Plain("compile", compiled=True))
