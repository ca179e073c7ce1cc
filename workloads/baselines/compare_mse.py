"""Training rows/s of `mse`: this project's engine beside plain PyTorch, interleaved in one run.

python -m workloads.baselines.compare_mse --data FOLDER [--size small] [--backend numba]

Both read the same Parquet files, take the same batch size and threads, and run the same dense
modules. They take turns of a few steps, so that whatever else the machine does meets both. Freed
memory is kept in the process, as `recis train` has it, which spares either one page faults.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

import backends
from recis_core import optim
from recis_core.allocator import keep_freed_memory
from recis_core.io.reader import Reader
from recis_core.settings import Settings
from recis_core.train import Trainer
from workloads.baselines.plain_torch import PlainTrainer
from workloads.mse import workload


def engine_step(folder: Path, size: str, backend: str) -> Callable[[], Any]:
    """One training step of the engine: read, look up, forward, backward, update."""
    kernels = backends.load(backend)
    defaults = workload.defaults(size)
    torch.manual_seed(0)
    model = workload.model(size)
    reader = Reader(
        folder / "train",
        model.columns,
        defaults.batch_size,
        epochs=None,
        drop_remainder=True,
        kernels=kernels,
    )
    settings = Settings(dense=lambda p: torch.optim.AdamW(p, lr=defaults.dense_lr))
    trainer = Trainer(model, kernels, optim.Adam(lr=defaults.lr), reader, settings=settings)
    source = iter(reader)
    return lambda: trainer.train_step([next(source)])


def plain_step(folder: Path, size: str) -> Callable[[], Any]:
    defaults = workload.defaults(size)
    config = workload.config(size)
    return PlainTrainer(config, folder, defaults.batch_size, defaults.lr, defaults.dense_lr).step


def interleaved(
    steps: dict[str, Callable[[], Any]], rounds: int, turn: int, warm: int
) -> dict[str, list[float]]:
    """Seconds per step of each turn, by name; every round gives each one turn."""
    for step in steps.values():
        for _ in range(warm):
            step()
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(rounds):
        for name, step in steps.items():
            began = time.perf_counter()
            for _ in range(turn):
                step()
            seconds[name].append((time.perf_counter() - began) / turn)
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", type=Path, required=True, help="written there if missing")
    parser.add_argument("--size", default="small")
    parser.add_argument("--backend", default="numba")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--turn", type=int, default=5, help="steps of a turn")
    parser.add_argument("--warm", type=int, default=5, help="steps of each before any is timed")
    chosen = parser.parse_args()
    keep_freed_memory()
    torch.set_num_threads(chosen.threads)
    workload.write(chosen.size, chosen.data)
    batch = workload.defaults(chosen.size).batch_size
    seconds = interleaved(
        {
            chosen.backend: engine_step(chosen.data, chosen.size, chosen.backend),
            "plain torch": plain_step(chosen.data, chosen.size),
        },
        chosen.rounds,
        chosen.turn,
        chosen.warm,
    )
    rates = {name: batch / statistics.median(values) for name, values in seconds.items()}
    for name, rate in rates.items():
        spread = [round(batch / s) for s in seconds[name]]
        print(
            f"{name}: {rate:,.0f} rows/s (turns {min(spread):,} to {max(spread):,})",
            file=sys.stderr,
        )
    ratio = rates[chosen.backend] / rates["plain torch"]
    print(f"ratio {ratio:.2f}", file=sys.stderr)
    print(json.dumps({"rows_per_s": rates, "ratio": ratio, "seconds": seconds}))


if __name__ == "__main__":
    main()
