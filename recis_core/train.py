"""The training loop: batches to a trained model, with evaluation, prediction, exact resume."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from recis_core import checkpoint, inference, resume
from recis_core.callbacks import Callback, Step
from recis_core.checkpoint import CheckpointError
from recis_core.clipping import clip_and_guard
from recis_core.data import Batch
from recis_core.dense import forward_of
from recis_core.embedding import Embedding
from recis_core.interrupt import Interrupt, Interrupted
from recis_core.kernels import Kernels
from recis_core.metrics import RunningLoss
from recis_core.objective import inputs_of, logits_of, loss_of, target_of, total_of
from recis_core.optim import RowOptimizer, Rule
from recis_core.settings import Settings, TrainReader
from recis_core.task import tasks_of

__all__ = ["Interrupted", "Settings", "TrainReader", "Trainer"]


class Trainer:
    """Trains, evaluates and predicts with a model that has `features`, `columns` and `task`.

    The model's own parameters are as the caller made them: seed torch before making it.
    """

    def __init__(
        self,
        model: nn.Module,
        kernels: Kernels,
        rule: Rule,
        reader: TrainReader | None = None,
        *,
        valid: Callable[[], Iterable[Batch]] | None = None,
        settings: Settings | None = None,
        folder: Path | None = None,
        callbacks: Sequence[Callback] = (),
        embedding: Callable[..., Embedding] = Embedding,
    ) -> None:
        """`reader`: None where nothing is trained. `valid` opens the validation data anew.

        `folder`: where checkpoints go; None saves none. `embedding` makes the engine.
        """
        settings = settings or Settings()
        if settings.threads is not None:
            torch.set_num_threads(settings.threads)
        self.model: Any = model.to(kernels.device)
        self.tasks = tasks_of(model)
        self.forward = forward_of(self.model, settings.precision, settings.compile)
        self.kernels, self.settings, self.reader = kernels, settings, reader
        self.valid, self.folder, self.callbacks = valid, folder, tuple(callbacks)
        self.embedding = embedding(self.model.features, kernels, rule, seed=settings.seed)
        self.row_optimizer = RowOptimizer(self.embedding, rule)
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        self.dense_optimizer = settings.dense(self.parameters) if self.parameters else None
        self.optimizers = [o for o in (self.dense_optimizer, self.row_optimizer) if o is not None]
        self.schedulers = (
            [settings.scheduler(o) for o in self.optimizers] if settings.scheduler else []
        )
        self.step = self.epoch = self.rows = self.skipped = 0
        self.running = RunningLoss()
        self.metrics: dict[str, float] = {}
        self.evaluated = -1  # the step `metrics` are of
        self.passed_over: tuple[str, ...] = ()
        self.interrupt = Interrupt()
        self.skipped_in_a_row = 0
        self._saved = -1

    @property
    def fraction(self) -> float | None:
        """How much of the training is done, None if there is no end to it."""
        assert self.reader is not None
        epochs, steps = self.reader.epochs, self.settings.steps
        parts = [self.step / steps] if steps else []
        if epochs is not None:
            parts.append(self.rows / max(self.reader.rows * epochs, 1))
        return min(max(parts), 1.0) if parts else None

    def train(self, *, resume: bool = False) -> dict[str, float]:
        """Train to the end and return the last evaluation (empty without validation data).

        `resume` goes on from the newest checkpoint of the folder; without it the folder must hold
        none. Interrupted after Ctrl-C, when the step is saved; CheckpointError, FloatingPointError.
        """
        self._begin(resume)
        reason = "failed"
        try:
            with self.interrupt:
                self._tell("on_start")
                self._run()
            reason = "done"
        except (Interrupted, KeyboardInterrupt):
            reason = "interrupted"
            raise
        finally:
            self._tell("on_end", reason)
        return self.metrics

    def _begin(self, resume: bool) -> None:
        if resume:
            if self.folder is None:
                raise CheckpointError("no folder to resume from")
            found = checkpoint.find(self.folder)
            self.passed_over = found.skipped
            self.restore(found.path)
            return
        if self.folder is not None and (older := checkpoint.steps(self.folder)):
            raise CheckpointError(
                f"{self.folder} holds checkpoints up to step {older[-1][0]}: "
                "resume from them or choose another folder"
            )
        torch.manual_seed(self.settings.seed)

    def _run(self) -> None:
        """Step after step; what is due between them; at the end, what was not just done."""
        settings, epoch = self.settings, self.epoch
        began = time.perf_counter()
        for batches in self._groups_of_batches():
            done = self.train_step(batches)
            self._tell("on_step", Step(**done, seconds=time.perf_counter() - began))
            ended, epoch = self.epoch > epoch, self.epoch
            if self.valid is not None and self._due(settings.evaluate_every, ended):
                self._evaluate()
            if self.folder is not None and self._due(settings.save_every, ended):
                self.save()
            if self.interrupt.requested:
                self._leave()
            began = time.perf_counter()
        if self.valid is not None and self.evaluated != self.step:
            self._evaluate()
        if self.folder is not None and self._saved != self.step:
            self.save()

    def _due(self, every: int | None, epoch_ended: bool) -> bool:
        return epoch_ended if every is None else self.step % every == 0

    def _groups_of_batches(self) -> Iterator[list[Batch]]:
        """The batches of each step; the last step may have fewer."""
        assert self.reader is not None, "a trainer without a reader does not train"
        source = iter(self.reader)
        while self.settings.steps is None or self.step < self.settings.steps:
            batches = list(islice(source, self.settings.accumulation))
            if not batches:
                return
            yield batches

    def train_step(self, batches: Sequence[Batch]) -> dict[str, Any]:
        """One optimizer step over `batches`, as if they were one; -> the fields of `Step`."""
        self.model.train()
        batches = [batch.to(self.kernels.device) for batch in batches]
        targets = [target_of(self.tasks, batch) for batch in batches]
        # Every micro-batch's loss is divided by the weight of all: gradients then simply add up.
        total = total_of(targets)
        loss = 0.0
        for batch, target in zip(batches, targets, strict=True):
            leaves = self.embedding.lookup(batch, train=True)
            inputs = inputs_of(self.model, batch, leaves)
            logits = logits_of(self.forward, inputs, batch.rows, len(self.tasks))
            share = loss_of(logits, target, total)
            share.backward()
            self.embedding.accumulate()
            loss += share.item()
        clipped = clip_and_guard(
            self.parameters, self.embedding, self.settings.clip, self.settings.guard > 0
        )
        if clipped.finite:
            if self.dense_optimizer is not None:
                self.dense_optimizer.step()
            self.row_optimizer.step(clipped.scale)
        for optimizer in self.optimizers:
            optimizer.zero_grad()
        for scheduler in self.schedulers:
            scheduler.step()
        return self._count(batches, loss, clipped.norm, not clipped.finite)

    def _count(
        self, batches: Sequence[Batch], loss: float, norm: Tensor | None, skipped: bool
    ) -> dict[str, Any]:
        """Advance the counters past a step; FloatingPointError if too many were skipped."""
        epoch, rows = self.epoch, sum(batch.rows for batch in batches)
        self.step += 1
        self.rows += rows
        if self.reader is not None:
            self.epoch = int(self.reader.state()["epoch"])
        self.skipped += skipped
        self.skipped_in_a_row = (self.skipped_in_a_row + 1) if skipped else 0
        if self.skipped_in_a_row > self.settings.guard > 0:
            raise FloatingPointError(
                f"step {self.step}: the gradient was not finite in "
                f"{self.skipped_in_a_row} successive steps, loss {loss}"
            )
        if not skipped:
            self.running.add(loss)
        number = None if norm is None else float(norm)
        return dict(step=self.step, epoch=epoch, rows=rows, loss=loss, norm=number, skipped=skipped)

    def evaluate(self, batches: Iterable[Batch]) -> dict[str, float]:
        """rows, auc, grouped_auc if the task has a group, log_loss, calibration over `batches`."""
        given = self.model, self.embedding, self.kernels, batches
        return inference.evaluate(*given, forward=self.forward)

    def predict(self, batches: Iterable[Batch], path: Path) -> int:
        """Write row, label and group if they are there, and score to `path`; -> rows written."""
        given = self.model, self.embedding, self.kernels, batches, path
        return inference.predict(*given, forward=self.forward)

    def save(self) -> Path:
        """Write a checkpoint of this moment, between two steps; CheckpointError if that fails."""
        assert self.folder is not None, "a trainer without a folder does not save"
        path = checkpoint.save(
            self.folder,
            self.embedding,
            self.model.state_dict(),
            resume.state_of(self),
            kernels=self.kernels,
            step=self.step,
            keep=self.settings.keep,
        )
        self._saved = self.step
        self._tell("on_save", path)
        return path

    def restore(self, path: Path) -> None:
        """Be where the checkpoint `path` was saved: rows, parameters, optimizers, reader, RNG."""
        resume.take_up(self, checkpoint.load(path, self.embedding, kernels=self.kernels))
        self._saved = self.step

    def _evaluate(self) -> None:
        assert self.valid is not None
        self.metrics, self.evaluated = self.evaluate(self.valid()), self.step
        self._tell("on_evaluate", self.metrics)

    def _leave(self) -> None:
        if self.folder is None:
            raise Interrupted(f"stopped after step {self.step}; nothing saved, there is no folder")
        if self._saved != self.step:
            self.save()
        raise Interrupted(f"saved step {self.step}, resume with --resume")

    def _tell(self, what: str, *about: Any) -> None:
        for callback in self.callbacks:
            getattr(callback, what)(self, *about)
