"""Steps left out because their gradient is not finite: by the host, and by a flag on the device."""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch

import backends
from recis_core.clipping import step_if, steps_if_told
from recis_core.pending import Pending
from recis_core.resume import state_of
from tests.toy import MemoryReader, Record, content, raw, toy_batches, toy_trainer

FUSED = partial(torch.optim.AdamW, lr=1e-3, fused=True)
EACH = partial(torch.optim.AdamW, lr=1e-3)
BAD = (2, 3)


class Ordered(MemoryReader):
    """The batches in their own order."""

    def __iter__(self):
        for batch in self.batches[self.at :]:
            self.at += 1
            yield batch
        self.epoch = 1


@pytest.fixture(scope="module")
def kernels():
    return backends.load("torch")


@pytest.fixture
def late(monkeypatch):
    """Steps are told of as on a GPU: when the next one's gradients are launched."""

    def add(self, launched):
        self._last = launched

    monkeypatch.setattr(Pending, "add", add)


def spoilt(batches, numbers, where="dense"):
    for number in numbers:
        columns = batches[number].columns
        if where == "dense":
            columns["dense"][3, 1] = math.nan
        else:
            columns["amounts"].flat[:] = math.inf
    return batches


def everything(trainer):
    """Rows and parameters, and the state of both optimizers."""
    state = state_of(trainer)
    dense = {
        (name, key): raw(value)
        for name, own in state["dense_optimizer"]["state"].items()
        for key, value in own.items()
    }
    return content(trainer), dense, str(state["row_optimizer"])


def train(kernels, batches, **given):
    record = Record()
    trainer = toy_trainer(kernels, Ordered(batches), callbacks=(record,), **given)
    trainer.train()
    return trainer, record


@pytest.mark.parametrize("clip", [None, 0.5])
@pytest.mark.parametrize("dense", [FUSED, EACH], ids=["device", "host"])
@pytest.mark.parametrize("where", ["dense", "rows"])
def test_a_step_left_out_changes_no_bit(kernels, where, dense, clip):
    trainer = toy_trainer(kernels, guard=1, dense=dense, clip=clip)
    good, bad = spoilt(toy_batches(40, 20), [1], where)
    trainer.train_step([good])
    rows, *optimizers = everything(trainer)
    assert trainer.train_step([bad])["skipped"]
    after, *same = everything(trainer)
    assert {key: after[key] for key in rows} == rows
    assert same == optimizers
    assert trainer.skipped == trainer.skipped_in_a_row == 1
    assert math.isfinite(trainer.running.mean)
    assert not trainer.train_step([good])["skipped"]
    assert everything(trainer)[2] != optimizers[1]


@pytest.mark.parametrize("overlap", [0, 1])
@pytest.mark.parametrize("dense", [FUSED, EACH], ids=["device", "host"])
def test_training_goes_on_as_if_it_had_not_been(kernels, late, dense, overlap):
    batches = spoilt(toy_batches(7 * 20, 20), BAD)
    given = dict(dense=dense, guard=2, clip=0.5, overlap=overlap)
    trainer, record = train(kernels, batches, **given)
    assert [s.skipped for s in record.steps] == [i in BAD for i in range(7)]
    assert (trainer.skipped, trainer.skipped_in_a_row, trainer.step) == (2, 0, 7)
    good, beside = train(kernels, [b for i, b in enumerate(batches) if i not in BAD], **given)
    assert [s.loss for s in record.steps if not s.skipped] == beside.losses
    rows, *optimizers = everything(trainer)
    expected, *same = everything(good)
    # The steps left out gave rows to their new ids, no more.
    assert {key: rows[key] for key in expected} == expected
    assert optimizers == same


@pytest.mark.parametrize("dense", [FUSED, EACH], ids=["device", "host"])
def test_too_many_are_told_before_another_step_changes_anything(kernels, late, dense):
    batches = spoilt(toy_batches(7 * 20, 20), range(1, 4))
    expected, _ = train(kernels, batches[:1], dense=dense)
    record, reader = Record(), Ordered(batches)
    trainer = toy_trainer(kernels, reader, dense=dense, guard=2, callbacks=(record,), overlap=1)
    with pytest.raises(FloatingPointError, match=r"step 4: .* 3 successive steps, loss nan"):
        trainer.train()
    assert [s.step for s in record.steps] == [1, 2, 3]
    assert trainer.step == reader.at == 4
    rows, *optimizers = everything(trainer)
    first, *same = everything(expected)
    assert {key: rows[key] for key in first} == first
    assert optimizers == same


def test_who_can_be_told(kernels):
    weight = torch.nn.Parameter(torch.ones(3))
    told = [steps_if_told(kind([weight])) for kind in (FUSED, EACH, partial(torch.optim.SGD))]
    assert told == [True, False, False]
    assert steps_if_told(None)
    optimizer = FUSED([weight])
    for keep in (False, True):
        weight.grad = torch.full((3,), math.nan if not keep else 1.0)
        step_if(optimizer, torch.tensor([keep]))
        assert torch.equal(weight, torch.ones(3)) is not keep
    assert not {"found_inf", "grad_scale"} & vars(optimizer).keys()
