"""Every source of backend cupy compiles, with every set of macros it declares, without a GPU."""

from __future__ import annotations

import importlib
import shutil
import subprocess
from pathlib import Path
from types import ModuleType

import pytest

import backends.cupy
from backends.cupy.queue import Source
from recis_core.kernels import every_op

FOLDER = Path(backends.cupy.__file__).parent
NAMES = sorted(path.stem for path in FOLDER.glob("*.py") if path.stem != "__init__")


def imported(name: str) -> ModuleType:
    return importlib.import_module(f"backends.cupy.{name}")


def sources_of(module: ModuleType) -> list[Source]:
    """The sources a module makes itself."""
    return [value for value in vars(module).values() if isinstance(value, Source)]


def own_sources(name: str) -> list[Source]:
    return [s for s in sources_of(imported(name)) if s.name.split()[0] == name]


WITH_SOURCES = [name for name in NAMES if own_sources(name)]


@pytest.mark.parametrize("name", WITH_SOURCES)
def test_sources_compile(name: str, tmp_path: Path) -> None:
    if shutil.which("nvcc") is None:
        pytest.skip("nvcc is not on PATH")
    for number, source in enumerate(own_sources(name)):
        file = tmp_path / f"{name}{number}.cu"
        file.write_text(source.text)
        for macros in source.variants:
            defined = [f"-D{key}={value}" for key, value in macros.items()]
            command = ["nvcc", "--ptx", "-arch=sm_90", "-std=c++17", *defined, str(file)]
            made = subprocess.run([*command, "-o", "/dev/null"], capture_output=True, text=True)
            assert made.returncode == 0, f"{source.name} with {dict(macros)}:\n{made.stderr}"


def test_every_op_without_a_default_is_there() -> None:
    lacking = [op.name for op in every_op() if op.name not in NAMES and op.default is None]
    assert lacking == []


def test_absent_names_what_brings_cupy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends.cupy, "find_spec", lambda name: None)
    assert "-e '.[cupy]'" in (backends.cupy.absent("cuda") or "")
