"""The engine as a contender of a comparison, and how its rows begin, for others to begin alike."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from functools import partial
from itertools import islice
from typing import Any

import numpy as np
import torch

from recis_core import optim
from recis_core.blocks import Blocks, Slot
from recis_core.callbacks import Callback, Step
from recis_core.io.reader import Reader
from recis_core.kernels import Kernels
from recis_core.mixing import table_salt
from recis_core.packing import laid_out
from recis_core.roofs import Roofs
from recis_core.settings import Settings
from recis_core.train import Trainer
from reports.compare_drift import Noise, disturbed, shake
from roofline.observer import Observer
from roofline.step import step_facts
from workloads.baselines.definition import Terms

# By name, the row optimizers a comparison can be made with, in the form baselines have.
RULES: dict[str, Callable[..., optim.Rule]] = {
    "adam": partial(optim.Adam, form="tensorflow"),
    "adagrad": optim.Adagrad,
    "adagrad_rowwise": optim.RowwiseAdagrad,
}


class Engine:
    """This project's trainer as a contender: its own loop, batches in the order of the files."""

    def __init__(self, terms: Terms, kernels: Kernels) -> None:
        self.terms, self.kernels = terms, kernels
        self.told = Losses()
        self.trainer = self.made(kernels, self.told)
        self.loop = self.trainer.steps()

    def made(self, kernels: Kernels, told: Callback, steps: int | None = None) -> Trainer:
        """A trainer that begins as every contender does."""
        terms = self.terms
        torch.manual_seed(0)
        model: Any = terms.workload.model(terms.size)
        columns = laid_out(model.columns, model.features)
        reader = Reader(terms.data / "train", columns, terms.batch, epochs=None,
                        drop_remainder=True, kernels=kernels)  # fmt: skip
        settings = Settings(dense=self.dense, steps=steps)
        rule = RULES[terms.optimizer](**terms.rates)
        return Trainer(model, kernels, rule, reader, settings=settings, callbacks=[told])

    def dense(self, parameters: Any) -> torch.optim.Optimizer:
        return torch.optim.AdamW(parameters, lr=self.terms.dense_lr)

    def step(self) -> float:
        next(self.loop)
        return self.told.last

    def twin(self, steps: int) -> list[float]:
        """The losses of the first steps where every result is off by what rounding may do."""
        noise = Noise(self.kernels.device, seed=1)
        told = Losses()
        trainer = self.made(disturbed(self.kernels), told)
        losses = []
        with closing(trainer.steps()) as loop:
            for _ in islice(loop, steps):
                losses.append(told.last)
                shake(trainer.parameters, noise)
        return losses

    def close(self) -> None:
        """End the threads that prepare batches ahead."""
        self.loop.close()

    def traced(self, steps: int, roofs: Roofs) -> dict[str, Any]:
        """Where the time of further steps goes, from a trainer of its own."""
        observer = Observer(warm=3, most=steps, few=2)
        kernels = observer.wrap(self.kernels)
        self.made(kernels, observer, observer.steps).train()
        return step_facts(observer.seen, roofs, kernels.origins)


class Losses(Callback):
    """The loss of the last step that was told of."""

    last = float("nan")

    def on_step(self, trainer: Trainer, step: Step) -> None:
        self.last = step.loss


class FirstRows:
    """How the engine begins rows of a workload's tables, for baselines to begin alike."""

    def __init__(self, model: Any, kernels: Kernels, seed: int = 0) -> None:
        self.tables = {feature.table.name: feature.table for feature in model.features}
        self.kernels, self.seed = kernels, seed

    def __call__(self, table: str, ids: np.ndarray, dim: int) -> torch.Tensor:
        start, device = self.tables[table].initializer, self.kernels.device
        blocks = Blocks([Slot("weight", dim)], 16, torch.device(device))
        blocks.grow(max(len(ids), 1))
        rows = torch.arange(len(ids), dtype=torch.int32, device=device)
        self.kernels.rows_init(
            blocks,
            rows,
            torch.ones(len(ids), dtype=torch.bool, device=device),
            torch.zeros(len(ids), dtype=torch.int32, device=device),
            torch.from_numpy(np.array(ids)).to(device),
            torch.tensor([table_salt(table)], device=device),
            self.seed,
            start.kind,
            start.a,
            start.b,
        )
        return self.kernels.rows_gather(blocks, "weight", rows).cpu()
