"""`lma` on one GPU, without network: attention paths side by side, training, a million events.

    python3 -m reports.lma_run FOLDER attention
    python3 -m reports.lma_run FOLDER train --workload lma-16k --data DIR [--steps N]
    python3 -m reports.lma_run FOLDER long --length 1000000

Each appends one JSON object to FOLDER/lma.jsonl and says what it found on standard error.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import backends
from recis_core import optim
from recis_core.attention import PATHS, causal_attention
from recis_core.callbacks import Callback, Step
from recis_core.cross_entropy import fused_gradient, linear_cross_entropy, softmax_gradient
from recis_core.io import Reader
from recis_core.sequences import Sequences
from recis_core.settings import Settings
from recis_core.train import Trainer
from reports.console import say
from roofline.processor import describe
from roofline.record import versions
from workloads import find
from workloads.lma import LmaConfig
from workloads.lma_data import lengths
from workloads.lma_flops import flops_of
from workloads.lma_model import LmaModel

SHEET = 989e12  # dense bfloat16 FLOP/s of an H100 SXM by its data sheet
WARM = 30  # steps before any counts: compilation, and tables that still grow fast


def seconds(call: Callable[[], Any], repeats: int = 5) -> float:
    """Median device time of a call, the first ones left out."""
    for _ in range(2):
        call()
    found = []
    for _ in range(repeats):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        call()
        end.record()
        end.synchronize()
        found.append(start.elapsed_time(end) / 1e3)
    return statistics.median(found)


def matmul_rate() -> float:
    """FLOP/s of a bfloat16 product of 8192^3, the roof shares are of."""
    a, b = (torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    return 2 * 8192**3 / seconds(lambda: a @ b, 20)


def bench_lengths(name: str, seed: int = 0) -> list[int]:
    """Lengths of a batch as `bench` draws them, of `lma-100k` a user of full length."""
    config = find(name).config("bench")
    if config.batch == 1:
        return [config.shape.length]
    return [int(n) for n in lengths(config.planted, np.random.default_rng(seed), config.batch)]


def attention(asked: argparse.Namespace) -> dict[str, Any]:
    """Every path, forward and backward, on the lengths of both benches and many short users."""
    roof = matmul_rate()
    say(f"matrix product {roof / 1e12:.0f} TFLOP/s")
    cases = {name: bench_lengths(name) for name in ("lma-16k", "lma-100k")}
    cases["64 users of 1 to 999"] = [int(n) for n in np.random.default_rng(1).integers(1, 1000, 64)]
    found = []
    for name, drawn in cases.items():
        # Where sequences are many, each would have to be planned.
        for path in PATHS if len(drawn) < 9 else ("auto", "jagged", "each_flash"):
            found.append({"case": name, "lengths": drawn[:8], **timed_path(drawn, path, roof)})
            say(json.dumps({k: v for k, v in found[-1].items() if k != "lengths"}))
    return {"matmul": roof, "paths": found}


def timed_path(drawn: list[int], path: Any, roof: float) -> dict[str, Any]:
    """Milliseconds forward and backward, share of the roof (backward counted as 2.5 forward), the
    first call of a new length, the largest difference to the first path."""
    heads, dim = 4, 128
    torch.manual_seed(0)
    result: dict[str, Any] = {"path": path}
    try:
        qkv, sequences = inputs_of(drawn, heads, dim)
        out = causal_attention(qkv, sequences, path)
        grad = torch.randn_like(out)

        def both() -> None:
            causal_attention(qkv, sequences, path).backward(grad)

        with torch.no_grad():
            forward = seconds(lambda: causal_attention(qkv, sequences, path), 3)
        total = seconds(both, 3)
        flops = 3.5 * 2 * heads * dim * sum(n * (n + 1) for n in drawn)
        result |= {"forward_ms": forward * 1e3, "total_ms": total * 1e3}
        result |= {"tflops": flops / total / 1e12, "share": flops / total / roof}
        other, others = inputs_of([n - n // 33 for n in drawn], heads, dim)
        torch.cuda.synchronize()
        began = time.perf_counter()
        causal_attention(other, others, path).sum().backward()
        torch.cuda.synchronize()
        result["new_lengths_ms"] = (time.perf_counter() - began) * 1e3
        with torch.no_grad():
            exact = causal_attention(qkv, sequences, "each")
        result["difference"] = float((out - exact).norm() / exact.norm())
    except (RuntimeError, NotImplementedError, ImportError, TypeError) as error:
        result["error"] = str(error).strip().split("\n")[0][:200]
    return result


def inputs_of(drawn: list[int], heads: int, dim: int) -> tuple[Tensor, Sequences]:
    offsets = torch.tensor([0, *np.cumsum(drawn)], dtype=torch.int32, device="cuda")
    packed = torch.randn(sum(drawn), 3, heads, dim, device="cuda", dtype=torch.bfloat16)
    return packed.requires_grad_(), Sequences.of(offsets)


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
            dense=lambda p: torch.optim.AdamW(p, lr=config.dense_lr, fused=asked.device == "cuda"),
            precision=asked.precision,
            compile=asked.compile,
        ),
        callbacks=[losses],
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


def output(asked: argparse.Namespace) -> dict[str, Any]:
    """The fused linear layer and cross-entropy over a million classes, forward and backward."""
    n, width, classes = 16_384, 512, 1_000_000
    x = torch.randn(n, width, device="cuda", dtype=torch.bfloat16, requires_grad=True)
    weight = (torch.randn(classes, width, device="cuda") * 0.02).requires_grad_()
    target = torch.randint(classes, (n,), device="cuda")
    roof = matmul_rate()
    found = []
    compiled = torch.compile(fused_gradient, fullgraph=True, dynamic=True)
    forms = {"eager": softmax_gradient, "compiled": compiled}
    for name, rows in (("eager", 2048), ("compiled", 2048), ("compiled", 4096)):
        torch.cuda.reset_peak_memory_stats()

        def call(rows: int = rows, form: Any = forms[name]) -> None:
            linear_cross_entropy(x, weight, target, rows, form).backward()
            x.grad = weight.grad = None

        took = seconds(call, 3)
        flops = 6.0 * n * width * classes
        found.append({"form": name, "rows": rows, "ms": took * 1e3, "share": flops / took / roof,
                      "peak_gb": torch.cuda.max_memory_allocated() / 1e9})  # fmt: skip
        say(json.dumps(found[-1]))
    return {"output": found, "matmul": roof}


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
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction, default=True)
    asked = parser.parse_args()
    device = torch.cuda.get_device_name() if asked.device == "cuda" else describe().name
    for what in asked.what:
        part = {"attention": attention, "train": train, "long": long, "output": output}[what]
        record = {"what": what, "device": device, "at": datetime.now(UTC).isoformat()}
        record |= {"versions": versions(), **part(asked)}
        asked.folder.mkdir(parents=True, exist_ok=True)
        with (asked.folder / "lma.jsonl").open("a") as file:
            file.write(json.dumps(record) + "\n")


if __name__ == "__main__":
    main()
