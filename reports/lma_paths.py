"""The dense kernels of `lma` on one GPU: attention paths side by side, the fused cross-entropy.

    python3 -m reports.lma_paths FILE attention output

Each appends one JSON object to FILE and says what it found on standard error. Needs no network.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from recis_core.attention import PATHS, causal_attention
from recis_core.cross_entropy import fused_gradient, linear_cross_entropy, softmax_gradient
from recis_core.sequences import Sequences
from reports.console import say
from reports.throughput import product_rate
from roofline.kinds import now
from roofline.stamp import place
from workloads import find
from workloads.lma_data import lengths


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


def bench_lengths(name: str, seed: int = 0) -> list[int]:
    """Lengths of a batch as `bench` draws them, of `lma-100k` a user of full length."""
    config = find(name).config("bench")
    if config.batch == 1:
        return [config.shape.length]
    return [int(n) for n in lengths(config.planted, np.random.default_rng(seed), config.batch)]


def attention() -> dict[str, Any]:
    """Every path, forward and backward, on the lengths of both benches and many short users."""
    roof = product_rate("bfloat16")
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


def output() -> dict[str, Any]:
    """The fused linear layer and cross-entropy over a million classes, forward and backward."""
    n, width, classes = 16_384, 512, 1_000_000
    x = torch.randn(n, width, device="cuda", dtype=torch.bfloat16, requires_grad=True)
    weight = (torch.randn(classes, width, device="cuda") * 0.02).requires_grad_()
    target = torch.randint(classes, (n,), device="cuda")
    roof = product_rate("bfloat16")
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
    parser.add_argument("file", type=Path, help="records, appended to")
    parser.add_argument("what", choices=["attention", "output"], nargs="+")
    asked = parser.parse_args()
    for what in asked.what:
        found = {"attention": attention, "output": output}[what]()
        command = f"python3 -m reports.lma_paths FILE {what}"
        record = {"what": what, "taken": now(), **place("cuda", command), **found}
        asked.file.parent.mkdir(parents=True, exist_ok=True)
        with asked.file.open("a") as file:
            file.write(json.dumps(record) + "\n")


if __name__ == "__main__":
    main()
