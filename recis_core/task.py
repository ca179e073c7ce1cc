"""What a model is trained for: which columns hold the label, the weight and the group."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Task:
    """A binary label to predict.

    `label`: dense column of width 1, values in [0, 1]. `weight`: dense column of width 1, sample
    weights >= 0, or None. `group`: dense ids column of width 1, or None: grouped AUC is over it.
    Of a model with several tasks, `name` (the label's if empty) is what the task's figures are
    called by, and `share` >= 0 what its loss is multiplied by in their sum.
    """

    label: str
    weight: str | None = None
    group: str | None = None
    name: str = ""
    share: float = 1.0


def tasks_of(model: Any) -> tuple[Task, ...]:
    """The model's `task`, one `Task` or a tuple of them; ValueError if none or two of a name."""
    tasks = (model.task,) if isinstance(model.task, Task) else tuple(model.task)
    names = [task_name(task) for task in tasks]
    if not tasks:
        raise ValueError("the model has no task")
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"two tasks of the model are called {twice!r}")
    return tasks


def task_name(task: Task) -> str:
    return task.name or task.label
