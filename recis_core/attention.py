"""Attention over sequences of different lengths laid end to end; no padding is computed.

Softmax attention with scale 1/√(head dim) (Vaswani et al., NeurIPS 2017), by the fused kernels
PyTorch ships.
"""

from __future__ import annotations

from contextlib import nullcontext
from inspect import signature
from typing import Any, Literal, get_args

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import pad, scaled_dot_product_attention

from recis_core.sequences import Sequences

Path = Literal["auto", "each", "rounded", "jagged", "varlen", "each_cudnn", "each_flash"]
PATHS: tuple[Path, ...] = get_args(Path)
KERNEL = {"cudnn": SDPBackend.CUDNN_ATTENTION, "flash": SDPBackend.FLASH_ATTENTION}


def causal_attention(qkv: Tensor, sequences: Sequences, path: Path = "auto") -> Tensor:
    """Every element attends to itself and those before it in its sequence.

    qkv [n, 3, heads, head dim]: queries, keys, values -> [n, heads, head dim]. `path`: "each" calls
    PyTorch's scaled_dot_product_attention for the sequences of each length, with "_cudnn" or
    "_flash" by that kernel alone; "rounded" for each sequence, its length rounded up a little
    (`rounded`); "jagged" once, for a nested tensor; "varlen" is PyTorch's kernel for packed
    sequences (CUDA, bfloat16 or float16); "auto": `chosen`.
    """
    if path not in PATHS:
        raise ValueError(f"attention path {path!r} is not one of {', '.join(PATHS)}")
    if not sequences.total:
        return qkv.sum(1)
    if path == "auto":
        path = chosen(qkv, sequences)
    form, _, kernel = path.partition("_")
    with sdpa_kernel(KERNEL[kernel]) if kernel else nullcontext():
        if form == "rounded":
            out: Any = _Rounded.apply(qkv, sequences)
            return out
        q, k, v = qkv.unbind(1)
        return FORMS[form](q, k, v, sequences)


def chosen(qkv: Tensor, sequences: Sequences) -> Path:
    """The fastest path by measurement: reports/decisions/0015-lma.md."""
    if not qkv.is_cuda:
        return "each"
    half = qkv.dtype in (torch.bfloat16, torch.float16)
    return "varlen" if half and sequences.total < MANY * len(sequences) else "rounded"


MANY = 1024  # mean length under which sequences are too many to be called for one by one


def _each(q: Tensor, k: Tensor, v: Tensor, sequences: Sequences) -> Tensor:
    groups = zip(*(sequences.split(x) for x in (q, k, v)), strict=True)
    # [sequences, heads, length, head dim] by strides; the kernels take them as they lie.
    return sequences.join([_attend(*own) for own in groups])


def _attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """[sequences, length, heads, head dim], all of one length."""
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    return scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2)


def rounded(length: int, most: int = 0) -> int:
    """`length` rounded up to a multiple of 1/64 to 1/32 of the longest there may be, `most` or
    itself, of 64 at least.

    cuDNN plans every new length anew (0.1 s), so lengths must recur: at most 64 do. What is added
    comes after the last element, where no real element sees it, and is small beside what the
    longest sequences cost.
    """
    step = max(64, 1 << max(0, (max(length, most) - 1).bit_length() - 6))
    return -(-length // step) * step


class _Rounded(torch.autograd.Function):
    """Attention sequence by sequence on windows of qkv that run on past the sequence's end.

    What lies there is the next sequence's: no earlier element attends to it, and its outputs are
    neither kept nor given a gradient. So nothing is copied to be padded, but at the end of qkv.
    """

    @staticmethod
    def forward(ctx: Any, qkv: Tensor, sequences: Sequences) -> Tensor:
        out = qkv.new_empty(len(qkv), *qkv.shape[2:])
        ctx.kept, ctx.shape = [], qkv.shape
        for begin, length in zip(sequences.starts, sequences.lengths, strict=False):
            if not length:
                continue
            size = rounded(length, sequences.most)
            own = [x.detach() for x in _window(qkv, begin, length, size).unbind(1)]
            with torch.set_grad_enabled(ctx.needs_input_grad[0]):
                own = [x.requires_grad_(ctx.needs_input_grad[0]) for x in own]
                made = _attend(*(x.unsqueeze(0) for x in own)).squeeze(0)
            out[begin : begin + length] = made.detach()[:length]
            if ctx.needs_input_grad[0]:
                ctx.kept.append((begin, length, own, made))
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        found = grad.new_empty(ctx.shape)
        for begin, length, own, made in ctx.kept:
            # Zeros for what the window has too much.
            part = pad(grad[begin : begin + length], (0, 0, 0, 0, 0, len(made) - length))
            for i, one in enumerate(torch.autograd.grad(made, own, part)):
                found[begin : begin + length, i] = one[:length]
        ctx.kept = None
        return found, None


def _window(qkv: Tensor, begin: int, length: int, size: int) -> Tensor:
    if begin + size <= len(qkv):
        return qkv[begin : begin + size]
    return pad(qkv[begin : begin + length], (0, 0, 0, 0, 0, 0, 0, size - length))


def _jagged(q: Tensor, k: Tensor, v: Tensor, sequences: Sequences) -> Tensor:
    filled = [length for length in sequences.lengths if length]
    offsets = sequences.offsets
    if len(filled) < len(sequences):
        keep = torch.tensor([True, *(length > 0 for length in sequences.lengths)])
        offsets = offsets[keep.to(offsets.device)]
    q, k, v = (
        torch.nested.nested_tensor_from_jagged(
            x, offsets, min_seqlen=min(filled), max_seqlen=max(filled)
        ).transpose(1, 2)
        for x in (q, k, v)
    )
    return scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).values()


def _varlen(q: Tensor, k: Tensor, v: Tensor, sequences: Sequences) -> Tensor:
    from torch.nn.attention.varlen import varlen_attn

    ends, longest = sequences.offsets, sequences.longest
    # Causal is a flag in earlier versions of torch and a window in later ones.
    how: dict[str, Any] = {"window_size": (-1, 0)}
    if "is_causal" in signature(varlen_attn).parameters:
        how = {"is_causal": True}
    out: Any = varlen_attn(q, k, v, ends, ends, longest, longest, **how)
    return out


FORMS = {"each": _each, "jagged": _jagged, "varlen": _varlen}


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
    for alike, own in zip(sequences.alike, sequences.split(x), strict=True):
        # own [sequences of this length, length, width]
        at = torch.tensor(alike.numbers, device=asked.device)
        scores = own @ asked[at].to(own.dtype).transpose(1, 2)  # [sequences, length, heads]
        exact = torch.promote_types(own.dtype, torch.float32)
        weights = scores.softmax(1, dtype=exact).to(own.dtype)
        means.append(weights.transpose(1, 2) @ own)
        numbers.extend(alike.numbers)
    if not means:
        return (asked * 0).sum(2).repeat_interleave(query.shape[-1], 1)
    mean = torch.cat(means)
    out = torch.einsum("shw,hdw->shd", mean, value.to(mean.dtype)).flatten(1)
    where = torch.tensor(numbers, device=out.device)
    return out.new_zeros(len(sequences), out.shape[1]).index_copy(0, where, out)
