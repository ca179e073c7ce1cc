"""MovieLens-100K, rating >= 4: DeepFM on this engine beside one-hot logistic regression.

python -m workloads.baselines.movielens --source FOLDER [--backend numba]

Five seeded 80/20 splits and one by time. A tenth of each training part is the validation split
by which regularisation (rate and decay of DeepFM's rows, the C of logistic regression) and DeepFM's
epoch are chosen; both are then trained on the whole training part with that choice and scored once
on the held-out part.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import torch
from scipy.sparse import csr_matrix
from sklearn.linear_model import LogisticRegression

import backends
from recis_core import optim
from recis_core.callbacks import Callback
from recis_core.io.reader import Reader
from recis_core.kernels import Kernels
from recis_core.settings import Settings
from recis_core.train import Trainer
from workloads.movielens import movielens_model, read_movielens, shuffled, workload
from workloads.public import write_splits
from workloads.teacher import auc

STRENGTHS = (0.1, 0.3, 1.0, 3.0)
# Rate and decay of the rows, as many as there are strengths; the dense part's rate is half.
SETTINGS = ((4e-3, 0.3), (4e-3, 3.0), (1e-3, 1.0), (1e-3, 10.0))
PATIENCE = 3


class Split(NamedTuple):
    """Row numbers; `fit` and `valid` together are `train`."""

    train: np.ndarray
    fit: np.ndarray
    valid: np.ndarray
    test: np.ndarray


class Score(NamedTuple):
    """Held-out AUCs of both models, and what was chosen on the validation split."""

    deepfm: float
    logistic: float
    epochs: int
    rate: float
    decay: float
    strength: float


def random_split(rows: int, seed: int) -> Split:
    train, test = shuffled(rows, 0.2, seed)
    cut = len(train) // 10
    return Split(train, train[cut:], train[:cut], test)


def split_by_time(timestamp: np.ndarray) -> Split:
    """The last fifth is held out, the last tenth of the rest is the validation split."""
    order = np.argsort(timestamp, kind="stable")
    train, test = order[: len(order) * 4 // 5], order[len(order) * 4 // 5 :]
    cut = len(train) * 9 // 10
    return Split(train, train[:cut], train[cut:], test)


class History(Callback):
    """The validation AUC after each epoch."""

    def __init__(self) -> None:
        self.aucs: list[float] = []

    def on_evaluate(self, trainer: Trainer, metrics: Mapping[str, float]) -> None:
        self.aucs.append(metrics["auc"])


def trained(
    folder: Path,
    train: str,
    valid: str,
    kernels: Kernels,
    setting: tuple[float, float],
    epochs: int,
    seed: int,
    patience: int | None = None,
) -> list[float]:
    """AUC on split `valid` after each epoch of training on split `train`."""
    rate, decay = setting
    size = workload.sizes[0]
    defaults = workload.defaults(size)
    torch.manual_seed(seed)
    model = movielens_model(workload.config(size))
    history = History()

    def reader(name: str, **how: Any) -> Reader:
        return Reader(folder / name, model.columns, defaults.batch_size, kernels=kernels, **how)

    trainer = Trainer(
        model,
        kernels,
        optim.AdamW(lr=rate, decay=decay),
        reader(train, shuffle=True, seed=seed, epochs=epochs),
        valid=lambda: reader(valid),
        settings=Settings(
            dense=lambda p: torch.optim.AdamW(p, lr=rate / 2, weight_decay=defaults.dense_decay),
            seed=seed,
            patience=patience,
        ),
        callbacks=[history],
    )
    trainer.train()
    return history.aucs


def deepfm(
    table: pa.Table, split: Split, kernels: Kernels, seed: int
) -> tuple[float, int, tuple[float, float]]:
    """Held-out AUC, and the epochs, rate and decay the validation split chose."""
    most = workload.defaults(workload.sizes[0]).epochs
    parts = {name: lambda at=at: table.take(at) for name, at in split._asdict().items()}
    with tempfile.TemporaryDirectory() as folder:
        write_splits(folder, parts, {"workload": "movielens"})
        at = Path(folder)
        tried = {
            each: trained(at, "fit", "valid", kernels, each, most, seed, PATIENCE)
            for each in SETTINGS
        }
        best = max(SETTINGS, key=lambda each: max(tried[each]))
        epochs = int(np.argmax(tried[best])) + 1
        return trained(at, "train", "test", kernels, best, epochs, seed)[-1], epochs, best


def logistic(table: pa.Table, split: Split) -> tuple[float, float]:
    """Held-out AUC of one-hot logistic regression, and the C that the validation split chose."""
    label = table["label"].to_numpy()
    places, width = [], 0
    for name in ("user_id", "item_id"):
        known, place = np.unique(table[name].to_numpy(), return_inverse=True)
        places.append(place + width)
        width += len(known)
    rows = np.repeat(np.arange(len(label)), len(places))
    ones = csr_matrix((np.ones(len(rows)), (rows, np.stack(places, 1).ravel())))

    def score(fit: np.ndarray, test: np.ndarray, strength: float) -> float:
        model = LogisticRegression(C=strength, max_iter=500).fit(ones[fit], label[fit])
        return auc(model.decision_function(ones[test]), label[test])

    best = max(STRENGTHS, key=lambda c: score(split.fit, split.valid, c))
    return score(split.train, split.test, best), best


def scored(table: pa.Table, split: Split, kernels: Kernels, seed: int) -> Score:
    ours, epochs, setting = deepfm(table, split, kernels, seed)
    theirs, strength = logistic(table, split)
    return Score(ours, theirs, epochs, *setting, strength)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--source", type=Path, required=True)
    parser.add_argument("--backend", default="numba")
    parser.add_argument("--splits", type=int, default=5)
    chosen = parser.parse_args()
    kernels = backends.load(chosen.backend)
    table = read_movielens(chosen.source)
    by_time = scored(table, split_by_time(table["timestamp"].to_numpy()), kernels, 0)
    print(f"by time: {said(by_time)}", file=sys.stderr)
    scores = []
    for seed in range(chosen.splits):
        scores.append(scored(table, random_split(len(table), seed), kernels, seed))
        print(f"split {seed}: {said(scores[-1])}", file=sys.stderr, flush=True)
    mean = statistics.mean(s.deepfm for s in scores)
    gain = statistics.mean(s.deepfm - s.logistic for s in scores)
    print(f"mean AUC {mean:.4f}, paired gain {gain:+.4f}", file=sys.stderr)
    print(json.dumps({
        "mean": mean, "gain": gain, "splits": [s._asdict() for s in scores],
        "by_time": by_time._asdict(),
    }))  # fmt: skip


def said(score: Score) -> str:
    return (
        f"DeepFM {score.deepfm:.4f} ({score.epochs} epochs, rate {score.rate}, "
        f"decay {score.decay}), "
        f"logistic regression {score.logistic:.4f} (C {score.strength})"
    )


if __name__ == "__main__":
    main()
