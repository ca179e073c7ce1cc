"""Attention over sequences of different lengths laid end to end; no padding is computed.

Softmax attention with scale 1/√(head dim) (Vaswani et al., NeurIPS 2017), by the fused kernels
PyTorch ships.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention

from recis_core.sequences import Sequences

Path = Literal["auto", "each", "jagged", "each_cudnn", "jagged_cudnn", "each_flash"]
PATHS: tuple[Path, ...] = get_args(Path)
KERNEL = {"cudnn": SDPBackend.CUDNN_ATTENTION, "flash": SDPBackend.FLASH_ATTENTION}


def causal_attention(
    q: Tensor, k: Tensor, v: Tensor, sequences: Sequences, path: Path = "auto"
) -> Tensor:
    """Every element attends to itself and those before it in its sequence.

    q, k, v [n, heads, head dim] -> [n, heads, head dim]. `path`: "each" calls PyTorch's
    scaled_dot_product_attention for the sequences of each length, "jagged" once for all of them
    as a nested tensor; with "_cudnn" or "_flash" by that kernel alone; "auto": `chosen`.
    """
    if path not in PATHS:
        raise ValueError(f"attention path {path!r} is not one of {', '.join(PATHS)}")
    if not sequences.total:
        return v + 0 * (q + k)
    if path == "auto":
        path = chosen(q, sequences)
    form, _, kernel = path.partition("_")
    with sdpa_kernel(KERNEL[kernel]) if kernel else nullcontext():
        return (_each if form == "each" else _jagged)(q, k, v, sequences)


def chosen(q: Tensor, sequences: Sequences) -> Path:
    """The fastest path by measurement: reports/decisions/0015-lma.md."""
    return "each"


def _each(q: Tensor, k: Tensor, v: Tensor, sequences: Sequences) -> Tensor:
    parts = []
    for alike in sequences.alike:
        # [sequences, heads, length, head dim] by strides; the kernels take them as they lie.
        own = [alike.take(x).transpose(1, 2) for x in (q, k, v)]
        parts.append(scaled_dot_product_attention(*own, is_causal=True).transpose(1, 2))
    return sequences.put(parts, v)


def _jagged(q: Tensor, k: Tensor, v: Tensor, sequences: Sequences) -> Tensor:
    filled = [length for length in sequences.lengths if length]
    offsets = sequences.offsets
    if len(filled) < len(sequences):
        keep = torch.tensor([True, *(length > 0 for length in sequences.lengths)])
        offsets = offsets[keep.to(offsets.device)]
    own = [
        torch.nested.nested_tensor_from_jagged(
            x, offsets, min_seqlen=min(filled), max_seqlen=max(filled)
        ).transpose(1, 2)
        for x in (q, k, v)
    ]
    return scaled_dot_product_attention(*own, is_causal=True).transpose(1, 2).values()


def target_attention(
    query: Tensor, x: Tensor, key: Tensor, value: Tensor, sequences: Sequences
) -> Tensor:
    """One query per sequence attends to all its elements; an empty sequence gives zeros.

    query [sequences, heads, head dim]; x [n, width]; key, value [heads, head dim, width], the
    projections of x without bias -> [sequences, heads · head dim]. As projections are linear they
    are applied to the query and to the weighted mean of x, never to the n elements:
    q · (K x) = (Kᵀ q) · x, and Σ w (V x) = V (Σ w x).
    """
    scale = query.shape[-1] ** -0.5
    asked = torch.einsum("shd,hdw->shw", query * scale, key.to(query.dtype))
    means, numbers = [], []
    for alike in sequences.alike:
        own = alike.take(x)  # [sequences, length, width]
        at = torch.tensor(alike.numbers, device=asked.device)
        scores = own @ asked[at].to(own.dtype).transpose(1, 2)  # [sequences, length, heads]
        weights = scores.float().softmax(1).to(own.dtype)
        means.append(weights.transpose(1, 2) @ own)
        numbers.extend(alike.numbers)
    if not means:
        return (asked * 0).sum(2).repeat_interleave(query.shape[-1], 1)
    mean = torch.cat(means)
    out = torch.einsum("shw,hdw->shd", mean, value.to(mean.dtype)).flatten(1)
    where = torch.tensor(numbers, device=out.device)
    return out.new_zeros(len(sequences), out.shape[1]).index_copy(0, where, out)
