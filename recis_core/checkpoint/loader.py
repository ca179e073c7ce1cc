"""Read a checkpoint into an embedding and hand back the rest of its state, naming what is wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from recis_core.checkpoint import layout
from recis_core.checkpoint.layout import CheckpointError
from recis_core.checkpoint.saver import describe, pairs_of
from recis_core.checkpoint.tensors import checksum
from recis_core.checkpoint.tree import unpack
from recis_core.embedding import Embedding
from recis_core.kernels import Kernels
from recis_core.table import Group

ROWS_PER_PIECE = 1 << 16


def load(path: Path, embedding: Embedding, *, kernels: Kernels) -> dict[str, Any]:
    """Put the saved rows into `embedding`, which forgets those it had; -> the saved state with
    "dense" (name -> tensor) and "step" in it.

    Rows may get other numbers; every pair has the slots it had. CheckpointError names a missing,
    truncated or altered file, or how the groups differ; `embedding` is untouched then.
    """
    manifest = layout.read_manifest(path)
    require_intact(path, manifest)
    require_groups(path, manifest["groups"], embedding.groups)
    saved = {group["name"]: group for group in manifest["groups"]}
    for group in embedding.groups:
        tables, ids, _ = pairs_of(group)
        group.erase(tables, ids)
        for name in saved[group.name]["files"]:
            _load_rows(path / name, saved[group.name], group, kernels)
    return _state(path, manifest)


def read_state(path: Path) -> dict[str, Any]:
    """The saved state without any row of an embedding."""
    manifest = layout.read_manifest(path)
    require_intact(path, manifest, only=(layout.DENSE,))
    return _state(path, manifest)


def _state(path: Path, manifest: dict[str, Any]) -> dict[str, Any]:
    tensors = load_file(path / layout.DENSE)
    return {"step": manifest["step"], **unpack(manifest["state"], tensors)}


def require_intact(path: Path, manifest: dict[str, Any], only: Sequence[str] = ()) -> None:
    """Raise CheckpointError unless files are there, of the size and checksum the manifest says."""
    layout.require_files(path, manifest)
    for name, record in manifest["files"].items():
        if (not only or name in only) and checksum(path / name) != record["crc32"]:
            raise CheckpointError(f"{path / name}: checksum does not match")


def require_groups(path: Path, saved: Sequence[Mapping[str, Any]], groups: Sequence[Group]) -> None:
    """Raise CheckpointError unless the saved groups are those of the model."""
    before = {group["name"]: group for group in saved}
    if (had := sorted(before)) != (wanted := sorted(g.name for g in groups)):
        raise CheckpointError(f"{path}: groups are {had}, the model's are {wanted}")
    for group in groups:
        now = describe(group)
        for what in ("tables", "slots"):
            then = before[group.name][what]
            if sorted(map(str, then)) != sorted(map(str, now[what])):
                raise CheckpointError(
                    f"{path}: group {group.name!r} has {what} {_said(then)}, "
                    f"the model's are {_said(now[what])}"
                )


def _said(things: Sequence[Mapping[str, Any]]) -> str:
    return ", ".join(
        f"{t['name']} ({'×'.join(str(v) for k, v in t.items() if k != 'name')})" for t in things
    )


def _load_rows(file: Path, saved: Mapping[str, Any], group: Group, kernels: Kernels) -> None:
    number_of = {table.name: i for i, table in enumerate(group.tables)}
    numbers = torch.tensor([number_of[t["name"]] for t in saved["tables"]], dtype=torch.int32)
    device = group.blocks.device
    with safe_open(file, framework="pt") as content:
        slices = {name: content.get_slice(name) for name in content.keys()}  # noqa: SIM118
        total = slices["ids"].get_shape()[0]
        for at in range(0, total, ROWS_PER_PIECE):
            part = slice(at, min(at + ROWS_PER_PIECE, total))
            tables = numbers[slices["tables"][part].long()].to(device)
            rows = _insert(file, group, tables, slices["ids"][part].to(device))
            for slot in group.blocks.slots:
                values = slices[f"slot/{slot}"][part].to(device)
                kernels.rows_scatter(group.blocks, slot, rows, values)


def _insert(file: Path, group: Group, tables: Tensor, ids: Tensor) -> Tensor:
    before = group.rows
    rows = group.insert(group.find(tables, ids), tables, ids)
    if group.rows != before + len(ids):
        raise CheckpointError(f"{file}: a pair of table and id comes twice")
    return rows
