"""Checkpoints: exact content, refusals that name what is wrong, nothing lost on failure."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import backends
from recis_core import checkpoint
from recis_core.checkpoint import CheckpointError, layout, loader, saver, tensors
from recis_core.checkpoint.tree import pack, unpack
from recis_core.optim import Adam, Sgd
from tests.toy import ToyModel, content, toy_trainer

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def kernels():
    return backends.load("torch")


def filled(kernels, folder=None, **given):
    """A trainer whose rows were inserted, some erased, freed rows reused, with noise in all."""
    trainer = toy_trainer(kernels, folder=folder, keep=2, **given)
    torch.manual_seed(1)
    for group in trainer.embedding.groups:
        fill(group, torch.arange(300))
        tables = torch.zeros(100, dtype=torch.int32)
        group.erase(tables, torch.arange(0, 200, 2))
        fill(group, torch.tensor([-(2**63), 2**63 - 1, -1, -2, 2**52 + 1, 2, 4]))
        for slot in group.blocks.slots:
            for view in group.blocks.views(slot):
                view.copy_(torch.randn(view.shape))
    return trainer


def fill(group, ids):
    tables = torch.zeros(len(ids), dtype=torch.int32)
    group.insert(group.find(tables, ids), tables, ids)


def save(trainer, step=1, **state):
    trainer.step = step
    return trainer.save()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("to", ["torch", "reference", "numba"])
def test_every_pair_keeps_every_slot(tmp_path, kernels, monkeypatch, dtype, to):
    if reason := backends.find(to).absent():
        pytest.skip(reason)
    for module, name, rows in ((saver, "ROWS_PER_FILE", 100), (saver, "ROWS_PER_PIECE", 7)):
        monkeypatch.setattr(module, name, rows)
    monkeypatch.setattr(loader, "ROWS_PER_PIECE", 13)
    model = partial(ToyModel, dtype=dtype)
    before = filled(kernels, tmp_path, model=model)
    path = save(before)
    assert len(list(path.glob("group-00-*"))) == 3
    after = toy_trainer(backends.load(to), model=model)
    # Rows that are there before are forgotten, and scramble what the map gives out next.
    fill(after.embedding.groups[0], torch.randperm(500) + 10**6)
    after.restore(path)
    assert content(after) == content(before)
    assert after.embedding.rows == before.embedding.rows == 2 * (300 - 100 + 7)


def test_an_empty_embedding_is_saved_too(tmp_path, kernels):
    before = toy_trainer(kernels, folder=tmp_path)
    after = filled(kernels)
    after.restore(save(before))
    assert content(after) == content(before)
    assert after.embedding.rows == 0


def test_files_are_ordinary_safetensors(tmp_path, kernels):
    trainer = filled(kernels, tmp_path, model=partial(ToyModel, dtype="bfloat16"))
    path = save(trainer)
    dense = load_file(path / layout.DENSE)
    for name, tensor in trainer.model.state_dict().items():
        assert torch.equal(dense[f"dense/{name}"], tensor)
    group = trainer.embedding.groups[1]
    file = load_file(path / layout.group_file(1, 0))
    assert {name: t.dtype for name, t in file.items()} == {
        "tables": torch.int32,
        "ids": torch.int64,
        "slot/weight": torch.bfloat16,
        "slot/mean": torch.float32,
        "slot/square": torch.float32,
    }
    rows, _ = group.map.find(file["tables"], file["ids"])
    for slot in group.blocks.slots:
        assert torch.equal(file[f"slot/{slot}"], kernels.rows_gather(group.blocks, slot, rows))


def test_the_newest_are_kept(tmp_path, kernels):
    trainer = filled(kernels, tmp_path)
    for step in (3, 20, 100):
        save(trainer, step)
    assert [step for step, _ in checkpoint.steps(tmp_path)] == [20, 100]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-00000020", "step-00000100"]
    again = save(trainer, 100)
    assert checkpoint.find(tmp_path).path == again
    assert again.name == "step-00000100.1"


def flip(file: Path) -> None:
    raw = bytearray(file.read_bytes())
    raw[-3] ^= 1
    file.write_bytes(raw)


def shorten(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-5])


@pytest.mark.parametrize("name", [layout.DENSE, layout.group_file(1, 0), layout.MANIFEST])
@pytest.mark.parametrize("damage", [Path.unlink, shorten, flip])
def test_damage_is_named(tmp_path, kernels, name, damage):
    path = save(filled(kernels, tmp_path))
    damage(path / name)
    after = toy_trainer(kernels)
    fill(after.embedding.groups[0], torch.arange(5))
    before = content(after)
    with pytest.raises(CheckpointError, match=name) as caught:
        after.restore(path)
    assert "\n" not in str(caught.value)
    assert content(after) == before


def test_an_altered_manifest_is_refused(tmp_path, kernels):
    path = save(filled(kernels, tmp_path))
    manifest = json.loads((path / layout.MANIFEST).read_text())
    manifest["step"] = 2
    (path / layout.MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(CheckpointError, match=r"manifest\.json: checksum"):
        checkpoint.read_state(path)


def test_a_damaged_checkpoint_is_passed_over_and_said_so(tmp_path, kernels):
    trainer = filled(kernels, tmp_path)
    older, newer = save(trainer, 1), save(trainer, 2)
    shorten(newer / layout.group_file(0, 0))
    found = checkpoint.find(tmp_path)
    assert found.path == older
    assert len(found.skipped) == 1
    assert str(newer / layout.group_file(0, 0)) in found.skipped[0]
    (older / layout.MANIFEST).unlink()
    with pytest.raises(CheckpointError, match="no complete checkpoint"):
        checkpoint.find(tmp_path)


def other_table():
    model = ToyModel()
    model.features = (model.features[0], *model.features[2:])
    return model


@pytest.mark.parametrize(
    ("model", "rule", "message"),
    [
        (other_table, Adam(), "tables user .*item.*the model's are user"),
        (partial(ToyModel, dtype="bfloat16"), Adam(), "groups are"),
        (ToyModel, Sgd(), "has slots weight .*mean.*the model's are weight"),
    ],
)
def test_other_groups_are_refused(tmp_path, kernels, model, rule, message):
    path = save(filled(kernels, tmp_path))
    with pytest.raises(CheckpointError, match=message):
        toy_trainer(kernels, model=model, rule=rule).restore(path)


def test_another_dense_part_is_refused(tmp_path, kernels):
    path = save(filled(kernels, tmp_path))
    wider = toy_trainer(kernels)
    wider.model.mlp[0] = torch.nn.Linear(34, 16, bias=False)
    with pytest.raises(CheckpointError, match=r"the model lacks 'mlp\.0\.bias'"):
        wider.restore(path)
    with pytest.raises(CheckpointError, match="seed 0, not 3"):
        toy_trainer(kernels, seed=3).restore(path)


def test_order_of_tables_may_change(tmp_path, kernels):
    before = filled(kernels, tmp_path)
    path = save(before)

    def turned():
        model = ToyModel()
        model.features = model.features[1::-1] + model.features[2:]
        return model

    after = toy_trainer(kernels, model=turned)
    assert [t.name for t in after.embedding.groups[0].tables] == ["item", "user"]
    after.restore(path)
    assert content(after) == content(before)


@pytest.mark.parametrize("at", range(8))
def test_whatever_write_fails_the_previous_one_stays(tmp_path, kernels, monkeypatch, at):
    trainer = filled(kernels, tmp_path)
    first = save(trainer, 1)
    calls = iter(range(100))
    real = tensors.os.fsync

    def fsync(handle):
        if next(calls) == at:
            raise OSError(28, "No space left on device")
        real(handle)

    monkeypatch.setattr(tensors.os, "fsync", fsync)
    # Of seven syncs the last is of the folder in which the finished one already has its name.
    if at < 7:
        with pytest.raises(CheckpointError, match="No space left on device"):
            save(trainer, 2)
    else:
        save(trainer, 2)
    monkeypatch.undo()
    assert not list(tmp_path.glob(".*"))
    newest = checkpoint.find(tmp_path).path
    assert (newest == first) == (at < 6)
    toy_trainer(kernels).restore(newest)


FULL = """
import resource, sys
sys.path.insert(0, {root!r})
import backends
from tests.test_checkpoint import filled, save
from recis_core.checkpoint import CheckpointError
from pathlib import Path
trainer = filled(backends.load("torch"), Path({folder!r}))
save(trainer, 1)
resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, resource.RLIM_INFINITY))
try:
    save(trainer, 2)
