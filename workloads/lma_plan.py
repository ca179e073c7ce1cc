"""What a step of `lma` takes, from the distribution of its lengths, before any is drawn."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from recis_core.cross_entropy import LOGITS_BYTES
from workloads.demand import Demand, Mixture
from workloads.lma_data import BAND, BANDS, Planted, popularity
from workloads.lma_files import EVENTS
from workloads.lma_flops import Flops, flops_of
from workloads.lma_model import Shape
from workloads.plan import Demands, DenseCosts

GRID = 20_000  # users that stand for all
FLOAT = 4


def typical(planted: Planted) -> np.ndarray:
    """Lengths [GRID] of users that have events, equally likely each."""
    u = (np.arange(GRID) + 0.5) / GRID
    length = np.minimum(1.25 * planted.length * u**1.5 + 1, planted.length)
    return length.astype(np.int64)


def mean_length(planted: Planted) -> float:
    return float(typical(planted).mean()) * (1 - planted.idle)


def mean_flops(planted: Planted, shape: Shape, batch: int) -> Flops:
    """Of the forward pass of a batch, expected."""
    lengths = np.minimum(typical(planted), shape.length)
    return flops_of(shape, lengths.tolist()).times(batch * (1 - planted.idle) / GRID)


def dense_costs(planted: Planted, shape: Shape, batch: int) -> DenseCosts:
    """Memory is of the fullest batch, every user with `length` events; what autograd keeps of them
    in float32, twice, as backward makes as much again."""
    events = batch * min(planted.length, shape.length)
    memory = {"activations of the fullest batch": 2 * FLOAT * events * kept_per_event(shape)}
    if shape.items:
        positions = batch * min(shape.positions, planted.length - 1)
        logits = min(LOGITS_BYTES, FLOAT * shape.items * positions)
        memory |= {
            "logits held at a time, and their gradient": 2 * logits,
            "the output's gradient being made": FLOAT * shape.items * shape.width,
        }
    return DenseCosts(round(mean_flops(planted, shape, batch).training), memory)


def kept_per_event(shape: Shape) -> int:
    """Numbers autograd keeps of an event: its leaves; of a layer what both norms read and write
    (4 widths), queries, keys, values, what is attended (4), the feed-forward part's inside (8);
    the last norm's input and output."""
    return len(EVENTS) * shape.dim + shape.width * (16 * shape.layers + 2)


def demands(planted: Planted) -> Demands:
    """What each feature asks of its table. Items of the bands recur; strays are any item."""
    events = mean_length(planted)
    found: dict[str, Demand | Mixture] = {
        "item": _headed(planted, events, BANDS * BAND * planted.categories, planted.items),
        "shop": _headed(planted, events, _shops_of_heads(planted), planted.shops),
        "category": Demand(events, planted.categories, 0.0),
        "brand": _headed(planted, events, BANDS, planted.items // planted.categories // BAND),
        "age": Demand(events, planted.length.bit_length(), 0.0),
    }
    return found | {f"candidate_{name}": replace(found[name], per_row=1.0) for name in EVENTS[:-1]}


def _headed(planted: Planted, events: float, heads: int, ids: int) -> Mixture:
    """`heads` of the ids by the bands' popularity, the rest equally often by strays."""
    alike = Demand(1.0, max(heads // BAND, 1), 0.0)
    parts = [((1 - planted.stray) * float(share), alike) for share in popularity(planted)]
    if heads <= BAND:
        parts = [(1 - planted.stray, Demand(1.0, heads, 0.0))]
    if ids > heads:
        # A stray may be one of the heads too.
        parts.append((planted.stray * (ids - heads) / ids, Demand(1.0, ids - heads, 0.0)))
    return Mixture(events, tuple(parts))


def _shops_of_heads(planted: Planted) -> int:
    heads = BANDS * BAND * planted.categories
    return round(planted.shops * -np.expm1(-heads / planted.shops))
