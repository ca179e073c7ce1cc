"""Write a checkpoint aside, rename it last, then drop the oldest."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from recis_core.checkpoint import layout
from recis_core.checkpoint.layout import CheckpointError
from recis_core.checkpoint.tensors import Spec, write_tensors
from recis_core.checkpoint.tree import pack
from recis_core.embedding import Embedding
from recis_core.kernels import Kernels
from recis_core.table import Group

ROWS_PER_FILE = 1 << 22
ROWS_PER_PIECE = 1 << 16


def save(
    folder: Path,
    embedding: Embedding,
    dense: Mapping[str, Tensor],
    state: Mapping[str, Any],
    *,
    kernels: Kernels,
    step: int,
    keep: int,
) -> Path:
    """Save the live rows of `embedding`, the tensors `dense` and nested `state`; -> its path.

    `state` holds JSON values, tuples, mappings and tensors. The `keep` >= 1 newest remain.
    CheckpointError if it cannot be written: nothing of it is left then, older ones are intact.
    """
    path = layout.vacant(folder, step)
    aside = folder / f"{layout.UNFINISHED}{path.name}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _clear_unfinished(folder)
        with _removed_on_failure(aside):
            _write(aside, embedding, dense, state, kernels, step)
            aside.rename(path)
        layout.sync_folder(folder)
    except OSError as error:
        older = [str(p.name) for _, p in layout.steps(folder)]
        kept = f"{older[-1]} is intact" if older else "there is no earlier one"
        raise CheckpointError(f"cannot save {path}: {error.strerror}; {kept}") from error
    for _, old in layout.steps(folder)[: -max(keep, 1)]:
        layout.remove(old)
    return path


def _clear_unfinished(folder: Path) -> None:
    for left in folder.glob(f"{layout.UNFINISHED}*"):
        shutil.rmtree(left)


@contextmanager
def _removed_on_failure(aside: Path) -> Iterator[None]:
    try:
        yield
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise


def _write(
    aside: Path,
    embedding: Embedding,
    dense: Mapping[str, Tensor],
    state: Mapping[str, Any],
    kernels: Kernels,
    step: int,
) -> None:
    aside.mkdir()
    tensors: dict[str, Tensor] = {}
    packed = {
        "dense": pack(dense, "dense", tensors),
        **{key: pack(value, key, tensors) for key, value in state.items()},
    }
    files = {}
    specs = {name: Spec(t.dtype, tuple(t.shape)) for name, t in tensors.items()}
    files[layout.DENSE] = write_tensors(aside / layout.DENSE, specs, lambda n: (tensors[n],))
    groups = []
    for number, group in enumerate(embedding.groups):
        written = dict(_write_group(aside, number, group, kernels))
        files.update(written)
        groups.append({**describe(group), "rows": group.rows, "files": list(written)})
    manifest = dict(format=layout.FORMAT, step=step, state=packed, groups=groups, files=files)
    layout.sync_folder(aside)
    layout.write_manifest(aside, manifest)
    layout.sync_folder(aside)


def describe(group: Group) -> dict[str, Any]:
    """What must be equal between the group that was saved and the one that is filled."""
    slots = group.blocks.slots.values()
    return {
        "name": group.name,
        "tables": [{"name": t.name, "dim": t.dim} for t in group.tables],
        "slots": [
            {"name": s.name, "dim": s.dim, "dtype": str(s.dtype).removeprefix("torch.")}
            for s in slots
        ],
    }


def pairs_of(group: Group) -> tuple[Tensor, Tensor, Tensor]:
    """Every pair a group holds: tables [n] int32, ids [n] int64, rows [n]."""
    # Declared in NumPy's types, bound to torch's.
    items: Any = group.map.items()
    return items


def _write_group(
    aside: Path, number: int, group: Group, kernels: Kernels
) -> Iterator[tuple[str, dict[str, int]]]:
    """Files of at most ROWS_PER_FILE rows each, one even where the group has none."""
    tables, ids, rows = pairs_of(group)
    # By row, blocks are read front to back.
    order = rows.argsort()
    for part, at in enumerate(range(0, max(len(rows), 1), ROWS_PER_FILE)):
        own = order[at : at + ROWS_PER_FILE]
        name = layout.group_file(number, part)
        yield name, _write_rows(aside / name, group, kernels, tables[own], ids[own], rows[own])


def _write_rows(
    path: Path, group: Group, kernels: Kernels, tables: Tensor, ids: Tensor, rows: Tensor
) -> dict[str, int]:
    n = len(rows)
    pairs = {"tables": tables.to(torch.int32), "ids": ids}
    specs = {name: Spec(t.dtype, (n,)) for name, t in pairs.items()}
    for slot in group.blocks.slots.values():
        specs[f"slot/{slot.name}"] = Spec(slot.dtype, (n, slot.dim))

    def pieces(name: str) -> Iterator[Tensor]:
        if name in pairs:
            yield pairs[name]
            return
        for some in rows.split(ROWS_PER_PIECE) if n else ():
            values: Any = kernels.rows_gather(group.blocks, name.removeprefix("slot/"), some)
            yield values

    return write_tensors(path, specs, pieces)
