"""Importers of public data against the files themselves, and the models over them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.orc as orc
import pyarrow.parquet as parquet
import pytest
import torch
from torch import nn

import backends
import workloads
from recis_core import optim
from recis_core.io.reader import Reader
from recis_core.kernels import Kernels
from recis_core.objective import inputs_of
from recis_core.train import Trainer
from workloads.criteo import CATEGORIES, NUMBERS, read_criteo
from workloads.deepfm import DeepFm
from workloads.movielens import read_atomic, read_movielens

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
SOURCES = {
    "movielens": SHARED / "ml-100k",
    "criteo": SHARED / "criteo-sample",
    "recis-deepfm": SHARED / "recis-deepfm",
}


def source(name: str) -> Path:
    if not SOURCES[name].exists():
        pytest.skip(f"no public data at ../shared/data/{SOURCES[name].name}")
    return SOURCES[name]


@pytest.fixture(scope="module")
def kernels() -> Kernels:
    return backends.load("torch")


def imported(name: str, folder: Path, **how: Any) -> dict[str, Any]:
    found: Any = workloads.find(name)
    return found.write(found.sizes[0], folder, source=source(name), **how)


def test_movielens_holds_every_interaction(tmp_path: Path) -> None:
    table = read_movielens(source("movielens"))
    inter = read_atomic(source("movielens") / "ml-100k.inter")
    assert table.num_rows == len(inter["user_id"]) == 100_000
    assert table["user_id"].to_pylist() == [int(u) for u in inter["user_id"]]
    assert table["label"].to_pylist() == [float(r >= 4) for r in inter["rating"]]
    first = table.slice(0, 1).to_pylist()[0]
    assert (first["user_id"], first["item_id"], first["rating"]) == (196, 242, 3.0)
    users = read_atomic(source("movielens") / "ml-100k.user")
    at = users["user_id"].index("196")
    assert first["occupation"] == users["occupation"][at]
    assert first["age"] == float(users["age"][at])
    assert len(set(table["item_id"].to_pylist())) == 1682
    assert table["genres"].null_count == 0

    manifest = imported("movielens", tmp_path)
    assert manifest["rows"] == {"train": 80_000, "valid": 20_000}
    both = [parquet.read_table(tmp_path / part) for part in ("train", "valid")]
    pairs = [
        set(zip(*(t[c].to_pylist() for c in ("user_id", "item_id")), strict=True)) for t in both
    ]
    assert not pairs[0] & pairs[1]
    assert len(pairs[0] | pairs[1]) == 100_000


def test_atomic_errors(tmp_path: Path) -> None:
    path = tmp_path / "x.inter"
    path.write_text("user_id:token\trating:float\n1\t3\n2\n")
    with pytest.raises(ValueError, match=r"x\.inter: line 3 has 1 cells, not 2"):
        read_atomic(path)
    path.write_text("user_id:token\trating:float\n1\tthree\n")
    with pytest.raises(ValueError, match=r"x\.inter: line 2, column 'rating': .*'three'"):
        read_atomic(path)
    path.write_text("user_id:word\n1\n")
    with pytest.raises(ValueError, match="column 'user_id' has type 'word'"):
        read_atomic(path)


def test_atomic_types(tmp_path: Path) -> None:
    path = tmp_path / "x.item"
    path.write_text("a:token\tb:token_seq\tc:float\td:float_seq\nx y\tu v\t\t1 2.5\n\t\t3\t\n")
    assert read_atomic(path) == {
        "a": ["x y", ""], "b": [["u", "v"], []], "c": [None, 3.0], "d": [[1.0, 2.5], []],
    }  # fmt: skip


def test_criteo_sample_cell_by_cell() -> None:
    path = source("criteo") / "criteo_sample.txt"
    table = read_criteo(path)
    lines = [line.split(",") for line in path.read_text().splitlines()[1:]]
    assert table.num_rows == len(lines) == 200
    for at, name in enumerate(("label", *NUMBERS, *CATEGORIES)):
        parse = float if at <= len(NUMBERS) else lambda cell: int(cell, 16)
        assert table[name].to_pylist() == [[parse(x[at])] if x[at] else [] for x in lines]


def test_criteo_tabs_without_header(tmp_path: Path) -> None:
    path = tmp_path / "day.txt"
    cells = ["1", *(["7"] * 12), "", *(["0000000a"] * 25), ""]
    path.write_text("\t".join(cells) + "\n" + "\t".join(["0", *cells[1:]]) + "\n")
    table = read_criteo(path)
    assert table["label"].to_pylist() == [[1.0], [0.0]]
    assert table["i1"].to_pylist() == [[7.0], [7.0]]
    assert table["i13"].to_pylist() == [[], []]
    assert table["c1"].to_pylist() == [[10], [10]]
    assert table["c26"].to_pylist() == [[], []]


@pytest.mark.parametrize(
    ("at", "cell", "said"),
    [(0, "2", "cell 1: label '2'"), (1, "x", "cell 2: .*'x'"), (14, "zz", "cell 15: .*'zz'")],
)
def test_criteo_errors(tmp_path: Path, at: int, cell: str, said: str) -> None:
    cells = ["1", *(["7"] * 13), *(["a"] * 26)]
    wrong = [*cells[:at], cell, *cells[at + 1 :]]
    path = tmp_path / "day.txt"
    path.write_text("\t".join(cells) + "\n" + "\t".join(wrong) + "\n")
    with pytest.raises(ValueError, match=rf"day\.txt: line 2, {said}"):
        read_criteo(path)
    path.write_text("1\t2\n")
    with pytest.raises(ValueError, match="line 1 has 2 cells, not 40"):
        read_criteo(path)


def test_recis_example_is_imported_unchanged(tmp_path: Path) -> None:
    manifest = imported("recis-deepfm", tmp_path, format="orc")
    assert manifest["rows"] == {"train": 10_000, "valid": 10_000}
    for part, name in (("part-0.orc", "train"), ("part-1.orc", "valid")):
        original = orc.read_table(str(source("recis-deepfm") / part))
        assert orc.read_table(str(tmp_path / name / "part-0.orc")).equals(original)


def test_source_is_needed(tmp_path: Path) -> None:
    for name in SOURCES:
        found: Any = workloads.find(name)
        with pytest.raises(ValueError, match="say where it lies"):
            found.write(found.sizes[0], tmp_path / name)
        with pytest.raises(FileNotFoundError, match="nowhere"):
            found.write(found.sizes[0], tmp_path / name, source=tmp_path / "nowhere")


@pytest.mark.parametrize("name", SOURCES)
def test_reused_and_refused(tmp_path: Path, name: str) -> None:
    first = imported(name, tmp_path)
    assert imported(name, tmp_path) == first
    with pytest.raises(ValueError, match="format is 'parquet', asked for 'orc'"):
        imported(name, tmp_path, format="orc")


@pytest.mark.parametrize("name", SOURCES)
def test_a_step_trains(tmp_path: Path, name: str, kernels: Kernels) -> None:
    """The model takes what the reader makes of the imported files, and its loss falls."""
    imported(name, tmp_path)
    found = workloads.find(name)
    torch.manual_seed(0)
    model: Any = found.model(found.sizes[0]).eval()
    reader = Reader(tmp_path / "train", model.columns, 64, kernels=kernels)
    trainer = Trainer(model, kernels, optim.AdamW(lr=1e-2), reader)
    batch = next(iter(reader))
    leaves = trainer.embedding.lookup(batch, train=True)
    logits = model(inputs_of(model, batch, leaves))
    assert logits.shape == (64,)
    losses = [trainer.train_step([batch])["loss"] for _ in range(8)]
    assert losses[-1] < losses[0]


def test_deepfm_is_its_formula() -> None:
    found: Any = workloads.find("criteo").model("text")
    model = DeepFm(found.features, found.columns, found.task, hidden=(4,))
    for parameter in model.mlp[-1].parameters():
        nn.init.zeros_(parameter)
    rng = np.random.default_rng(0)
    leaves = {f.name: rng.standard_normal((3, f.table.dim)) for f in model.features}
    x = list(leaves.values())
    wanted = sum(a[:, 0] for a in x) + sum(
        (a[:, 1:] * b[:, 1:]).sum(1) for i, a in enumerate(x) for b in x[:i]
    )
    got = model.double()({n: torch.from_numpy(a) for n, a in leaves.items()})
    np.testing.assert_allclose(got.detach().numpy(), wanted, rtol=1e-9)


def test_deepfm_needs_one_dim() -> None:
    narrow: Any = workloads.find("criteo").model("text")
    wide: Any = workloads.find("movielens").model("100k")
    features = [narrow.features[0], wide.features[0]]
    with pytest.raises(ValueError, match=r"need one dim, but have \[8, 32\]"):
        DeepFm(features, [], narrow.task, hidden=(4,))
