"""The CUDA C++ backend without a GPU: it compiles, builds safely, and its arithmetic agrees."""

from __future__ import annotations

import ctypes
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import backends
from backends.cuda import build, call
from recis_core import mixing
from recis_core.blocks import Blocks, Slot
from recis_core.draw import HOSTILE_IDS
from recis_core.kernels import every_op
from recis_core.ops.ids_hash import farm64, murmur64a

# The suite compiles for one; CI for all.
ARCHITECTURES = (
    "90", pytest.param("80", marks=pytest.mark.slow), pytest.param("100", marks=pytest.mark.slow)
)  # fmt: skip
SOURCES = sorted(build.SOURCES.glob("*.cu"))
TWIN = Path(__file__).with_name("cuda_twin.cu")

needs_nvcc = pytest.mark.skipif(
    build.find_compiler() is None, reason=f"nvcc is not found; pip install {build.NEEDED}"
)


def nvcc(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [str(a) for a in (build.compiler(), "-std=c++17", "-I", build.SOURCES, *arguments)]
    return subprocess.run(command, capture_output=True, text=True)


@needs_nvcc
@pytest.mark.timeout(600)
@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_every_source_compiles(tmp_path: Path, arch: str) -> None:
    """To machine code, least optimized: what is checked is that it compiles, in bearable time."""

    def compile_one(source: Path) -> str:
        out = tmp_path / f"{source.stem}-{arch}.cubin"
        done = nvcc("-cubin", f"-arch=sm_{arch}", "-Ofc=max", source, "-o", out)
        if done.returncode:
            return f"{source.name} for sm_{arch}:\n{done.stdout}{done.stderr}"
        return "" if out.stat().st_size else f"{source.name} for sm_{arch}: an empty cubin"

    with ThreadPoolExecutor(2) as pool:
        failures = [text for text in pool.map(compile_one, SOURCES) if text]
    assert not failures, "\n".join(failures)


def test_every_op_has_a_source_or_a_default() -> None:
    stems = {source.stem for source in SOURCES}
    assert not [op.name for op in every_op() if op.name not in stems and op.default is None]
    assert stems <= {op.name for op in every_op()}


@pytest.fixture(scope="module")
def twin(tmp_path_factory: pytest.TempPathFactory) -> Any:
    if build.find_compiler() is None:
        pytest.skip(f"nvcc is not found; pip install {build.NEEDED}")
    out = tmp_path_factory.mktemp("twin") / "twin.so"
    done = nvcc("--shared", "-Xcompiler", "-fPIC", "-arch=sm_90", TWIN, "-o", out)
    assert done.returncode == 0, done.stdout + done.stderr
    try:
        library = ctypes.CDLL(str(out))
    except OSError as error:
        pytest.skip(f"a library of nvcc's does not load here: {error}")
    u64, i64 = ctypes.c_uint64, ctypes.c_int64
    for name, result, arguments in (
        ("mix64", u64, (u64,)),
        ("pair_hash", u64, (i64, i64)),
        ("owner", ctypes.c_int, (u64, ctypes.c_int)),
        ("owner_known", ctypes.c_int, (u64, ctypes.c_int)),
        ("farm64", u64, (ctypes.c_char_p, i64)),
        ("murmur64a", u64, (ctypes.c_char_p, i64)),
        ("row", i64, (ctypes.c_char_p, i64)),
        ("fields", None, (ctypes.c_char_p, ctypes.c_void_p)),
        ("real", ctypes.c_double, (ctypes.c_char_p,)),
        ("item_size", i64, (ctypes.c_int,)),
        ("access_width", ctypes.c_int, (i64, i64)),
    ):
        function = getattr(library, f"twin_{name}")
        function.restype, function.argtypes = result, arguments
    return library


def words(count: int = 2000) -> np.ndarray:
    drawn = np.random.default_rng(1).integers(-(2**63), 2**63, count, dtype=np.int64)
    return np.concatenate([drawn, HOSTILE_IDS, np.arange(-20, 20)])


def test_mixing_is_the_same_on_the_host(twin: Any) -> None:
    ids, salt = words(), mixing.table_salt("user")
    want = mixing.mix64(ids)
    assert [twin.twin_mix64(int(i) % 2**64) for i in ids] == want.tolist()
    want = mixing.pair_hash(np.int64(salt), ids)
    assert [twin.twin_pair_hash(salt, int(i)) for i in ids] == want.tolist()


@pytest.mark.parametrize("world", [1, 2, 3, 7, 8, 1000, 65535, 65536])
def test_owners_are_the_same_on_the_host(twin: Any, world: int) -> None:
    hashed = mixing.mix64(words())
    want = mixing.owner_of(hashed, world)
    assert [twin.twin_owner(int(h), world) for h in hashed] == want.tolist()
    assert [twin.twin_owner_known(int(h), world) for h in hashed] == want.tolist()
    slices = np.arange(mixing.SLICES, dtype=np.uint64)
    want = mixing.owner_of(slices, world)
    assert [twin.twin_owner_known(int(s), world) for s in slices] == want.tolist()


def test_string_hashes_are_the_same_on_the_host(twin: Any) -> None:
    rng = np.random.default_rng(2)
    for length in [*range(200), 1000, 4095]:
        text = rng.integers(0, 256, length, dtype=np.uint8).tobytes()
        assert twin.twin_farm64(text, length) == farm64(text), length
        assert twin.twin_murmur64a(text, length) == murmur64a(text), length


@pytest.mark.parametrize(("log2_rows", "dims"), [(0, (3,)), (4, (1, 8, 5)), (10, (64, 64))])
def test_rows_lie_where_blocks_put_them(twin: Any, log2_rows: int, dims: Sequence[int]) -> None:
    blocks = Blocks([Slot(f"s{i}", d) for i, d in enumerate(dims)], log2_rows)
    blocks.grow(50)
    packed = call.pack_blocks(blocks)
    for row in (0, 1, 15, 16, 17, 49):
        block, line = divmod(row, 1 << log2_rows)
        want = blocks.tensors[block][line].data_ptr()
        assert twin.twin_row(packed, row) == want


def fields(twin: Any, packed: bytes) -> list[int]:
    out = np.zeros(5, np.int64)
    twin.twin_fields(packed, out.ctypes.data)
    return out.tolist()


def test_records_are_read_as_they_are_packed(twin: Any) -> None:
    for code, dtype in enumerate(call.DTYPES):
        t = torch.zeros(3, 4, 5, dtype=dtype)
        assert fields(twin, call.pack_tensor(t)) == [t.data_ptr(), 3, 20, code, 1]
        assert twin.twin_item_size(code) == dtype.itemsize
    assert fields(twin, call.pack_tensor(None)) == [0] * 5
    for value in (0, -1, 2**63 - 1, -(2**63)):
        assert fields(twin, call.pack_int(value))[0] == value
    assert fields(twin, call.pack_int(2**64 - 1))[0] == -1
    slot = Slot("s", 7, torch.bfloat16, 0.25, 48)
    packed = call.pack_slot(slot)
    assert twin.twin_real(packed) == 0.25
    assert fields(twin, packed)[1:] == [48, 7, call.CODE[torch.bfloat16], 1]


def test_accesses_are_as_wide_as_rows_and_addresses_allow(twin: Any) -> None:
    for size, address, width in [(64, 4096, 16), (64, 4104, 8), (12, 4096, 4), (6, 4096, 2)]:
        assert twin.twin_access_width(size, address) == width


BUILD = """
import sys
from pathlib import Path
from backends.cuda import build
print(build.library("rows_sgd", ("90",), Path(sys.argv[1])))
"""


@needs_nvcc
@pytest.mark.timeout(600)
def test_two_processes_build_one_library(tmp_path: Path) -> None:
    command = [sys.executable, "-c", BUILD, str(tmp_path)]
    root = Path(__file__).parent.parent
    running = [
        subprocess.Popen(
            command, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    done = [p.communicate() for p in running]
    assert [p.returncode for p in running] == [0, 0], done
    assert done[0][0] == done[1][0]
    assert Path(done[0][0].strip()).stat().st_size
    # One compiled, and said so; the other waited. Nothing else is left behind.
    assert sum("compiling" in err for _, err in done) == 1
    assert sorted(p.suffix for p in tmp_path.iterdir()) == [".lock", ".so"]


def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    sources = tmp_path / "sources"
    sources.mkdir()
    (sources / "broken.cu").write_text(text)
    monkeypatch.setattr(build, "SOURCES", sources)


@needs_nvcc
def test_a_failed_build_has_the_compilers_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake(tmp_path, monkeypatch, "int broken() { return no_such_name; }\n")
    with pytest.raises(build.BuildError, match=r"(?s)refused broken\.cu.*no_such_name"):
        build.library("broken", ("90",), tmp_path / "cache")
    assert [p.suffix for p in (tmp_path / "cache").iterdir()] == [".lock"]


@needs_nvcc
def test_a_changed_source_or_header_is_built_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake(tmp_path, monkeypatch, "int broken() { return 1; }\n")
    cache = tmp_path / "cache"
    first = build.library("broken", ("90",), cache)
    assert build.library("broken", ("90",), cache) == first
    (build.SOURCES / "new.cuh").write_text("// a header\n")
    second = build.library("broken", ("90",), cache)
    assert second != first
    assert second.exists()


def test_a_missing_compiler_is_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    backend = backends.find("cuda")
    assert backend.absent("cpu") == "runs on cuda, not on cpu"
    from backends import cuda

    monkeypatch.setattr(cuda, "find_compiler", lambda: None)
    reason = cuda.absent("cuda")
    assert reason is not None
    assert "nvidia-cuda-nvcc" in reason
    monkeypatch.setattr(build, "find_compiler", lambda: None)
    with pytest.raises(build.BuildError, match="pip install nvidia-cuda-nvcc"):
        build.compiler()
