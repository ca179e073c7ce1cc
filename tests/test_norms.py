"""The house rules that a machine can check."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGES = ("recis_core", "backends", "workloads", "roofline", "reports")
# Lines of a file; a test file holds tables of cases too.
LONGEST, LONGEST_TEST = 300, 400
VAGUE = {"utils", "util", "helpers", "helper", "common", "misc", "tools", "base"}
# What a tolerance is called where it is passed to a comparison.
TOLERANCES = {"rtol", "atol", "rel", "rel_tol", "abs_tol"}
DECLARATIONS = [
    *sorted((ROOT / "recis_core" / "ops").glob("*.py")),
    *(
        ROOT / "recis_core" / f"{name}.py"
        for name in ("kernels", "spec", "sources", "rules", "draw", "mixing", "tolerance", "types")
    ),
]


def python_files(*packages: str) -> list[Path]:
    return sorted(p for name in packages for p in (ROOT / name).rglob("*.py"))


def module(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def fresh(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )


def test_layers() -> None:
    """Every package imports only what stands to its right: the contract in pyproject.toml."""
    code = (
        "from importlinter.cli import lint_imports; raise SystemExit(lint_imports(no_cache=True))"
    )
    done = fresh(code)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 kept, 0 broken" in done.stdout


def test_declarations_import_numpy_only() -> None:
    """In a fresh interpreter, so that nothing imported before can hide what they pull in."""
    code = (
        f"import importlib, sys\n"
        f"for name in {[module(p) for p in DECLARATIONS]!r}: importlib.import_module(name)\n"
        "ours = {'recis_core', 'numpy', '__main__'} | set(sys.stdlib_module_names)\n"
        "print(sorted({m.partition('.')[0] for m in sys.modules} - ours))\n"
    )
    done = fresh(code)
    assert done.returncode == 0, done.stderr
    foreign = [n for n in ast.literal_eval(done.stdout) if not n.startswith(("_", "sitecustomize"))]
    assert "torch" not in foreign
    for path in DECLARATIONS:
        assert imports(path) <= {"numpy", "recis_core", "torch"} | set(sys.stdlib_module_names)
        if path.name != "types.py":  # under TYPE_CHECKING there
            assert "torch" not in imports(path), path


def imports(path: Path) -> set[str]:
    """Top-level names a file imports anywhere."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            found.add(node.module.partition(".")[0])
    return found


def test_importing_changes_nothing() -> None:
    """A package's own import changes no global of torch and starts no threads."""
    done = fresh(
        "import importlib, threading, torch\n"
        "def state(): return (torch.get_num_threads(), torch.get_default_dtype(),\n"
        "    torch.are_deterministic_algorithms_enabled(), threading.active_count())\n"
        "before = state()\n"
        f"for name in {PACKAGES!r}:\n"
        "    importlib.import_module(name)\n"
        "    assert state() == before, (name, before, state())\n"
    )
    assert done.returncode == 0, done.stderr


def test_names_say_something() -> None:
    named = [p for p in python_files(*PACKAGES, "tests") if p.stem in VAGUE]
    assert named == []


def test_files_are_short() -> None:
    long = {
        str(p.relative_to(ROOT)): lines
        for p in python_files(*PACKAGES, "tests")
        if (lines := len(p.read_text().splitlines()))
        > (LONGEST_TEST if p.is_relative_to(ROOT / "tests") else LONGEST)
    }
    assert long == {}


def test_no_environment_variables_of_ours() -> None:
    """Nothing is steered by the environment. Where a user's cache is, the system's variables say;
    what other libraries want there is set for child processes, in a copy."""
    allowed = re.compile(r"os\.environ\.get\(\"(XDG_CACHE_HOME|LOCALAPPDATA)\"|\{\*\*os\.environ\b")
    reads = re.compile(r"\bos\.environ\b|\bos\.(get|put)env\b|\bfrom os import .*environ")
    files = python_files(*PACKAGES)
    found = [str(p) for p in files if reads.search(allowed.sub("", p.read_text()))]
    assert found == []


def loose_tolerances(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        for keyword in node.keywords if isinstance(node, ast.Call) else ():
            if keyword.arg in TOLERANCES and isinstance(keyword.value, ast.Constant):
                yield f"{path}:{node.lineno} {keyword.arg}={keyword.value.value}"


def test_tolerances_are_declared() -> None:
    """A number that says how close is close stands in tolerance.py or on the op it is for."""
    found = [line for p in python_files(*PACKAGES) for line in loose_tolerances(p)]
    assert found == []
    makers = [
        p
        for p in python_files(*PACKAGES)
        if re.search(r"\bTolerance\(\s*\{", p.read_text())
        and p.parent.name != "ops"
        and p.name != "tolerance.py"
    ]
    assert makers == []


def test_every_module_says_what_it_is() -> None:
    silent = [
        str(p.relative_to(ROOT))
        for p in python_files(*PACKAGES, "tests")
        if not ast.get_docstring(ast.parse(p.read_text()))
    ]
    assert silent == []


def test_quick_start_is_two_commands() -> None:
    """The README's Quick start has exactly two fenced blocks, each of which is one command."""
    text = (ROOT / "README.md").read_text()
    (section,) = re.findall(r"^## Quick start$(.*?)(?=^## |\Z)", text, re.M | re.S)
    blocks = re.findall(r"^```\w*\n(.*?)^```$", section, re.M | re.S)
    assert len(blocks) == 2
    for block in blocks:
        joined = block.replace("\\\n", " ").strip()
        assert joined
        assert len(joined.splitlines()) == 1
