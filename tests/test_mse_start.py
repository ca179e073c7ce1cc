"""How `mse` begins, and the eps its rows are trained with by default."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest
import torch

from recis_core.optim import Adam
from reports.commands.train import begun
from reports.run import Run
from tests.small_mse import SMALL, recis, shrink, train
from workloads import mse
from workloads.baselines.definition import Terms


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    shrink(monkeypatch)


def drawn(model: mse.MseModel) -> dict[str, torch.Tensor]:
    inputs = {name: torch.randn(4, 1) for name in model.dense}
    for f in model.features:
        inputs[f.name] = torch.randn(4, *([f.length] if f.length else []), f.table.dim)
    return inputs


def test_it_begins_as_its_linear_part() -> None:
    model = mse.MseModel(SMALL)
    inputs = drawn(model)
    leaves = [inputs[f.name] for f in model.features]
    flat = [x.sum(1) / x.shape[1] ** 0.5 if x.dim() == 3 else x for x in leaves]
    spare = torch.zeros(4, model.spare)
    x = torch.cat([*flat, *(inputs[n] for n in model.dense), spare], 1)
    torch.testing.assert_close(model(inputs), model.wide(x).squeeze(1))


def test_its_compiled_parts_are_the_same() -> None:
    model = mse.MseModel(SMALL)
    torch.nn.init.normal_(model.mlp[-1].weight, std=0.1)  # type: ignore[arg-type]
    inputs, parameters = drawn(model), dict(model.named_parameters())
    found = []
    for compiled in (False, True):
        if compiled:
            model.compile_parts(partial(torch.compile, fullgraph=True, backend="aot_eager"))
        model.zero_grad()
        made = model(inputs)
        made.square().sum().backward()
        found.append((made.detach(), {n: p.grad for n, p in parameters.items()}))
    (want, grads), (got, others) = found
    torch.testing.assert_close(got, want)
    assert all(own is not None and own.any() for own in grads.values())
    for name, own in grads.items():
        torch.testing.assert_close(others[name], own, rtol=1e-4, atol=1e-5, msg=name)


def test_larger_tables_begin_to_count_more_slowly() -> None:
    config = mse.CONFIGS["small"]
    model = mse.MseModel(config)
    parts = [*(f.dim for f in mse.fields(config)), config.dense + model.spare]
    weight = model.wide.weight[0].split(parts)
    for field, own in zip(mse.fields(config), weight, strict=False):
        length = float(own.square().sum().sqrt().detach())
        assert length == pytest.approx(min(1.0, (200 / field.column.vocab) ** 0.25), rel=1e-5)
    assert not weight[-1].any()


def run_of(folder: Path) -> Run:
    return Run.read(folder / "run")


def test_eps_is_kept_and_used(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train(tmp_path / "a", "--no-trace") == 0
    assert run_of(tmp_path / "a").row_rule() == Adam(lr=2e-3)
    given = ("--data", tmp_path / "a" / "data", "--out", tmp_path / "b", "--no-trace", "--json")
    words = ("train", "mse", *given, "--backend", "torch", "--batch-size", 500)
    assert recis(*words, "--eps", 1e-3) == 0
    assert json.loads((tmp_path / "b" / "run.json").read_text())["eps"] == 1e-3
    assert begun(mse.workload, "small", {}).row_rule() == Adam(lr=1e-2, eps=2.5e-4)
    assert begun(mse.workload, "small", {"rule": "adagrad"}).eps is None
    assert recis(*words, "--resume", "--eps", 1e-4) == 2
    assert "eps was 0.001" in capsys.readouterr().err


def test_eps_belongs_to_its_rule(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train(tmp_path, "--rule", "adagrad", "--lr", 0.02, "--no-trace") == 0
    assert run_of(tmp_path).eps is None
    assert train(tmp_path, "--rule", "sgd", "--eps", 1e-3) == 2
    assert "rule 'sgd' has no eps" in capsys.readouterr().err


def test_baselines_get_it_too(tmp_path: Path) -> None:
    def rates(optimizer: str, eps: float | None) -> dict[str, float]:
        where = mse.workload, "tiny", tmp_path, tmp_path, 9, 1, 0.1, 0.2, torch.device("cpu")
        return Terms(*where, optimizer, eps).rates

    assert rates("adam", 1e-3) == {"lr": 0.1, "eps": 1e-3}
    assert rates("adam", None) == rates("adagrad", 1e-3) == {"lr": 0.1}
