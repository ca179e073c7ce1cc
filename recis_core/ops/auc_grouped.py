"""Area under the ROC curve of every group of samples: per user, or one group for all."""

from __future__ import annotations

import numpy as np

from recis_core import draw
from recis_core.rules import Dims, NotEmpty, Offsets, Same
from recis_core.spec import Out, Traffic, nbytes, op
from recis_core.tolerance import Tolerance
from recis_core.types import Index, Values


@op(tolerance=Tolerance({"float64": (1e-9, 1e-12)}))
def auc_grouped(labels: Values, scores: Values, offsets: Index):
    """auc [G] float64: the chance that a positive of the group scores above a negative, ties ½;
    NaN where the group lacks either. positives [G] int64: how many labels are above 0.5.

    labels, scores [n]; group g is offsets[g]:offsets[g+1].
    """
    auc = np.full(len(offsets) - 1, np.nan)
    positives = np.zeros(len(auc), np.int64)
    for g in range(len(auc)):
        own = slice(offsets[g], offsets[g + 1])
        positive, score = labels[own] > 0.5, scores[own]
        p = int(positive.sum())
        n = len(score) - p
        positives[g] = p
        if p and n:
            _, at, count = np.unique(score, return_inverse=True, return_counts=True)
            rank = np.cumsum(count) - (count - 1) / 2
            auc[g] = (rank[at][positive].sum() - p * (p + 1) / 2) / (p * n)
    return auc, positives


@auc_grouped.inputs(
    test=[
        dict(groups=0, mean=3, levels=10),
        dict(groups=1, mean=1, levels=3),
        dict(groups=1, mean=800, levels=100),
        dict(groups=9, mean=30, levels=1),
        dict(groups=200, mean=4, levels=3),
        dict(groups=50, mean=30, levels=10**6),
    ],
    bench=[dict(groups=1, mean=1 << 19, levels=10**6), dict(groups=1 << 15, mean=16, levels=10**6)],
)
def _(rng, groups, mean, levels):
    offsets = draw.offsets(rng, groups, mean)
    n = offsets[-1]
    chance = rng.integers(0, levels, n) / levels
    labels = (rng.random(n) < 0.2 + 0.5 * chance).astype(np.float32)
    # Scores of either sign: a sort by bit patterns must not go by magnitude.
    return dict(labels=labels, scores=(chance - 0.5).astype(np.float32), offsets=offsets)


@auc_grouped.outputs
def _(labels, scores, offsets):
    groups = len(offsets) - 1
    return Out("auc", (groups,), "float64"), Out("positives", (groups,), "int64")


@auc_grouped.moves
def _(labels, scores, offsets):
    read, written = nbytes(labels, scores, offsets), 16 * (len(offsets) - 1)
    return Traffic(read, written, requested=read + written)


auc_grouped.requires(
    Dims(labels=1, scores=1, offsets=1),
    Same("labels", "scores"),
    NotEmpty("offsets"),
    Offsets("offsets", lambda a: len(a["labels"])),
)
