"""What a machine's CPU is: its name, cores and caches."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

# Where a system does not say; large enough to be honest about what "above the cache" means.
ASSUMED_CACHE = 32 << 20


@dataclass(frozen=True)
class Processor:
    """Name, cores this process may use, bytes of memory, and bytes of each cache level."""

    name: str
    cores: int
    memory: int
    caches: dict[str, int]


def describe() -> Processor:
    """The CPU this process runs on."""
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    caches = _linux_caches() or _mac_caches() or {"assumed": ASSUMED_CACHE}
    return Processor(_name(), cores, _memory(), caches)


def _name() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        found = re.search(r"^model name\s*: (.+)$", info.read_text(), re.M)
        if found:
            return found[1].strip()
    return _sysctl("machdep.cpu.brand_string") or platform.processor() or platform.machine()


def _memory() -> int:
    names = getattr(os, "sysconf_names", {})
    if "SC_PHYS_PAGES" in names:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return int(_sysctl("hw.memsize") or 0)


def _linux_caches() -> dict[str, int]:
    found = {}
    for index in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        kind = (index / "type").read_text().strip()
        size = re.fullmatch(r"(\d+)([KMG]?)", (index / "size").read_text().strip())
        if size and kind != "Instruction":
            scale = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}[size[2]]
            found[f"L{(index / 'level').read_text().strip()}"] = int(size[1]) * scale
    return found


def _mac_caches() -> dict[str, int]:
    names = {"L1": "hw.l1dcachesize", "L2": "hw.l2cachesize", "L3": "hw.l3cachesize"}
    sizes = {level: int(_sysctl(name) or 0) for level, name in names.items()}
    return {level: size for level, size in sizes.items() if size}


def _sysctl(name: str) -> str:
    if sys.platform != "darwin":
        return ""
    done = subprocess.run(["sysctl", "-n", name], capture_output=True, text=True, check=False)
    return done.stdout.strip()
