"""Next items of users: sequences by time, the last two held out, and a small causal transformer.

Leave-one-out: of each user the last item is the test, the one before it the validation.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from recis_core.cross_entropy import linear_cross_entropy
from recis_core.data import Batch, Ragged
from recis_core.schema import Column, Feature, Initializer, Table
from recis_core.sequences import Sequences
from workloads.lma_model import Layer
from workloads.movielens import read_atomic
from workloads.public import source_file

EVENTS = ("item", "gap", "place", "week")
WEEK = 7 * 24 * 3600
RECENT = 4


@dataclass(frozen=True)
class Histories:
    """Every user's items in order of time, numbers in [0, items), and the times in seconds."""

    items: int
    each: tuple[np.ndarray, ...]
    times: tuple[np.ndarray, ...]

    def __len__(self) -> int:
        return len(self.each)

    def before(self, held: int) -> Histories:
        """Without the last `held` events of each user."""
        return Histories(
            self.items,
            tuple(own[: len(own) - held] for own in self.each),
            tuple(own[: len(own) - held] for own in self.times),
        )


def read_histories(source: Path | str | None) -> Histories:
    """From MovieLens-100K's ml-100k.inter; equal times keep the order of the file."""
    table = read_atomic(source_file(source, "ml-100k.inter", "MovieLens-100K"))
    users, items = (np.array(table[f"{n}_id"]).astype(np.int64) for n in ("user", "item"))
    return histories(users, items, np.array(table["timestamp"]))


def histories(users: np.ndarray, items: np.ndarray, times: np.ndarray) -> Histories:
    """From events in any order."""
    known, number = np.unique(items, return_inverse=True)
    order = np.lexsort((times, users))
    ends = np.flatnonzero(np.diff(users[order])) + 1
    return Histories(
        len(known), tuple(np.split(number[order], ends)), tuple(np.split(times[order], ends))
    )


@dataclass(frozen=True)
class NextItemConfig:
    """Numbers of the model and of its training; `length`: events it sees at once."""

    dim: int = 64
    layers: int = 2
    heads: int = 2
    dropout: float = 0.3
    length: int = 200
    batch: int = 64
    lr: float = 3e-3
    decay: float = 0.0
    epochs: int = 16


class NextItemModel(nn.Module):
    """`forward(inputs)`: ragged leaves [n, dim] -> states [n, dim], one after every event.

    An item's row is its embedding and the output's row of its class: the leaf "classes" holds the
    rows of all items in order.
    """

    def __init__(self, config: NextItemConfig) -> None:
        super().__init__()
        start = Initializer("normal", 0.0, 0.05)
        tables = {n: Table(n, config.dim, start) for n in EVENTS}
        self.features = (
            *(Feature(n, n, tables[n], "ragged") for n in EVENTS),
            Feature("classes", "classes", tables["item"], "ragged"),
        )
        self.columns = tuple(Column(n, "ids") for n in (*EVENTS, "classes"))
        self.recent = nn.Parameter(torch.full((RECENT, config.dim), 0.5))
        self.drop = nn.Dropout(config.dropout)
        self.layers = nn.ModuleList(
            Layer(config.dim, config.heads, config.dropout) for _ in range(config.layers)
        )
        self.norm = nn.LayerNorm(config.dim)

    def forward(self, inputs: Mapping[str, Tensor]) -> Tensor:
        sequences = Sequences.of(inputs["item.offsets"])
        x = torch.stack([inputs[name] for name in EVENTS]).sum(0)
        x = self.drop(x + self.before(inputs["item"], inputs["place.ids"]))
        for layer in self.layers:
            x = layer(x, sequences, "auto")
        return self.norm(x)

    def before(self, item: Tensor, place: Tensor) -> Tensor:
        """[n, dim]: the items one to RECENT events before each, each scaled by learned weights;
        what attention would have to learn of order from few users."""
        found = torch.zeros_like(item)
        for ago, scale in enumerate(self.recent, 1):
            earlier = item.roll(ago, 0) * (place >= ago)[:, None]
            found = found + earlier * scale
        return found

    def loss(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Mean -ln P of every event that has one before it, after what came before."""
        sequences = Sequences.of(inputs["item.offsets"])
        at, following = sequences.last(sequences.longest)
        target = inputs["item.ids"].index_select(0, following)
        return linear_cross_entropy(
            self.drop(self(inputs)).index_select(0, at), inputs["classes"], target
        )

    def scores(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """[rows, items]: of every item as the next one; rows must not be empty."""
        ends = inputs["item.offsets"][1:].long() - 1
        return self(inputs).index_select(0, ends) @ inputs["classes"].T


def batch_of(items: Sequence[np.ndarray], times: Sequence[np.ndarray], classes: int) -> Batch:
    """Sequences as columns: item, gap (1 + floor log2 of the seconds since the event before, 0 for
    none), place (from the start), week (of the event); in the first row all `classes` items."""
    gaps = [np.frexp(np.diff(own, prepend=own[:1]).astype(np.float64))[1] for own in times]
    places = [np.arange(len(own)) for own in items]
    weeks = [own // WEEK for own in times]
    offsets = torch.tensor(np.concatenate([[0], np.cumsum([len(own) for own in items])]))
    columns = {
        name: Ragged(torch.from_numpy(np.concatenate(parts).astype(np.int64)), offsets.int())
        for name, parts in zip(EVENTS, (items, gaps, places, weeks), strict=True)
    }
    ends = torch.full((len(items) + 1,), classes, dtype=torch.int32)
    ends[0] = 0
    columns["classes"] = Ragged(torch.arange(classes), ends)
    return Batch(columns, len(items))


def training_batches(
    data: Histories, config: NextItemConfig, rng: np.random.Generator
) -> Iterator[Batch]:
    """One epoch: every history in windows of `length` events that overlap by one, so that every
    event but a user's first is a target once; where the windows begin changes by the epoch, and
    so does the order of events of one second, which nobody knows."""
    windows = []
    for fixed, times in zip(data.each, data.times, strict=True):
        items = fixed[np.lexsort((rng.random(len(fixed)), times))]
        first = int(rng.integers(1, config.length)) if len(items) > config.length else 0
        begins = np.arange(first - config.length, len(items) - 1, config.length - 1)
        for begin in begins if first else [0]:
            end = begin + config.length
            part = slice(max(begin, 0), end)
            if min(end, len(items)) - part.start > 1:
                windows.append((items[part], times[part]))
    order = rng.permutation(len(windows))
    for at in range(0, len(order), config.batch):
        chosen = [windows[i] for i in order[at : at + config.batch]]
        items, times = zip(*chosen, strict=True)
        yield batch_of(items, times, data.items)


def ranks(scores: np.ndarray, seen: Sequence[np.ndarray], target: np.ndarray) -> np.ndarray:
    """Rank from 1 of each row's target among all items not `seen` before; ties count against it."""
    scores = np.array(scores, dtype=np.float64)
    own = scores[np.arange(len(target)), target].copy()
    for row, items in zip(scores, seen, strict=True):
        row[items] = -np.inf
    scores[np.arange(len(target)), target] = own
    return (scores >= own[:, None]).sum(1)


def ndcg(rank: np.ndarray, most: int = 10) -> float:
    """Mean of 1 / log2(rank + 1) where the rank is at most `most`, 0 elsewhere."""
    return float(np.where(rank <= most, 1 / np.log2(rank + 1.0), 0.0).mean())


def recall(rank: np.ndarray, most: int = 10) -> float:
    """Share of targets among the first `most`."""
    return float((rank <= most).mean())
