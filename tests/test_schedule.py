"""Rates that fall linearly: to nothing at the end; a run of them is evaluated alike."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from reports.run import Run
from tests.small_mse import recis, shrink, train


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    shrink(monkeypatch)


def given(**more: object) -> Run:
    facts = {"batch_size": 500, "epochs": 2, "seed": 0, "rule": "adam", "lr": 0.1, "decay": 0.0}
    facts |= {"dense_lr": 0.2, "dense_decay": 0.0, **more}
    return Run(workload="mse", size="tiny", data="nowhere", **facts)  # pyright: ignore


@pytest.mark.parametrize(
    ("more", "steps"), [({}, 12), ({"accumulation": 5}, 3), ({"steps": 4}, 4), ({"steps": 99}, 12)]
)
def test_rates_reach_nothing_at_the_last_step(more: dict[str, int], steps: int) -> None:
    make = given(schedule="linear", **more).scheduler(6)
    assert make is not None
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    schedule, rates = make(optimizer), []
    for _ in range(steps + 1):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert rates == pytest.approx([0.1 * (1 - i / steps) for i in range(steps + 1)])
    assert given().scheduler(6) is None


def test_trained_and_evaluated(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    how = ("--schedule", "linear", "--no-trace", "--json")
    assert train(tmp_path / "a", *how) == 0
    whole = json.loads(capsys.readouterr().out)["metrics"]
    assert recis("evaluate", tmp_path / "a" / "run", "--backend", "torch", "--json") == 0
    again = json.loads(capsys.readouterr().out)
    assert again["auc"] == whole["auc"]
    assert train(tmp_path / "a", "--schedule", "step") == 2
    assert "no schedule 'step'; there are constant, linear" in capsys.readouterr().err
