"""A trainer's state as a checkpoint keeps it, and how a trainer takes it up again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from recis_core.checkpoint import CheckpointError
from recis_core.metrics import RunningLoss

if TYPE_CHECKING:
    from recis_core.train import Trainer


def state_of(trainer: Trainer) -> dict[str, Any]:
    """Everything but rows of embeddings and the model's own tensors."""
    optimizer = trainer.dense_optimizer
    return {
        "trainer": {
            "epoch": trainer.epoch,
            "rows": trainer.rows,
            "skipped": trainer.skipped,
            "running": list(trainer.running.losses),
            "skipped_in_a_row": trainer.skipped_in_a_row,
            "metrics": dict(trainer.metrics),
            "evaluated": trainer.evaluated,
            "early": [trainer.early.best, trainer.early.best_step, trainer.early.failed],
            "seed": trainer.settings.seed,
            "threads": torch.get_num_threads(),
            "kernels": trainer.kernels.name,
        },
        "reader": trainer.position,
        "dense_optimizer": None if optimizer is None else named(optimizer, trainer.model),
        "row_optimizer": trainer.row_optimizer.state_dict(),
        "schedulers": [scheduler.state_dict() for scheduler in trainer.schedulers],
        "random": random_state(),
    }


def take_up(trainer: Trainer, state: Mapping[str, Any]) -> None:
    """Put a trainer where `state` says; CheckpointError names what does not fit."""
    own = state["trainer"]
    if own["seed"] != trainer.settings.seed:
        raise CheckpointError(
            f"the checkpoint was trained with seed {own['seed']}, not {trainer.settings.seed}"
        )
    if len(state["schedulers"]) != len(trainer.schedulers):
        raise CheckpointError("the checkpoint and the settings differ in having a scheduler")
    load_dense(trainer.model, state["dense"])
    if trainer.dense_optimizer is not None:
        load_named(trainer.dense_optimizer, trainer.model, state["dense_optimizer"])
    trainer.row_optimizer.load_state_dict(state["row_optimizer"])
    for scheduler, saved in zip(trainer.schedulers, state["schedulers"], strict=True):
        scheduler.load_state_dict(saved)
    if trainer.reader is not None:
        trainer.reader.restore(state["reader"])
    trainer.step, trainer.epoch, trainer.rows = state["step"], own["epoch"], own["rows"]
    trainer.skipped, trainer.skipped_in_a_row = own["skipped"], own["skipped_in_a_row"]
    trainer.metrics, trainer.evaluated = own["metrics"], own["evaluated"]
    trainer.running = RunningLoss(losses=own["running"])
    # Older checkpoints have none.
    early = trainer.early
    early.best, early.best_step, early.failed = own.get("early", (None, 0, 0))
    restore_random(state["random"])


def random_state() -> dict[str, Tensor]:
    """The state of torch's generators, on the CPU and on the current GPU if one is in use."""
    state = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def restore_random(state: Mapping[str, Tensor]) -> None:
    torch.set_rng_state(state["cpu"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])


def load_dense(model: nn.Module, saved: Mapping[str, Any]) -> None:
    """Load parameters and buffers; CheckpointError names one that is missing, new or reshaped."""
    present = model.state_dict()
    for name in sorted({*present} ^ {*saved}):
        where = "the model lacks" if name in saved else "the checkpoint lacks"
        raise CheckpointError(f"{where} {name!r}")
    for name, tensor in present.items():
        if isinstance(tensor, Tensor) and tensor.shape != saved[name].shape:
            raise CheckpointError(
                f"{name!r} has shape {tuple(saved[name].shape)} in the checkpoint, "
                f"{tuple(tensor.shape)} in the model"
            )
    model.load_state_dict(saved)


def names_of(optimizer: Optimizer, model: nn.Module) -> list[str]:
    """Names of the optimizer's parameters, in the order its state counts them."""
    name_of = {parameter: name for name, parameter in model.named_parameters()}
    return [name_of[p] for group in optimizer.param_groups for p in group["params"]]


def named(optimizer: Optimizer, model: nn.Module) -> dict[str, Any]:
    """The optimizer's state_dict with parameters called by name instead of number."""
    names, state = names_of(optimizer, model), optimizer.state_dict()
    groups = [
        {**group, "params": [names[i] for i in group["params"]]} for group in state["param_groups"]
    ]
    return {"state": {names[i]: own for i, own in state["state"].items()}, "param_groups": groups}


def load_named(optimizer: Optimizer, model: nn.Module, saved: Mapping[str, Any]) -> None:
    """Load what `named` gave."""
    number = {name: i for i, name in enumerate(names_of(optimizer, model))}
    groups = saved["param_groups"]
    if sorted(number) != sorted(name for group in groups for name in group["params"]):
        raise CheckpointError("the dense optimizer of the checkpoint has other parameters")
    optimizer.load_state_dict(
        {
            "state": {number[name]: own for name, own in saved["state"].items()},
            "param_groups": [{**g, "params": [number[n] for n in g["params"]]} for g in groups],
        }
    )
