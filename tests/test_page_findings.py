"""The page begins with what its records decide; what is no op's own case stands apart."""

from __future__ import annotations

import pytest

from reports.page import page_of
from reports.page_html import html
from tests import page_records as kinds
from tests.test_page import Tree


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "every.jsonl"
    kinds.write(path, kinds.every())
    return html(page_of([path]))


def test_the_page_begins_with_what_to_decide_by(text):
    for said in (
        "which backend</strong>: numba is fastest at 1 of 1 ops.",
        "equal losses</strong>: mse small: numba is 1.95 times as fast as torch (1.90 to 2.00).",
        "in a step</strong>: mse tiny on numba: ops above their bounds: most of it segment_sum.",
        "where the bound is",
        "refused a time</strong>: ",
    ):
        assert said in text.partition("glance-table")[0]


def test_comparisons_with_other_optimizers_stand_side_by_side(tmp_path):
    path = tmp_path / "r.jsonl"
    kinds.write(path, [kinds.compare(), kinds.compare(optimizer="adagrad")])
    found = html(page_of([path]))
    assert "mse small: numba is 1.95" in found
    assert "mse small with adagrad: numba is 1.95" in found


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


def test_a_step_by_backend_stands_in_a_table(tmp_path):
    step = {
        "what": "step",
        "workload": "mse",
        "size": "bench",
        "batch": 1000,
        "device": kinds.DEVICE,
    }
    own = {"step": 0.05, "sparse": 0.02, "sparse_mbu": 0.1, "peak": 2e9}
    kinds.write(tmp_path / "o.jsonl", [kinds.op("ids_mod", "n=1", "numba", 1e-3)])
    kinds.write(
        tmp_path / "s.jsonl",
        [{"threads": 2} | step | {"backends": {"cuda": own, "torch": {"step": 0.5}}}],
    )
    found = html(page_of([tmp_path]))
    rows = Tree(found).table("a-processor-2-cores-beside-0")
    assert rows == [["cuda", "50 ms", "20,000", "20 ms", "10.0 %", "2.0"],
                    ["torch", "500 ms", "2,000", *["–"] * 3]]  # fmt: skip
    assert "of a kind this page does not show" not in found
