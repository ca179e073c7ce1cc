"""The ledger judges id maps as the declaration does: the same mutants fail, the same maps pass."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from backends.boundary import bind_machine
from backends.reference import adapt_machine
from recis_core.kernels import find_op
from recis_core.spec import Case
from recis_core.tolerance import Disagreement
from roofline.subject import subject_of
from tests.mutants import maps
from tests.mutants.change import Change, meaning

OP = find_op("id_map")
# From 2^16 pairs on a trace is short: an insertion, or one and a find of the same pairs.
FIND, INSERT = (
    replace(
        next(iter(OP.cases("bench"))),
        size=dict(n=1 << 16, vocab=1 << 18, tables=3, skew=0.0, last=last),
    )
    for last in ("find", "insert")
)
WRONG = [
    *((c.__name__, meaning(c)) for c in maps.WRONG),
    *((f"reserves {k}", meaning(maps.reserving(k))) for k in (-1, -2, 0, -(2**63))),
]


def refused(make: Change | None, case: Case) -> str | None:
    """What the bench's check has against a map."""
    made = adapt_machine(OP) if make is None else make(OP)
    try:
        subject_of(OP, case).agree(bind_machine(OP, made, "tried", torch.device("cpu"), False))
    except Disagreement as error:
        return str(error)
    return None


@pytest.mark.parametrize(("name", "make"), WRONG, ids=[n for n, _ in WRONG])
def test_a_wrong_map_is_refused(name: str, make: Change):
    assert any(refused(make, case) for case in OP.cases("test")), name


@pytest.mark.parametrize("legal", maps.LEGAL, ids=lambda c: c.__name__)
def test_a_legal_map_is_admitted(legal: type):
    for case in OP.cases("test"):
        assert refused(meaning(legal), case) is None


@pytest.mark.parametrize("case", [FIND, INSERT], ids=lambda c: c.size["last"])
def test_large_traces(case: Case):
    assert refused(None, case) is None


@pytest.mark.parametrize("case", [FIND, INSERT], ids=lambda c: c.size["last"])
@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (maps.SwapsTwo, "find returned rows"),
        (maps.SharesOne, "share a row"),
        (maps.MissesNothing, "counted the missing"),
        (maps.AllFresh, "flagged fresh"),
        (maps.FarRows, "outside"),
        (maps.WideRows, "find returned"),
        (maps.OneBuffer, "later call"),
        (maps.ForgetsItems, "items"),
        (maps.KeepsErased, "rows the pairs do not have"),
    ],
)
def test_one_fault_among_many_pairs_is_found(wrong: type, said: str, case: Case):
    assert said in (refused(meaning(wrong), case) or "nothing was found")
