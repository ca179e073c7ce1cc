"""Compile one op's CUDA C++ to a C-ABI library, once, into the user's cache."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path

SOURCES = Path(__file__).parent
FLAGS = ("-O3", "-std=c++17", "--shared", "-Xcompiler", "-fPIC,-fvisibility=hidden", "-lineinfo")
NEEDED = "nvidia-cuda-nvcc nvidia-cuda-crt nvidia-nvvm nvidia-cuda-runtime nvidia-cuda-cccl"


class BuildError(RuntimeError):
    """nvcc is missing or refused a source; the message has the compiler's words."""


@cache
def find_compiler() -> Path | None:
    """nvcc from PATH, from /usr/local/cuda, or from NVIDIA's wheels."""
    wheels = Path(sysconfig.get_path("purelib")) / "nvidia"
    places = [shutil.which("nvcc"), "/usr/local/cuda/bin/nvcc", *wheels.glob("cu*/bin/nvcc")]
    return next((Path(p) for p in places if p and Path(p).is_file()), None)


def missing() -> str:
    """What to say where there is no nvcc."""
    return f"nvcc is not found; it comes with the CUDA toolkit, or: pip install {NEEDED}"


def compiler() -> Path:
    found = find_compiler()
    if found is None:
        raise BuildError(missing())
    return found


@cache
def compiler_version(nvcc: Path) -> str:
    return subprocess.run([nvcc, "--version"], capture_output=True, text=True, check=True).stdout


def cache_folder() -> Path:
    """Where built libraries are kept: the platform's cache folder of this user."""
    return Path.home() / ".cache" / "recis-suite" / "cuda"


def headers() -> list[Path]:
    return sorted(SOURCES.glob("*.cuh"))


def library(op: str, architectures: Sequence[str], folder: Path | None = None) -> Path:
    """Path of `op`'s library for the architectures ("90"), built if no equal one is cached.

    Safe when several processes ask at once: one builds, the others wait.
    """
    source = SOURCES / f"{op}.cu"
    nvcc = compiler()
    key = hashlib.sha256()
    for part in (compiler_version(nvcc), repr((FLAGS, tuple(architectures)))):
        key.update(part.encode())
    for file in (*headers(), source):
        key.update(file.read_bytes())
    folder = folder or cache_folder()
    target = folder / f"{op}-{key.hexdigest()[:16]}.so"
    if target.exists():
        return target
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder / f"{op}.lock"):
        if not target.exists():
            compile_to(target, nvcc, source, architectures)
    return target


def compile_to(target: Path, nvcc: Path, source: Path, architectures: Sequence[str]) -> None:
    """Run nvcc into a file beside `target`, then rename: a killed build leaves nothing behind."""
    print(f"recis: compiling {source.name} for sm_{', sm_'.join(architectures)}", file=sys.stderr)
    code = [f"-gencode=arch=compute_{a},code=sm_{a}" for a in architectures]
    handle, name = tempfile.mkstemp(suffix=".so", dir=target.parent)
    os.close(handle)
    try:
        done = subprocess.run(
            [nvcc, *FLAGS, *code, "-I", SOURCES, source, "-o", name], capture_output=True, text=True
        )
        if done.returncode:
            raise BuildError(f"nvcc refused {source.name}:\n{done.stdout}{done.stderr}")
        Path(name).replace(target)
    finally:
        Path(name).unlink(missing_ok=True)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
