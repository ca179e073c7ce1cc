"""What a model says of data it does not learn from: scores, measured or written to a file."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import chain, islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from recis_core.data import Batch
from recis_core.dense import forward_of
from recis_core.embedding import Embedding, Prepared
from recis_core.kernels import Kernels
from recis_core.metrics import Evaluation
from recis_core.objective import Checks, inputs_of, labels_of, logits_of, single, weights_of
from recis_core.pipeline import Pipeline
from recis_core.prediction import prediction_file
from recis_core.task import Task, task_name, tasks_of

Forward = Callable[[Mapping[str, Tensor]], Tensor]


def scores_of(
    model: Any,
    embedding: Embedding,
    batch: Batch,
    asked: Batch | Prepared,
    forward: Forward | None = None,
) -> Tensor:
    """Probabilities [rows, tasks] float32; unknown ids count as zeros and get no row.

    `forward`: how the model is called, such as `dense.forward_of` makes; itself if None.
    """
    with evaluating(model):
        inputs = inputs_of(model, batch, embedding.lookup(asked, train=False))
        tasks = len(tasks_of(model))
        logits = logits_of(forward or forward_of(model), inputs, batch.rows, tasks)
        return logits.sigmoid().view(batch.rows, tasks)


def scored(
    model: Any,
    embedding: Embedding,
    kernels: Kernels,
    batches: Iterable[Batch],
    depth: int,
    forward: Forward | None,
) -> Iterator[tuple[Batch, tuple[Tensor, ...]]]:
    """The batches on the device and their scores by task, `depth` batches prepared ahead."""
    device = kernels.device

    def make(batch: Batch) -> tuple[Batch, Prepared]:
        return batch, embedding.prepare(batch, False)

    moved = (batch.to(device, non_blocking=True) for batch in batches)
    with Pipeline(moved, make, device, depth) as ahead:
        for batch, asked in ahead:
            scores = scores_of(model, embedding, batch, asked, forward).unbind(1)
            ahead.fill()
            yield batch, scores
            ahead.retire([(batch, asked)])


def evaluate(
    model: Any,
    embedding: Embedding,
    kernels: Kernels,
    batches: Iterable[Batch],
    depth: int = 0,
    forward: Forward | None = None,
) -> dict[str, float]:
    """rows, auc, grouped_auc if the task has a group, log_loss, calibration over `batches`.

    Of several tasks the first one's figures are called so, those of each other "name.auc" ….
    `depth`: batches to prepare ahead.
    """
    tasks = tasks_of(model)
    evaluations = [Evaluation() for _ in tasks]
    for batch, scores in scored(model, embedding, kernels, batches, depth, forward):
        for task, evaluation, own in zip(tasks, evaluations, scores, strict=True):
            groups = None if task.group is None else single(batch, task.group)
            checks = Checks()
            labels, weights = labels_of(task, batch, checks), weights_of(task, batch, checks)
            checks.send().require()
            evaluation.add(own, labels, weights, groups)
    measured: dict[str, float] = {}
    for task, evaluation in zip(tasks, evaluations, strict=True):
        found = evaluation.result(kernels)
        measured |= prefixed(found, task) if measured else found
    return measured


def prefixed(figures: dict[str, float], task: Task) -> dict[str, float]:
    return {f"{task_name(task)}.{name}": f for name, f in figures.items() if name != "rows"}


def predict(
    model: Any,
    embedding: Embedding,
    kernels: Kernels,
    batches: Iterable[Batch],
    path: Path,
    depth: int = 0,
    forward: Forward | None = None,
) -> int:
    """Write the scores of every row to the Parquet file `path`; -> the number of rows.

    Columns: row; label and group if the first batch has them; score; of each task after the first
    "name.label" and "name.score". A file that was there is replaced once the new one is complete.
    `depth`: batches to prepare ahead.
    """
    source = scored(model, embedding, kernels, batches, depth, forward)
    first = list(islice(source, 1))
    there = first[0][0].columns if first else {}
    main, *others = tasks_of(model)
    known = {"label": main.label, "group": main.group}
    known |= {f"{task_name(task)}.label": task.label for task in others}
    known = {name: column for name, column in known.items() if column in there}
    names = ["score", *(f"{task_name(task)}.score" for task in others)]
    with prediction_file(path, [*known, *names]) as file:
        for batch, scores in chain(first, source):
            given = {name: single(batch, column) for name, column in known.items() if column}
            file.add({**given, **dict(zip(names, scores, strict=True))})
    return file.rows


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """The model in evaluation mode, without gradients; then as it was."""
    before = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(before)
