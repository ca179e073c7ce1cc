"""What a model says of data it does not learn from: scores, measured or written to a file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import chain, islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from recis_core.data import Batch
from recis_core.embedding import Embedding, Prepared
from recis_core.kernels import Kernels
from recis_core.metrics import Evaluation
from recis_core.objective import inputs_of, logits_of, single, target_of
from recis_core.pipeline import Pipeline, Turn
from recis_core.prediction import prediction_file


def prepared(
    embedding: Embedding, kernels: Kernels, batches: Iterable[Batch], depth: int
) -> Iterator[tuple[Batch, Prepared]]:
    """The batches on the device and what they ask for, `depth` of them prepared ahead."""

    def make(batch: Batch, _: Turn) -> tuple[Batch, Prepared]:
        return batch, embedding.prepare(batch, False)

    with Pipeline(batches, make, kernels.device, depth) as ahead:
        for item in ahead:
            yield item
            ahead.retire([item])


def scores_of(model: Any, embedding: Embedding, batch: Batch, asked: Prepared) -> Tensor:
    """Probabilities [rows] float32; unknown ids count as zeros and get no row."""
    with evaluating(model):
        leaves = embedding.lookup(asked, train=False)
        return logits_of(model, inputs_of(model, batch, leaves), batch.rows).sigmoid()


def evaluate(
    model: Any, embedding: Embedding, kernels: Kernels, batches: Iterable[Batch], depth: int = 0
) -> dict[str, float]:
    """rows, auc, grouped_auc if the task has a group, log_loss, calibration over `batches`.

    `depth`: batches to prepare ahead.
    """
    evaluation, task = Evaluation(), model.task
    for batch, asked in prepared(embedding, kernels, batches, depth):
        target = target_of(task, batch)
        groups = None if task.group is None else single(batch, task.group)
        scores = scores_of(model, embedding, batch, asked)
        evaluation.add(scores, target.labels, target.weights, groups)
    return evaluation.result(kernels)


def predict(
    model: Any,
    embedding: Embedding,
    kernels: Kernels,
    batches: Iterable[Batch],
    path: Path,
    depth: int = 0,
) -> int:
    """Write a score for every row to the Parquet file `path`; -> the number of rows.

    Columns: row, label and group if the first batch has them, score. A file that was there is
    replaced once the new one is complete. `depth`: batches to prepare ahead.
    """
    source = prepared(embedding, kernels, batches, depth)
    first = list(islice(source, 1))
    there = first[0][0].columns if first else {}
    label, group = (n if n in there else None for n in (model.task.label, model.task.group))
    with prediction_file(path, label=label is not None, group=group is not None) as file:
        for batch, asked in chain(first, source):
            known = [None if name is None else single(batch, name) for name in (label, group)]
            file.add(scores_of(model, embedding, batch, asked), *known)
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
