"""The page begins with what its records decide; what is no op's own case stands apart."""

from __future__ import annotations

import pytest

from reports.page import page_of
from reports.page_html import html
from tests import page_records as kinds
from tests.test_page import Tree


@pytest.fixture
def tree(tmp_path):
    path = tmp_path / "every.jsonl"
    kinds.write(path, kinds.every())
    return Tree(html(page_of([path])))


def test_the_page_begins_with_what_to_decide_by(tree):
    said = {(r[0], r[1]): r[2] for r in tree.table("findings")}
    cpu = "a processor, 2 cores"
    assert said[cpu, "which backend"] == "numba is fastest at 1 of 1 ops"
    beside = said[cpu, "beside others, same losses"]
    assert beside == "mse small: numba is 1.95 times as fast as torch (1.90 to 2.00)"
    first = said[cpu, "what to fix first in a step"]
    assert first == "mse tiny on numba: ops above their bounds: most of it segment_sum"
    far = said[cpu, "which ops are farthest from their bound"]
    assert "where the bound is" in far
    assert "wrong" not in str(said.get((cpu, "which backend")))


def test_cases_of_scripts_stand_apart_from_the_ops_own(tmp_path):
    path = tmp_path / "r.jsonl"
    own = kinds.op("ids_mod", "n=1", "numba", 1e-3)
    tried = kinds.op("ids_mod", "n=1 (variant)", "numba", 2e-3) | {"mbu": None}
    kinds.write(path, [own, tried])
    tree = Tree(html(page_of([path])))
    assert [r[1] for r in tree.table("a-processor-2-cores-table")] == ["n=1"]
    assert [r[1] for r in tree.table("a-processor-2-cores-tried")] == ["n=1 (variant)"]
    assert tree.table("a-processor-2-cores-mbu") == [["ids_mod", "5.0 %"]]


def test_a_record_that_only_names_its_device_joins_that_machine(tmp_path):
    kinds.write(tmp_path / "a.jsonl", [kinds.op("ids_mod", "n=1", "numba", 1e-3)])
    kinds.write(tmp_path / "b.jsonl", [{"device": "a processor", "what": "overlap", "ms": 3}])
    page = page_of([tmp_path])
    assert (page.machines, page.count) == (1, 2)
