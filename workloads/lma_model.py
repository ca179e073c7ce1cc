"""The model of `lma`: a causal transformer over ragged sequences, target attention, an MLP."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, pad
from torch.utils.checkpoint import checkpoint

from recis_core.attention import Path, causal_attention, target_attention
from recis_core.cross_entropy import (
    Gradient,
    fused_gradient,
    linear_cross_entropy,
    softmax_gradient,
)
from recis_core.objective import Logits
from recis_core.schema import Column, Feature, Initializer, Table, Truncate
from recis_core.sequences import Sequences
from recis_core.task import Task
from workloads.dense import mlp
from workloads.lma_files import EVENTS
from workloads.lma_flops import flops_of

# What the states are multiplied by before the output: with it Adam's steps of the output matrix
# move logits so many times further, at rates that the layers bear.
GAIN = 10.0
# Adam's eps for the output matrix: the gradient of a row that is some thousandth of the targets.
# Without it a row that is a target once in a thousand steps moves then as far as one that is in
# each, and most of a million rows are such.
OUTPUT_EPS = 1e-2
# Of the mean of the events so far, how much all layers together add to an event at first.
MEAN = 0.25
# The rate of what only a click's loss moves, which hears a few labels a step, beside the others'.
CLICK_RATE = 0.2
BETAS = 0.9, 0.95
# How far rows begin from 0: those of few ids as far as their sum with others may be read from it
# at once, those of many ids, which are seen seldom, less.
DEVIATIONS = {"item": 0.1, "shop": 0.1, "category": 2.0, "brand": 1.0, "age": 0.1}


@dataclass(frozen=True)
class Shape:
    """Numbers of the model. `items`: classes of the next-item objective, 0 for none; its loss,
    over the last `positions` events of each user, counts `weight` times. `layers` 0: target
    attention alone. `length`: only the last so many events are read. `share`: how much of a
    click's gradient goes on to layers and rows; of a single label a step little may, beside the
    thousands of next items."""

    length: int
    dim: int
    width: int
    layers: int
    heads: int
    hidden: tuple[int, ...]
    items: int = 0
    positions: int = 0
    weight: float = 1.0
    share: float = 1.0


class Layer(nn.Module):
    """x + attention(norm(x)), then x + feed-forward(norm(x)), the latter 4 times as wide inside."""

    def __init__(self, width: int, heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.heads, self.drop = heads, nn.Dropout(dropout)
        self.norm, self.qkv = nn.LayerNorm(width), nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.norm2 = nn.LayerNorm(width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def before(self, x: Tensor) -> Tensor:
        """Queries, keys and values [n, 3, heads, head dim]."""
        return self.qkv(self.norm(x)).unflatten(1, (3, self.heads, -1))

    def after(self, x: Tensor, attended: Tensor) -> Tensor:
        """What follows attention: its projection and the feed-forward part."""
        x = x + self.drop(self.out(attended.flatten(1)))
        return x + self.drop(self.down(gelu(self.up(self.norm2(x)))))

    def forward(self, x: Tensor, sequences: Sequences, path: Path) -> Tensor:
        return self.after(x, causal_attention(self.before(x), sequences, path))


class LmaModel(nn.Module):
    """`forward(inputs)`: ragged leaves of the events [n, dim] with their offsets and ids, leaves of
    the candidate [rows, dim] -> logits [rows]; training with items: `Logits` with their loss.

    `path`: of attention; `checkpointed`: layers keep their input alone and are computed again in
    the backward pass. After a training step `next_loss` is the next items' mean loss.
    """

    def __init__(self, shape: Shape, path: Path = "auto", checkpointed: bool = False) -> None:
        super().__init__()
        self.shape, self.path, self.checkpointed = shape, path, checkpointed
        self.features, self.columns = features_of(shape), columns_of()
        self.task = Task(label="label")
        width, heads = shape.width, shape.heads
        self.project = nn.Linear(len(EVENTS) * shape.dim, width)
        self.layers = nn.ModuleList(Layer(width, heads) for _ in range(shape.layers))
        self.norm = nn.LayerNorm(width)
        self.query = nn.Linear(width, width, bias=False)
        self.key, self.value = (
            nn.Linear(width, width, bias=False),
            nn.Linear(width, width, bias=False),
        )
        self.mlp = mlp(3 * width, shape.hidden)
        self.match = nn.Linear(heads, 1)
        # Drawn once: of a million rows each draw takes seconds.
        where = torch.get_default_device()
        self.output: Any = (
            nn.utils.skip_init(nn.Linear, width, shape.items, bias=False, device=where)
            if shape.items
            else None
        )
        self.begin()
        self.gradient: Gradient = softmax_gradient
        self.next_loss: Tensor | None = None
        self.watch: Callable[..., None] | None = None

    @torch.no_grad()
    def begin(self) -> None:
        """What begins otherwise than PyTorch has it: each layer adds a part of the mean of the
        events so far, and nothing of its feed-forward half; a click's logit is the likeness."""
        layers: Any = self.layers
        for layer in layers:
            nn.init.eye_(layer.qkv.weight[2 * self.shape.width :])
            nn.init.eye_(layer.out.weight).mul_(MEAN / self.shape.layers)
            nn.init.zeros_(layer.down.weight)
            nn.init.zeros_(layer.down.bias)
        nn.init.zeros_(self.project.bias)
        nn.init.eye_(self.value.weight)
        last: Any = self.mlp[-1]
        nn.init.zeros_(last.weight)
        nn.init.constant_(self.match.weight, 10.0)
        nn.init.constant_(self.match.bias, -1.0)
        if self.output is not None:
            nn.init.normal_(self.output.weight, 0.0, 0.02 / GAIN)

    def forward(self, inputs: dict[str, Tensor]) -> Tensor | Logits:
        sequences = Sequences.of(inputs["item.offsets"])
        for name in EVENTS:
            if len(inputs[name]) != sequences.total:
                own = len(inputs[name])
                raise ValueError(f"{name!r} has {own} events, 'item' {sequences.total}")
        events = torch.cat([inputs[name] for name in EVENTS], 1)
        x = self.encode(self.project(events), sequences)
        candidate = torch.cat([inputs[f"candidate_{name}"] for name in EVENTS[:-1]], 1)
        # The same projection as the events', so that equal ids look alike; it has no age.
        candidate = self.project(pad(candidate, (0, self.shape.dim)))
        logits = self.click(self.quiet(candidate), self.quiet(x), sequences)
        if not self.training:
            return logits
        if self.output is None:
            self.tell(sequences, {})
            return logits
        at, following = sequences.last(self.shape.positions)
        target = inputs["item.ids"].index_select(0, following)
        states = GAIN * x.index_select(0, at)
        loss = linear_cross_entropy(states, self.output.weight, target, gradient=self.gradient)
        self.next_loss = loss.detach()
        self.tell(sequences, {"next": self.next_loss * self.shape.weight})
        return Logits(logits, loss * self.shape.weight)

    def tell(self, sequences: Sequences, losses: dict[str, Tensor]) -> None:
        """`watch`, if there is one: the users' events, FLOPs of a training pass, losses."""
        if self.watch is not None:
            lengths = sequences.lengths
            self.watch(lengths, flops_of(self.shape, lengths).training, losses)

    def quiet(self, x: Tensor) -> Tensor:
        """x, of whose gradient `share` goes on."""
        return x if self.shape.share == 1 else torch.lerp(x.detach(), x, self.shape.share)

    def encode(self, x: Tensor, sequences: Sequences) -> Tensor:
        """Events [n, width] through every layer."""
        for layer in self.layers:
            if self.checkpointed and self.training:
                x = checkpoint(layer, x, sequences, self.path, use_reentrant=True)
            else:
                x = layer(x, sequences, self.path)
        return self.norm(x)

    def click(self, candidate: Tensor, x: Tensor, sequences: Sequences) -> Tensor:
        """Logits [rows] from the candidate [rows, width] and the events it attends to."""
        heads = self.shape.heads
        query = self.query(candidate).unflatten(1, (heads, -1))
        key, value = (w.weight.unflatten(0, (heads, -1)) for w in (self.key, self.value))
        attended = target_attention(query, x, key, value, sequences)
        return self.score(candidate, attended.to(candidate.dtype))

    def score(self, candidate: Tensor, attended: Tensor) -> Tensor:
        """Logits [rows]: of an MLP, and of how like the two are in each head."""
        both = candidate * attended
        alike = both.unflatten(1, (self.shape.heads, -1)).sum(2) / self.shape.width
        made = self.mlp(torch.cat([candidate, attended, both], 1)) + self.match(alike)
        return made.squeeze(1)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """For an Adam: the layers, the click's own, the output, damped and not decayed. "scale" is
        what the rate is to be multiplied by."""
        parts = (self.query, self.key, self.value, self.mlp, self.match)
        click = [p for part in parts for p in part.parameters()]
        output = [] if self.output is None else [self.output.weight]
        apart = {id(p) for p in (*click, *output)}
        rest = [p for p in self.parameters() if id(p) not in apart]
        damped: dict[str, Any] = {"params": output, "eps": OUTPUT_EPS, "weight_decay": 0.0}
        groups = [{"params": rest}, {"params": click, "scale": CLICK_RATE}, damped]
        return [{"betas": BETAS, **group} for group in groups if group["params"]]

    def compile_parts(self, compiler: Callable[..., Callable]) -> None:
        """Compile what lies between the attention calls, for any number of events.

        Attention stays outside: it is a library's kernel already, and its calls depend on lengths.
        """
        layers: Any = self.layers
        for layer in layers:
            layer.before = compiler(layer.before, dynamic=True)
            layer.after = compiler(layer.after, dynamic=True)
        # How many states there are varies; of how many classes, and their blocks, does not.
        self.gradient = compiler(fused_gradient)


def features_of(shape: Shape) -> tuple[Feature, ...]:
    """The events' five features, and the candidate's four from the same tables."""
    begin = {name: Initializer("normal", 0.0, b) for name, b in DEVIATIONS.items()}
    tables = {name: Table(name, shape.dim, begin[name]) for name in EVENTS}
    last = (Truncate(shape.length, "last"),)
    events = [Feature(n, n, tables[n], "ragged", transforms=last) for n in EVENTS]
    candidate = [Feature(f"candidate_{n}", f"candidate_{n}", tables[n]) for n in EVENTS[:-1]]
    return (*events, *candidate)


def columns_of() -> tuple[Column, ...]:
    return (
        *(Column(name, "ids") for name in EVENTS),
        *(Column(f"candidate_{name}", "ids", 1) for name in EVENTS[:-1]),
        Column("label", "values", 1),
    )
