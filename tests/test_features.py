"""Features: columns to ids, one launch per kind of transform, inputs left alone."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch

from recis_core.chains import verify
from recis_core.data import Batch, Ragged
from recis_core.features import Features
from recis_core.kernels import Kernels, every_op
from recis_core.ops.ids_hash import farm64, murmur64a
from recis_core.schema import Bucketize, Column, Feature, Hash, Mod, Table, Truncate
from recis_core.spans import Span, joined, rows_offsets
from tests.twin import BACKENDS, kernels_of

T = Table("t", 4)
WORDS = [[b"red", b""], [], [b"a somewhat longer word than sixteen bytes", b"x", b"red"]]


@pytest.fixture(params=BACKENDS)
def kernels(request: pytest.FixtureRequest) -> Kernels:
    return kernels_of(request.param)


def counted(kernels: Kernels) -> tuple[Kernels, Counter[str]]:
    """The same kernels, and how often each op is called."""
    calls: Counter[str] = Counter()

    def wrap(name: str) -> Any:
        def call(*args: Any) -> Any:
            calls[name] += 1
            return getattr(kernels, name)(*args)

        return call

    bound = {op.name: wrap(op.name) for op in every_op()}
    return Kernels("counted", bound, kernels.origins, kernels.device), calls


def bags(rows: list[list[Any]], dtype: torch.dtype = torch.int64) -> Ragged:
    offsets = torch.tensor([0, *np.cumsum([len(row) for row in rows])], dtype=torch.int32)
    return Ragged(torch.tensor([v for row in rows for v in row], dtype=dtype), offsets)


def strings(rows: list[list[bytes]]) -> Ragged:
    words = [word for row in rows for word in row]
    text = torch.tensor(list(b"".join(words)), dtype=torch.uint8)
    bounds = torch.tensor([0, *np.cumsum([len(w) for w in words])], dtype=torch.int32)
    outer = torch.tensor([0, *np.cumsum([len(row) for row in rows])], dtype=torch.int32)
    return Ragged(Ragged(text, bounds), outer)


def signed(word: int) -> int:
    return word - 2**64 if word >= 2**63 else word


def lists(ids: torch.Tensor, offsets: torch.Tensor) -> list[list[Any]]:
    ends = offsets.tolist()
    return [ids[a:b].tolist() for a, b in pairwise(ends)]


def test_every_transform(kernels: Kernels) -> None:
    batch = Batch(
        {
            "s": strings(WORDS),
            "i": bags([[-1, 5], [2**63 - 1], [12, 13, 14]]),
            "v": torch.tensor([[0.5], [float("nan")], [2.0]]),
            "w": bags([[0.1, 0.2], [0.3], [0.4, 0.5, 0.6]], torch.float32),
        },
        3,
    )
    features = (
        Feature("farm", "s", T, transforms=(Hash(),)),
        Feature("murmur", "s", T, transforms=(Hash("murmur"), Mod(1000))),
        Feature("mod", "i", T, transforms=(Mod(10),)),
        Feature("raw", "i", T),
        Feature("bucket", "v", T, transforms=(Bucketize((0.5, 1.0, 2.0)), Mod(2))),
        Feature("first", "i", T, weights="w", transforms=(Truncate(2), Mod(7))),
        Feature("last", "i", T, weights="w", transforms=(Mod(7), Truncate(2, "last"))),
        Feature("cut", "s", T, transforms=(Truncate(1), Hash())),
        Feature("tile", "i", T, "tile", 1, weights="w"),
    )
    made = Features(features, kernels)(batch)
    got = {name: lists(bag.ids, bag.offsets) for name, bag in made.items()}
    farm = [[signed(farm64(w)) for w in row] for row in WORDS]
    assert got["farm"] == farm
    assert got["murmur"] == [[murmur64a(w) % 1000 for w in row] for row in WORDS]
    assert got["mod"] == [[(2**64 - 1) % 10, 5], [(2**63 - 1) % 10], [2, 3, 4]]
    assert got["raw"] == [[-1, 5], [2**63 - 1], [12, 13, 14]]
    assert got["bucket"] == [[1], [1], [1]]
    assert got["first"] == [[(2**64 - 1) % 7, 5], [(2**63 - 1) % 7], [5, 6]]
    assert got["last"] == [[(2**64 - 1) % 7, 5], [(2**63 - 1) % 7], [6, 0]]
    assert got["cut"] == [row[:1] for row in farm]
    assert got["tile"] == [[-1], [2**63 - 1], [12]]
    weights = {name: bag.weights.tolist() for name, bag in made.items() if bag.weights is not None}
    assert weights["first"] == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5])
    assert weights["last"] == pytest.approx([0.1, 0.2, 0.3, 0.5, 0.6])
    assert weights["tile"] == pytest.approx([0.1, 0.3, 0.4])
    assert all(bag.ids.dtype == torch.int64 for bag in made.values())


def test_one_launch_for_each_kind_and_none_for_what_is_equal() -> None:
    kernels, calls = counted(kernels_of("reference"))
    columns = {f"s{i}": strings(WORDS) for i in range(4)}
    columns |= {f"i{i}": bags([[i], [], [7, 8 + i]]) for i in range(4)}
    columns |= {f"v{i}": bags([[0.1 * i], [], [3.0]], torch.float32) for i in range(4)}
    features = []
    for i in range(4):
        features += [
            Feature(f"hash {i}", f"s{i}", T, transforms=(Hash(), Mod(10 + i))),
            Feature(f"again {i}", f"s{i}", T, "mean", transforms=(Hash(), Mod(10 + i))),
            Feature(f"mod {i}", f"i{i}", T, transforms=(Mod(3), Mod(2))),
            Feature(f"bucket {i}", f"v{i}", T, transforms=(Bucketize((0.15, 1.0 + i)), Mod(9))),
        ]
    transform = Features(features, kernels)
    made = transform(Batch(columns, 3))
    # Mods stand at two levels: after the other transforms, and as the first.
    assert calls == {"ids_hash": 1, "values_bucketize": 1, "ids_mod": 2}
    assert made["hash 3"].span is made["again 3"].span
    assert made["mod 2"].ids.tolist() == [0, 1, 1]
    for i in range(4):
        want = [sum(b <= v for b in (0.15, 1.0 + i)) for v in (np.float32(0.1 * i), 3.0)]
        assert made[f"bucket {i}"].ids.tolist() == want


def test_inputs_are_left_alone(kernels: Kernels) -> None:
    columns = {"i": bags([[5, 6, 7], [8]]), "s": strings(WORDS[:2]), "v": torch.ones(2, 1)}
    batch = Batch(columns, 2)
    kept = [columns["i"].flat.clone(), columns["s"].flat.clone(), columns["v"].clone()]
    features = [
        Feature(f"{name} {k}", name, T, transforms=(*first, Mod(3 + k), Truncate(2)))
        for name, first in (("i", ()), ("s", (Hash(),)), ("v", (Bucketize((0.5,)),)))
        for k in range(2)
    ]
    transform = Features(features, kernels)
    once, twice = transform(batch), transform(batch)
    assert once["i 0"].ids.tolist() == [2, 0, 2]
    assert once["i 1"].ids.tolist() == [1, 2, 0]
    for name, bag in once.items():
        assert torch.equal(bag.ids, twice[name].ids)
    for before, name in zip(kept, columns, strict=True):
        now = columns[name]
        assert torch.equal(before, now.flat if isinstance(now, Ragged) else now)


def test_nested_lists_dense_columns_and_single_strings(kernels: Kernels) -> None:
    nested = Ragged(bags([[1, 2], [], [3], [4, 5]]), torch.tensor([0, 2, 4], dtype=torch.int32))
    word = strings([[b"ab"], [b"c"]]).values
    assert isinstance(word, Ragged)
    batch = Batch({"n": nested, "d": torch.tensor([[1, 2], [3, 4]]), "w": word}, 2)
    features = [Feature(n, n, T, transforms=(Hash(),) if n == "w" else ()) for n in "ndw"]
    made = Features(features, kernels)(batch)
    got = {name: lists(bag.ids, bag.offsets) for name, bag in made.items()}
    assert got["n"] == [[1, 2], [3, 4, 5]]
    assert got["d"] == [[1, 2], [3, 4]]
    assert got["w"] == [[signed(farm64(b"ab"))], [signed(farm64(b"c"))]]


@pytest.mark.parametrize("rows", [0, 2])
def test_nothing_to_transform(kernels: Kernels, rows: int) -> None:
    empty = [[]] * rows
    batch = Batch({"s": strings(empty), "i": bags(empty), "v": bags(empty, torch.float32)}, rows)
    features = [
        Feature("s", "s", T, transforms=(Hash(), Truncate(2), Mod(5))),
        Feature("i", "i", T, "tile", 3, transforms=(Mod(5),)),
        Feature("v", "v", T, transforms=(Bucketize(()),)),
    ]
    for bag in Features(features, kernels)(batch).values():
        assert bag.ids.tolist() == []
        assert bag.offsets.tolist() == [0] * (rows + 1)


def test_chains_that_do_not_fit_are_refused_at_once() -> None:
    kernels = kernels_of("reference")
    for chain, said in [
        ((Mod(3), Hash()), "takes strings, but gets ids"),
        ((Hash(), Bucketize((1.0,))), "takes values, but gets ids"),
        ((Bucketize((1.0,)), Hash()), "takes strings, but gets ids"),
    ]:
        with pytest.raises(TypeError, match=f"feature 'f'.*{said}.*column 'c'"):
            Features([Feature("f", "c", T, transforms=chain)], kernels)
    for transform, said in [
        (Mod(0), "modulus"),
        (Truncate(-1), "length"),
        (Bucketize((1.0, 0.5)), "ascend"),
        (Bucketize((float("nan"),)), "ascend"),
    ]:
        with pytest.raises(ValueError, match=f"feature 'f'.*{said}.*column 'c'"):
            Features([Feature("f", "c", T, transforms=(transform,))], kernels)
    both = [Feature("f", "c", T, transforms=(Hash(),)), Feature("g", "c", T)]
    with pytest.raises(TypeError, match="feature 'g' needs column 'c' to hold ids"):
        Features(both, kernels)


def test_declared_columns_must_serve() -> None:
    columns = [Column("s", "strings"), Column("v", "values"), Column("i", "ids")]
    good = [
        Feature("a", "s", T, transforms=(Hash(),)),
        Feature("b", "i", T, weights="v"),
        Feature("c", "v", T, transforms=(Truncate(3), Bucketize((1.0,)))),
    ]
    verify(good, columns)
    with pytest.raises(TypeError, match=r"'f': column 's' holds strings.*hash them first"):
        verify([Feature("f", "s", T)], columns)
    with pytest.raises(TypeError, match=r"'f': column 'v' holds values.*bucketize them first"):
        verify([Feature("f", "v", T, transforms=(Truncate(3), Mod(5)))], columns)
    with pytest.raises(TypeError, match=r"'f': column 'i' holds ids, not the values"):
        verify([Feature("f", "i", T, weights="i")], columns)
    with pytest.raises(KeyError, match="'f': no column 'x'"):
        verify([Feature("f", "x", T)], columns)


def test_batches_that_do_not_fit_name_feature_and_column() -> None:
    kernels = kernels_of("reference")
    plain = Features([Feature("f", "c", T, weights="w")], kernels)
    ids, w = bags([[1, 2], [3]]), bags([[0.5, 1.0], [2.0]], torch.float32)
    with pytest.raises(KeyError, match=r"'f': column 'w' is not in the batch"):
        plain(Batch({"c": ids}, 2))
    with pytest.raises(TypeError, match=r"'f': column 'c' holds strings.*hash them first"):
        plain(Batch({"c": strings(WORDS[:2]), "w": w}, 2))
    with pytest.raises(ValueError, match=r"'f': column 'c' has 2 rows, the batch 3"):
        plain(Batch({"c": ids, "w": w}, 3))
    for other in ([[0.5], [1.0, 2.0]], [[0.5], [1.0]]):
        with pytest.raises(ValueError, match="'f': weights 'w' do not lie beside"):
            plain(Batch({"c": ids, "w": bags(other, torch.float32)}, 2))
    graded = Ragged(w.flat.clone().requires_grad_(), w.offsets)
    with pytest.raises(ValueError, match=r"'f': column 'w' requires grad"):
        plain(Batch({"c": ids, "w": graded}, 2))


def test_what_lies_side_by_side_is_not_copied() -> None:
    whole = torch.arange(20)

    def part(begin: int, end: int) -> Span:
        return Span(whole, begin, end - begin, end - begin, 1, None, 0)

    parts = [part(3, 7), part(7, 7), part(7, 13), part(13, 20)]
    beside = joined(parts)
    assert torch.equal(beside, whole[3:])
    assert beside.data_ptr() == whole[3:].data_ptr()
    assert torch.equal(joined([parts[2], parts[0]]), torch.cat([whole[7:13], whole[3:7]]))
    assert torch.equal(joined([parts[0], parts[3]]), torch.cat([whole[3:7], whole[13:]]))
    assert torch.equal(joined([parts[1], parts[1]]), whole[:0])
    other = parts[2]._replace(flat=whole.clone())
    assert torch.equal(joined([parts[0], other, parts[3]]), whole[3:])


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)])
def test_offsets_of_columns(order: tuple[int, ...]) -> None:
    bounds = torch.tensor([0, 1, 3, 0, 0, 2, 0, 2, 4], dtype=torch.int32)
    ids = torch.arange(9)
    spans = [Span(ids, 0, int(bounds[3 * i + 2]), 2, 0, bounds, 3 * i) for i in order]
    assert torch.equal(rows_offsets(spans), bounds.view(3, 3)[list(order)])
    dense = Span(ids, 0, 4, 2, 2, None, 0)
    assert rows_offsets([dense, dense]).tolist() == [[0, 2, 4], [0, 2, 4]]
    assert rows_offsets([spans[0], dense])[1].tolist() == [0, 2, 4]
