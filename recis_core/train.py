"""The training loop: batches to a trained model, with evaluation, prediction, exact resume."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import nn

from recis_core import checkpoint, inference, resume
from recis_core.callbacks import Callback
from recis_core.checkpoint import CheckpointError
from recis_core.clipping import clip_and_guard, step_if, steps_if_told
from recis_core.data import Batch
from recis_core.dense import forward_of
from recis_core.dense_graph import Act, nothing, run_of
from recis_core.early_stop import EarlyStop
from recis_core.embedding import Embedding
from recis_core.interrupt import Interrupt, Interrupted
from recis_core.kernels import Kernels
from recis_core.leaves import layout_of
from recis_core.metrics import RunningLoss
from recis_core.objective import target_of
from recis_core.optim import RowOptimizer, Rule
from recis_core.pending import Pending
from recis_core.pipeline import depth_of
from recis_core.settings import Settings, TrainReader
from recis_core.step import Launched, Numbers, Ready, gradients, pipeline_of
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
        self.kernels, self.settings, self.reader = kernels, settings, reader
        self.valid, self.folder, self.callbacks = valid, folder, tuple(callbacks)
        self.embedding = embedding(self.model.features, kernels, rule, seed=settings.seed)
        how = settings.precision, settings.compile, layout_of(self.embedding.runs)
        self.forward = forward_of(self.model, *how)
        self.row_optimizer = RowOptimizer(self.embedding, rule)
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        groups = getattr(model, "parameter_groups", lambda: self.parameters)()
        self.dense_optimizer = settings.dense(groups) if self.parameters else None
        self.run = run_of(settings.graph, settings.accumulation, self.embedding, self.parameters)
        self.optimizers = [o for o in (self.dense_optimizer, self.row_optimizer) if o is not None]
        self.schedulers = (
            [settings.scheduler(o) for o in self.optimizers] if settings.scheduler else []
        )
        self.step = self.epoch = self.rows = self.skipped = self.skipped_in_a_row = 0
        self.running = RunningLoss()
        self.metrics: dict[str, float] = {}
        self.evaluated = self._saved = -1  # the step `metrics` are of; of the last checkpoint
        self.passed_over: tuple[str, ...] = ()
        self.interrupt = Interrupt()
        self.early = EarlyStop(settings.metric, settings.patience)
        self._position: Any = None  # while the reader is ahead of the training

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
                self.tell("on_start")
                self._run()
            reason = "stopped" if self.early.reached else "done"
        except (Interrupted, KeyboardInterrupt):
            reason = "interrupted"
            raise
        finally:
            self.tell("on_end", reason)
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

    @property
    def position(self) -> Any:
        """The reader's state after the last batch that was trained on; None without a reader."""
        if self._position is not None or self.reader is None:
            return self._position
        return self.reader.state()

    def _run(self) -> None:
        """Step after step, and at the end what was not just done."""
        with closing(self.steps()) as steps:
            deque(steps, maxlen=0)
        if self.valid is not None and self.evaluated != self.step:
            self._evaluate()
        if self.folder is not None and self._saved != self.step:
            self.save()

    def steps(self) -> Generator[None]:
        """The loop of `train`, to be driven from outside: hands back after each step; close it."""
        assert self.reader is not None, "a trainer without a reader does not train"
        settings, epoch = self.settings, self.epoch
        self._position = self.reader.state()
        try:
            depth = depth_of(settings.overlap, self.kernels.device) * settings.accumulation
            with pipeline_of(self.reader, self.embedding, self.tasks, depth) as ahead:
                pending = Pending(self)
                while not (self.step == settings.steps or self.early.reached):
                    ready = list(islice(ahead, settings.accumulation))
                    if not ready:
                        break
                    launched = self.launch_step(ready, pending.flush, ahead.fill)
                    ahead.retire(ready)
                    pending.add(launched)
                    ended, epoch = self.epoch > epoch, self.epoch
                    self._between(pending, ended)
                    yield
                pending.flush()
        finally:
            # Batches that were read ahead are still to be trained on.
            if self.reader.state() != self._position:
                self.reader.restore(self._position)
            self._position = None

    def _between(self, pending: Pending, epoch_ended: bool) -> None:
        """What is due after a step."""
        evaluate = self.valid is not None and self._due(self.settings.evaluate_every, epoch_ended)
        save = self.folder is not None and self._due(self.settings.save_every, epoch_ended)
        if not (evaluate or save or self.interrupt.requested):
            return
        pending.flush()
        if evaluate:
            self._evaluate()
        if save:
            self.save()
        if self.interrupt.requested:
            self._leave()
        pending.resume()

    def _due(self, every: int | None, epoch_ended: bool) -> bool:
        return epoch_ended if every is None else self.step % every == 0

    def train_step(self, batches: Sequence[Batch]) -> dict[str, Any]:
        """One optimizer step over `batches`, as if they were one; -> the fields of `Step`."""
        moved = [batch.to(self.kernels.device) for batch in batches]
        tasks, position = self.tasks, self.position
        ready = [Ready(batch, target_of(tasks, batch), batch, position) for batch in moved]
        return self.settle(self.launch_step(ready))

    def launch_step(
        self, ready: Sequence[Ready], settled: Act = nothing, meanwhile: Act = nothing
    ) -> Launched:
        """Start one optimizer step over batches made ready; `settle` tells how it went.

        `settled` is called before anything but new rows changes; `meanwhile`: see `gradients`.
        """
        self.model.train()
        shares = gradients(self.model, self.forward, self.run, self.embedding, ready, meanwhile)
        settings, dense = self.settings, self.dense_optimizer
        numbers = Numbers(shares)
        read = None if steps_if_told(dense) else numbers.read
        guard = settings.guard > 0
        clipped = clip_and_guard(self.parameters, self.embedding, settings.clip, guard, read)
        numbers.send(clipped.norm)
        settled()
        if clipped.finite:
            if dense is not None:
                step_if(dense, clipped.keep)
            self.row_optimizer.step(clipped.scale, clipped.keep)
        for optimizer in self.optimizers:
            optimizer.zero_grad()
        for scheduler in self.schedulers:
            scheduler.step()
        return self._count(ready, numbers)

    def _count(self, ready: Sequence[Ready], numbers: Numbers) -> Launched:
        """Advance the counters past a step."""
        epoch, rows = self.epoch, sum(each.batch.rows for each in ready)
        self.step += 1
        self.rows += rows
        if ready[-1].position is not None:
            self.epoch = int(ready[-1].position["epoch"])
            if self._position is not None:
                self._position = ready[-1].position
        return Launched(self.step, epoch, rows, numbers)

    def settle(self, launched: Launched) -> dict[str, Any]:
        """The fields of `Step`; waits for the device. FloatingPointError after too many skipped."""
        loss, norm = launched.numbers.values()
        skipped = self.settings.guard > 0 and norm is not None and not math.isfinite(norm)
        self.skipped += skipped
        self.skipped_in_a_row = (self.skipped_in_a_row + 1) if skipped else 0
        if skipped:
            self.row_optimizer.take_back()
        if self.skipped_in_a_row > self.settings.guard > 0:
            raise FloatingPointError(
                f"step {launched.step}: the gradient was not finite in "
                f"{self.skipped_in_a_row} successive steps, loss {loss}"
            )
        if not skipped:
            self.running.add(loss)
        return {**launched.counted(), "loss": loss, "norm": norm, "skipped": skipped}

    def evaluate(self, batches: Iterable[Batch]) -> dict[str, float]:
        """rows, auc, grouped_auc if the task has a group, log_loss, calibration over `batches`."""
        depth = depth_of(self.settings.overlap, self.kernels.device)
        given = self.model, self.embedding, self.kernels, batches
        return inference.evaluate(*given, depth=depth, forward=self.forward)

    def predict(self, batches: Iterable[Batch], path: Path) -> int:
        """Write row, label and group if they are there, and score to `path`; -> rows written."""
        depth = depth_of(self.settings.overlap, self.kernels.device)
        given = self.model, self.embedding, self.kernels, batches, path
        return inference.predict(*given, depth=depth, forward=self.forward)

    def save(self) -> Path:
        """Write a checkpoint of this moment, between two steps; CheckpointError if that fails."""
        assert self.folder is not None, "a trainer without a folder does not save"
        given = self.folder, self.embedding, self.model.state_dict(), resume.state_of(self)
        keep, kernels = self.settings.keep, self.kernels
        path = checkpoint.save(*given, kernels=kernels, step=self.step, keep=keep)
        self._saved = self.step
        self.tell("on_save", path)
        return path

    def restore(self, path: Path) -> None:
        """Be where the checkpoint `path` was saved: rows, parameters, optimizers, reader, RNG."""
        resume.take_up(self, checkpoint.load(path, self.embedding, kernels=self.kernels))
        self._saved = self.step

    def _evaluate(self) -> None:
        assert self.valid is not None
        self.metrics, self.evaluated = self.evaluate(self.valid()), self.step
        self.early.see(self.metrics, self.step)
        self.tell("on_evaluate", self.metrics)

    def _leave(self) -> None:
        if self.folder is None:
            raise Interrupted(f"stopped after step {self.step}; nothing saved, there is no folder")
        if self._saved != self.step:
            self.save()
        raise Interrupted(f"saved step {self.step}, resume with --resume")

    def tell(self, what: str, *about: Any) -> None:
        """Call the method `what` of every callback."""
        for callback in self.callbacks:
            getattr(callback, what)(self, *about)
