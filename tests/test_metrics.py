"""Metrics against hand-made cases and scikit-learn."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

import backends
from recis_core.metrics import Evaluation, RunningLoss, auc, calibration, grouped_auc, log_loss


@pytest.fixture(params=["reference", "torch", "numba"])
def kernels(request):
    if reason := backends.find(request.param).absent():
        pytest.skip(reason)
    return backends.load(request.param)


def floats(*values):
    return torch.tensor(values, dtype=torch.float32)


@pytest.mark.parametrize(
    ("scores", "labels", "want"),
    [
        ((0.1, 0.4, 0.35, 0.8), (0, 0, 1, 1), 0.75),
        ((0.5, 0.5), (0, 1), 0.5),
        ((0.9, 0.1), (0, 1), 0.0),
        ((0.2, 0.2, 0.7), (0, 1, 1), 0.75),
        ((0.3, 0.6), (1, 1), math.nan),
        ((0.3, 0.6), (0, 0), math.nan),
        ((0.3, math.nan), (0, 1), math.nan),
    ],
)
def test_auc_by_hand(kernels, scores, labels, want):
    assert auc(kernels, floats(*scores), floats(*labels)) == pytest.approx(want, nan_ok=True)


def test_auc_equals_scikit_learn(kernels):
    rng = np.random.default_rng(0)
    metrics = pytest.importorskip("sklearn.metrics")
    for levels in (4, 10**6):
        scores = (rng.integers(0, levels, 3000) / levels).astype(np.float32)
        labels = (rng.random(3000) < scores).astype(np.float32)
        got = auc(kernels, torch.from_numpy(scores), torch.from_numpy(labels))
        assert got == pytest.approx(metrics.roc_auc_score(labels, scores), abs=1e-9)


def test_grouped_auc_by_hand(kernels):
    # Group 7: AUC 1, two positives. Group -3: AUC 0, one. 5: one class. 9: one row.
    groups = torch.tensor([7, -3, 5, 7, -3, 9, 5, 7])
    scores = floats(0.9, 0.2, 0.5, 0.1, 0.8, 0.4, 0.6, 0.3)
    labels = floats(1, 1, 1, 0, 0, 1, 1, 1)
    assert grouped_auc(kernels, scores, labels, groups) == pytest.approx((2 * 1 + 1 * 0) / 3)


def test_grouped_auc_is_the_weighted_mean_over_groups(kernels):
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(1)
    groups = rng.integers(-5, 60, 900)
    scores = rng.integers(0, 20, 900).astype(np.float32) / 20
    labels = (rng.random(900) < 0.4).astype(np.float64)
    total = weight = 0.0
    for group in np.unique(groups):
        own = groups == group
        if 0 < labels[own].sum() < own.sum():
            total += labels[own].sum() * metrics.roc_auc_score(labels[own], scores[own])
            weight += labels[own].sum()
    got = grouped_auc(kernels, *map(torch.from_numpy, (scores, labels.astype(np.float32), groups)))
    assert got == pytest.approx(total / weight, abs=1e-9)


def test_grouped_auc_without_a_usable_group_is_nan(kernels):
    got = grouped_auc(kernels, floats(0.1, 0.2), floats(0, 1), torch.tensor([1, 2]))
    assert math.isnan(got)


def test_log_loss_and_calibration():
    scores, labels, weights = floats(0.5, 0.9, 0.0), floats(1, 1, 0), floats(1, 3, 2)
    each = [math.log(2), -math.log(0.9), 0.0]
    assert log_loss(scores, labels) == pytest.approx(sum(each) / 3, abs=1e-6)
    want = (each[0] + 3 * each[1]) / 6
    assert log_loss(scores, labels, weights) == pytest.approx(want, abs=1e-6)
    assert calibration(scores, labels) == pytest.approx(1.4 / 2)
    assert calibration(scores, labels, weights) == pytest.approx((0.5 + 2.7) / 4)
    assert math.isfinite(log_loss(floats(0.0, 1.0), floats(1, 0)))


def test_log_loss_equals_scikit_learn():
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(2)
    scores = rng.random(500).astype(np.float32)
    labels = (rng.random(500) < scores).astype(np.float32)
    weights = rng.random(500).astype(np.float32)
    got = log_loss(*map(torch.from_numpy, (scores, labels, weights)))
    want = metrics.log_loss(labels, scores.astype(np.float64), sample_weight=weights)
    assert got == pytest.approx(want, rel=1e-6)


def test_evaluation_in_pieces_equals_the_whole(kernels):
    rng = np.random.default_rng(3)
    scores, labels = rng.random(100), (rng.random(100) < 0.5) * 1.0
    columns = [torch.from_numpy(c).float() for c in (scores, labels, rng.random(100))]
    columns.append(torch.from_numpy(rng.integers(0, 9, 100)))
    whole, pieces = Evaluation(), Evaluation()
    whole.add(*columns)
    for part in zip(*(c.split(17) for c in columns), strict=True):
        pieces.add(*part)
    assert pieces.result(kernels) == whole.result(kernels)
    assert list(whole.result(kernels)) == ["rows", "auc", "grouped_auc", "log_loss", "calibration"]


def test_an_empty_evaluation_is_undefined(kernels):
    empty = Evaluation().result(kernels)
    assert empty["rows"] == 0
    assert math.isnan(empty["auc"])


def test_running_loss_forgets_what_left_the_window():
    running = RunningLoss(window=2, losses=[9.0])
    assert running.mean == 9.0
    running.add(1.0)
    running.add(2.0)
    assert running.mean == 1.5
    assert list(running.losses) == [1.0, 2.0]
    assert math.isnan(RunningLoss().mean)
