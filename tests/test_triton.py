"""Backend triton without a GPU: conformance under the interpreter, compilation for sm_90."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from backends import find
from recis_core.kernels import every_op

ROOT = Path(__file__).parents[1]
SHARES = 2

pytestmark = pytest.mark.skipif(
    find_spec("triton") is None, reason="triton is not installed; pip install -e '.[triton]'"
)


def child(script: str, *args: str, interpreted: bool) -> subprocess.Popen[str]:
    """A process of its own: whether kernels are interpreted is decided when they are imported."""
    kept = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    path = os.pathsep.join([str(ROOT), *filter(None, [kept.get("PYTHONPATH")])])
    extra = {"TRITON_INTERPRET": "1"} if interpreted else {}
    return subprocess.Popen(
        [sys.executable, "-W", "ignore", "-m", f"tests.{script}", *args],
        env={**kept, **extra, "PYTHONPATH": path},
        cwd=ROOT,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def lines_of(process: subprocess.Popen[str]) -> list[str]:
    out, err = process.communicate()
    assert process.returncode == 0, err[-4000:]
    return out.splitlines()


@pytest.fixture(scope="module")
def verdicts() -> list[dict[str, Any]]:
    children = [
        child("triton_conformance", str(share), str(SHARES), interpreted=True)
        for share in range(SHARES)
    ]
    return [json.loads(line) for process in children for line in lines_of(process)]


@pytest.mark.parametrize("op", [op.name for op in every_op()])
def test_agrees_with_the_reference_when_interpreted(
    verdicts: list[dict[str, Any]], op: str
) -> None:
    own = [v for v in verdicts if v["op"] == op]
    assert {v["small"] for v in own} == {False, True}
    wrong = [v for v in own if v["status"] != "ok"]
    assert not wrong, "\n".join(map(str, wrong[:5]))


@pytest.fixture(scope="module")
def compiled() -> set[str]:
    return {line.split()[0] for line in lines_of(child("triton_compile", interpreted=False))}


def test_every_kernel_compiles_for_sm_90(compiled: set[str]) -> None:
    folder = ROOT / "backends" / "triton"
    declared = set()
    for file in sorted(folder.glob("*.py")):
        source = file.read_text().splitlines()
        for line, text in enumerate(source):
            if text.startswith("def _") and source[line - 1].startswith("@triton.jit("):
                declared.add(f"backends.triton.{file.stem}.{text[4:].split('(')[0]}")
    assert len(declared) > 20
    assert declared <= compiled, declared - compiled


def test_a_cpu_without_the_interpreter_is_no_device() -> None:
    reason = find("triton").absent("cpu")
    assert reason is not None
    assert "TRITON_INTERPRET=1" in reason
