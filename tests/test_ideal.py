"""Learners who know the teacher's form: what they learn, held against what must be so."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from workloads import mse
from workloads.baselines import ideal
from workloads.mse import MseConfig, teacher_of, write_mse
from workloads.synthetic import properties

SMALL = replace(
    mse.CONFIGS["tiny"], singles=8, bags=3, sequences=2, dims=((8, 13),), vocab_high=500, dense=2,
    train_rows=6000, valid_rows=3000, parts=2, pair_share=0.3,
)  # fmt: skip


@pytest.fixture(scope="module")
def measured() -> dict[str, Any]:
    return ideal.measure(SMALL, 0, 10)


def test_its_rows_are_those_written(tmp_path: Any, measured: dict[str, Any]) -> None:
    write_mse(SMALL, "test", tmp_path)
    assert measured["ceiling"] == pytest.approx(properties(tmp_path)["ceiling"], abs=1e-9)


def test_who_knows_more_scores_more(measured: dict[str, Any]) -> None:
    """The teacher, then who is told every other effect, then who learns all, then no products."""
    scores = [measured["ceiling"], *(measured[n]["auc"] for n in ("apart", "jointly", "sums"))]
    assert scores == sorted(scores, reverse=True)
    assert scores[2] - scores[3] > 0.02  # products are three tenths of this logit's variance


def test_posterior_variance_is_the_error_made(measured: dict[str, Any]) -> None:
    apart = measured["apart"]
    assert apart["error"] == pytest.approx(apart["expected_error"], rel=0.2)


def test_many_rows_teach_nearly_all() -> None:
    few_ids = replace(SMALL, singles=3, bags=0, sequences=0, dims=((8, 3),), vocab_high=12, pairs=0)
    learned = ideal.measure(replace(few_ids, train_rows=40_000, pair_share=0.0), 0, 10)
    assert learned["ceiling"] - learned["jointly"]["auc"] < 0.002
    assert learned["jointly"]["error"] < 0.02


def test_effects_without_rows_stay_at_zero() -> None:
    role = role_without(rows=0)
    logit = np.zeros(4)
    ideal.newton(role, np.ones(4), logit, 4)
    assert not role.effect.any()
    assert not logit.any()


def test_a_step_is_newtons() -> None:
    """One id in four rows of label 1, from logit 0: slope 2, curve 1, prior precision 1."""
    role = role_without(rows=4)
    logit = np.zeros(4)
    ideal.newton(role, np.ones(4), logit, 4)
    assert role.effect[1] == pytest.approx(1.0)
    assert logit == pytest.approx(np.ones(4))


def role_without(rows: int) -> ideal.Role:
    """Of three ids, of which the second alone is in the first `rows` rows."""
    starts = np.array([0, 0, rows, rows])
    values = ideal.Values(
        np.arange(rows, dtype=np.int32), np.ones(rows, np.float32), starts, np.zeros(0, np.int32)
    )
    return ideal.Role(values, np.ones(3), np.zeros(3), np.zeros(3))


def configs() -> tuple[MseConfig, ...]:
    return (SMALL, replace(SMALL, pairs=0))


@pytest.mark.parametrize("config", configs())
def test_the_prior_is_that_of_the_effects(config: MseConfig) -> None:
    """Effects over their deviation are standard normal."""
    teacher = teacher_of(config, 0)
    part = teacher.parts[-1]
    empty = ideal.Values(*(np.zeros(0, np.int32) for _ in range(4)))
    role = ideal.role_of(teacher, part, empty, "single", teacher.scale[part.column.name])
    standard = role.truth / np.sqrt(role.variance)
    assert abs(standard.mean()) < 0.2
    assert standard.std() == pytest.approx(1, rel=0.15)
