"""`lma` on one GPU, without network: attention paths side by side, training, a million events.

    python3 -m reports.lma_run FOLDER attention
    python3 -m reports.lma_run FOLDER train --workload lma-16k --data DIR [--steps N]
    python3 -m reports.lma_run FOLDER long --length 1000000

Each appends one JSON object to FOLDER/lma.jsonl and says what it found on standard error.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.optim.lr_scheduler import LinearLR

import backends
from recis_core import optim
from recis_core.attention import PATHS
from recis_core.callbacks import Callback, Step
from recis_core.io import Reader
from recis_core.sequences import Sequences
from recis_core.settings import Settings
from recis_core.train import Trainer
from reports.console import say
from reports.lma_paths import attention, matmul_rate, output
from roofline.processor import describe
from roofline.record import versions
from workloads import find, lma_model
from workloads.lma import LmaConfig
from workloads.lma_flops import flops_of
from workloads.lma_model import LmaModel

SHEET = 989e12  # dense bfloat16 FLOP/s of an H100 SXM by its data sheet
WARM = 30  # steps before any counts: compilation, and tables that still grow fast


class Losses(Callback):
    """Of every step: seconds, the click's loss, the next item's."""

    def __init__(self, model: LmaModel, every: int = 20) -> None:
        self.model, self.every = model, every
        self.rows: list[tuple[float, float, float]] = []

    def on_step(self, trainer: Trainer, step: Step) -> None:
        following = self.model.next_loss
        own = 0.0 if following is None else float(following)
        click = step.loss - own * self.model.shape.weight
        self.rows.append((time.perf_counter(), click, own))
        if step.step % self.every == 0:
            click, own = np.mean([row[1:] for row in self.rows[-self.every :]], 0)
            took = (self.rows[-1][0] - self.rows[-self.every][0]) / (self.every - 1)
            say(f"step {step.step}: click {click:.4f} next {own:.4f} {took * 1e3:.1f} ms/step")


class Table(Callback):
    """Kernels and host calls of three steps after `warm`, as tables."""

    def __init__(self, path: Path, warm: int = 60) -> None:
        self.path, self.warm, self.running = path, warm, None

    def on_step(self, trainer: Trainer, step: Step) -> None:
        if step.step == self.warm:
            from torch.profiler import ProfilerActivity as A
            torch.cuda.synchronize()
            self.running = torch.profiler.profile(activities=[A.CPU, A.CUDA])
            self.running.start()
        elif step.step == self.warm + 3:
            torch.cuda.synchronize()
            self.running.stop()
            averages = self.running.key_averages()
            self.path.write_text("\n".join(averages.table(sort_by=by, row_limit=50, max_name_column_width=80) for by in ("self_cuda_time_total", "self_cpu_time_total")))


class Watched(LmaModel):
    """The model, keeping the lengths it was given."""

    seen: list[tuple[int, ...]]

    def encode(self, x: Tensor, sequences: Sequences) -> Tensor:
        self.seen.append(sequences.lengths)
        return super().encode(x, sequences)


def trained(
    config: LmaConfig, asked: argparse.Namespace, data: Path, steps: int
) -> tuple[Trainer, Watched, Losses]:
    """`steps` steps over the data as the command line would make them."""
    torch.manual_seed(0)
    kernels = backends.load(*asked.backend.split("+"), device=asked.device)
    lma_model.OUTPUT_EPS = asked.out_eps
    with torch.device(asked.device):
        model = Watched(config.shape, asked.path)
    model.seen = []
    reader = Reader(
        data / "train", model.columns, config.batch, shuffle=True, seed=0, kernels=kernels
    )
    losses = Losses(model)
    trainer = Trainer(
        model,
        kernels,
        optim.Adam(lr=config.lr),
        reader,
        settings=Settings(
            steps=steps,
            dense=lambda p: torch.optim.AdamW(p, lr=asked.dense_lr or config.dense_lr, betas=(0.9, asked.beta2), fused=asked.device == "cuda"),
            scheduler=lambda o: LinearLR(o, 1.0, 0.0, steps),
            precision=asked.precision,
            compile=asked.compile,
        ),
        callbacks=[losses, *([Table(asked.folder / "profile.txt")] if asked.profile else [])],
    )
    trainer.train()
    return trainer, model, losses


def train(asked: argparse.Namespace) -> dict[str, Any]:
    """Train a workload; speed over the steps after the first, losses beside the least possible."""
    kind = find(asked.workload)
    config: Any = kind.config(asked.size)
    began = time.perf_counter()
    manifest = kind.write(asked.size, asked.data, format="arrow")
    wrote = time.perf_counter() - began
    say(f"{asked.workload} {asked.size}: data in {wrote:.1f} s, known {manifest['known']['train']}")
    cuda = asked.device == "cuda"
    if cuda:
        torch.cuda.reset_peak_memory_stats()
    trainer, model, losses = trained(config, asked, asked.data, asked.steps)
    rows = losses.rows
    warm = min(WARM, len(rows) // 2)
    spent = rows[-1][0] - rows[warm - 1][0]
    each = [flops_of(config.shape, own) for own in model.seen[warm:]]
    training = sum(own.training for own in each)
    roof = matmul_rate() if cuda else None
    last = np.array([row[1:] for row in rows[-min(50, len(rows)) :]])
    known = manifest["known"]["train"]
    result = {
        "workload": asked.workload, "size": asked.size, "steps": len(rows), "data_s": wrote,
        "step_ms": spent / len(each) * 1e3,
        "tokens_s": sum(map(sum, model.seen[warm:])) / spent,
        "tflops": training / spent / 1e12,
        "mfu_sheet": training / spent / SHEET,
        "mfu_matmul": None if roof is None else training / spent / roof,
        "attention_share_of_flops": sum(own.attention for own in each) * 3 / training,
        "click": float(last[:, 0].mean()), "next": float(last[:, 1].mean()),
        "known": known, "matmul": roof, "rows": trainer.embedding.rows,
        "peak_gb": torch.cuda.max_memory_allocated() / 1e9 if cuda else None,
        "losses": [[round(c, 4), round(n, 4)] for _, c, n in rows],
        "seconds": [round(row[0] - rows[0][0], 4) for row in rows],
    }  # fmt: skip
    full, least = result["click"] + result["next"], known["click"] + known["next"]
    say(f"loss {full:.4f}, least possible {least:.4f}: {full / least - 1:+.1%}; "
        f"{result['step_ms']:.1f} ms a step, MFU {result['mfu_sheet']:.1%}")  # fmt: skip
    return result


def long(asked: argparse.Namespace) -> dict[str, Any]:
    """Users of `length` events, target attention alone, without the next item."""
    kind = find("lma-100k")
    base: Any = kind.config("bench")
    planted = replace(base.planted, length=asked.length, idle=0.0)
    shape = replace(base.shape, length=asked.length, layers=0, items=0, positions=0)
    config = replace(base, planted=planted, shape=shape, rows=replace(base.rows, train=40, valid=1))
    from workloads.lma import write_lma

    began = time.perf_counter()
    write_lma(config, "lma-100k", f"length {asked.length}", asked.data, "arrow")
    wrote = time.perf_counter() - began
    if asked.device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    _, model, losses = trained(config, asked, asked.data, 40)
    spent = losses.rows[-1][0] - losses.rows[9][0]
    peak = torch.cuda.max_memory_allocated() / 1e9 if asked.device == "cuda" else None
    result = {
        "length": asked.length, "longest": max(map(sum, model.seen)), "data_s": wrote,
        "step_ms": spent / (len(losses.rows) - 10) * 1e3,
        "tokens_s": sum(map(sum, model.seen[10:])) / spent, "peak_gb": peak,
    }  # fmt: skip
    say(json.dumps(result))
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path, help="where lma.jsonl is appended to")
    parser.add_argument("what", choices=["attention", "train", "long", "output"], nargs="+")
    parser.add_argument("--workload", default="lma-16k")
    parser.add_argument("--size", default="bench")
    parser.add_argument("--data", type=Path, default=Path("data-lma"))
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--length", type=int, default=1_000_000)
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--path", default="auto", choices=PATHS)
    parser.add_argument("--precision", default="bfloat16", choices=["float32", "bfloat16"])
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--dense-lr", type=float)
    parser.add_argument("--out-eps", type=float, default=1e-2)
    parser.add_argument("--beta2", type=float, default=0.95)
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction, default=True)
    asked = parser.parse_args()
    name = torch.cuda.get_device_name() if asked.device == "cuda" else describe().name
    device = {"name": name, "kind": asked.device, "cores": describe().cores}
    for what in asked.what:
        part = {"attention": attention, "train": train, "long": long, "output": output}[what]
        record = {"what": what, "device": device, "at": datetime.now(UTC).isoformat()}
        record |= {"versions": versions(), **part(asked)}
        asked.folder.mkdir(parents=True, exist_ok=True)
        with (asked.folder / "lma.jsonl").open("a") as file:
            file.write(json.dumps(record) + "\n")


if __name__ == "__main__":
    main()