except CheckpointError as error:
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    print(error)
"""


def test_a_file_that_the_system_cuts_off(tmp_path, kernels):
    """A limit on file sizes: writes fail in the system, half-way through a file."""
    limit = 9000
    code = FULL.format(root=str(ROOT), tests=str(ROOT / "tests"), folder=str(tmp_path), limit=limit)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    said = done.stdout.strip()
    assert "cannot save" in said
    assert "step-00000001 is intact" in said
    assert "\n" not in said
    assert [p.name for p in tmp_path.iterdir()] == ["step-00000001"]
    toy_trainer(kernels).restore(checkpoint.find(tmp_path).path)


def test_what_a_crash_left_is_ignored_and_cleared(tmp_path, kernels):
    trainer = filled(kernels, tmp_path)
    first = save(trainer, 1)
    half = tmp_path / f"{layout.UNFINISHED}step-00000002"
    half.mkdir()
    (half / layout.DENSE).write_bytes(b"half")
    assert checkpoint.find(tmp_path).path == first
    save(trainer, 2)
    assert not half.exists()


def test_a_folder_that_cannot_be_made(tmp_path, kernels):
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match=r"cannot save .*there is no earlier one"):
        save(filled(kernels, tmp_path / "file"))


def test_nested_state_survives():
    state = {
        "betas": (0.9, 0.999),
        "nested": [{"best": math.inf, "at": -math.inf}, None, True, "text", 0.1 + 0.2],
        "milestones": {3: 1, 7: 2},
        "@odd": 1,
        "tensor": torch.arange(3),
        "empty": {},
    }
    held: dict[str, torch.Tensor] = {}
    packed = json.loads(json.dumps(pack(state, "state", held)))
    got = unpack(packed, held)
    assert torch.equal(got.pop("tensor"), state.pop("tensor"))
    assert got == state
    assert type(got["betas"]) is tuple
    with pytest.raises(TypeError, match="state x/1 is set"):
        pack([1, {2}], "x", {})
