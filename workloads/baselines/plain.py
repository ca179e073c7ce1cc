"""`mse` in plain PyTorch as a baseline: eager, and with its dense part under torch.compile."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import Any

import torch

from workloads.baselines.definition import Contender, Rows, Terms
from workloads.baselines.plain_torch import PlainMse, trainer, unfit


@dataclass(frozen=True)
class Plain:
    """EmbeddingBag(sparse=True) with SparseAdam or Adagrad over ids numbered offline, dense part
    with AdamW.

    The tables begin with the engine's weights, so losses agree step by step. The offline numbering
    spares it the id map and the deduplication's bookkeeping. `compiled`: torch.compile of the
    dense part; sparse embeddings stay eager, as torch.compile leaves them.
    """

    name: str
    compiled: bool

    def absent(self, terms: Terms) -> str | None:
        if reason := unfit(terms, ("adam", "adagrad"), "PyTorch"):
            return reason
        if self.compiled and shutil.which("g++") is None and shutil.which("clang++") is None:
            return "torch.compile needs a C++ compiler on the CPU, and there is none"
        return None

    def contender(self, terms: Terms, rows: Rows) -> Contender:
        kind: Any = torch.optim.SparseAdam if terms.optimizer == "adam" else torch.optim.Adagrad

        def sparse(model: Any) -> torch.optim.Optimizer:
            return kind(list(model.tables.parameters()), **terms.rates)

        made = trainer(terms, rows, PlainMse, sparse)
        if self.compiled:
            dense: Any = torch.compile(made.model.dense)
            made.model.dense = dense
        return made


baselines = (Plain("plain", compiled=False), Plain("compile", compiled=True))
