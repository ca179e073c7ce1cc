"""`lma` in plain PyTorch: EmbeddingBag(sparse=True), padded attention, all logits at once.

The same parameters, dtype and table rows as `LmaModel`, whose dense modules it uses; what differs
is the form: tiles [users, longest] instead of sequences end to end, PyTorch's fused attention over
whole tiles (padding lies behind every event, so a causal mask hides it), logits of all positions
at once. Ids other than an item's become `id mod rows`, as one does without a dynamic table.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, pad, scaled_dot_product_attention

from recis_core.cross_entropy import plain
from recis_core.data import Batch
from workloads.lma_data import BAND, Planted
from workloads.lma_files import EVENTS
from workloads.lma_model import GAIN, LmaModel, Shape


def rows_of(planted: Planted) -> dict[str, int]:
    """Rows of every table: all ids there are."""
    return {
        "item": planted.items,
        "shop": planted.shops,
        "category": planted.categories,
        "brand": planted.items // planted.categories // BAND,
        "age": planted.length.bit_length() + 1,
    }


class PlainLma(nn.Module):
    """`forward(batch)` -> (the click's mean loss, the next items' mean loss)."""

    def __init__(self, shape: Shape, planted: Planted) -> None:
        super().__init__()
        self.dense = LmaModel(shape)
        self.rows = rows_of(planted)
        self.tables = nn.ModuleDict(
            {n: nn.EmbeddingBag(rows, shape.dim, mode="sum", sparse=True)
             for n, rows in self.rows.items()}
        )  # fmt: skip

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        dense, shape, columns = self.dense, self.dense.shape, batch.columns
        offsets: Tensor = columns["item"].offsets.long()  # pyright: ignore[reportAttributeAccessIssue]
        lengths = offsets.diff().clamp(max=shape.length)
        tile = max(int(lengths.max()), 1)
        # The last `length` events, then padding.
        place = torch.arange(tile, device=offsets.device)
        at, real = (offsets[1:] - lengths)[:, None] + place, place < lengths[:, None]
        ids = {n: _padded(columns[n].values, at, real) for n in EVENTS}  # pyright: ignore
        leaves = [self.leaf(name, own) for name, own in ids.items()]
        x = self.encode(dense.project(torch.cat(leaves, 2)))
        candidate = [self.leaf(n, columns[f"candidate_{n}"]).squeeze(1) for n in EVENTS[:-1]]  # pyright: ignore
        asked = dense.project(pad(torch.cat(candidate, 1), (0, shape.dim)))
        logits = dense.score(asked, self.attend(asked, x, real).to(asked.dtype))
        label: Any = columns["label"]
        click = binary_cross_entropy_with_logits(logits.float(), label.squeeze(1))
        if dense.output is None:
            return click, click.new_zeros(())
        ends = lengths[:, None] - 1
        counted = (place < ends) & (place >= ends - shape.positions)
        target = ids["item"].roll(-1, 1)[counted]
        return click, plain(GAIN * x[counted], dense.output.weight, target) * shape.weight

    def leaf(self, name: str, ids: Tensor) -> Tensor:
        """[…, dim]; each id is a bag of its own."""
        rows = torch.remainder(ids, self.rows[name]).flatten().unsqueeze(1)
        return self.tables[name](rows).unflatten(0, ids.shape)

    def encode(self, x: Tensor) -> Tensor:
        """Tiles [users, longest, width] through every layer."""
        size = x.shape[:2]
        layers: Any = self.dense.layers
        for layer in layers:
            flat = x.flatten(0, 1)
            qkv = layer.before(flat).unflatten(0, size).unbind(2)
            q, k, v = (own.transpose(1, 2) for own in qkv)
            attended = scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2)
            x = layer.after(flat, attended.flatten(0, 1)).unflatten(0, size)
        return self.dense.norm(x)

    def attend(self, candidate: Tensor, x: Tensor, real: Tensor) -> Tensor:
        """[users, width]: the candidate attends to its user's events; zeros where they are none."""
        dense, heads = self.dense, self.dense.shape.heads
        query = dense.query(candidate).unflatten(1, (heads, -1)).unsqueeze(2)
        key, value = (
            w(x).unflatten(2, (heads, -1)).transpose(1, 2) for w in (dense.key, dense.value)
        )
        mask = real.clone()
        mask[:, 0] = True  # a row without any would be NaN; its result is dropped
        found = scaled_dot_product_attention(query, key, value, attn_mask=mask[:, None, None])
        return torch.where(real.any(1, keepdim=True), found.flatten(1), 0.0)


def _padded(values: Tensor, at: Tensor, real: Tensor) -> Tensor:
    if not len(values):
        return torch.zeros_like(at)
    return torch.where(real, values[at.clamp(max=len(values) - 1)], 0)


class PlainTrainer:
    """One `step(batch)` trains on it."""

    def __init__(self, shape: Shape, planted: Planted, device: str, precision: str) -> None:
        with torch.device(device):
            self.model = PlainLma(shape, planted)
        self.device, self.half = torch.device(device), precision == "bfloat16"
        self.optimizers = (
            torch.optim.SparseAdam(list(self.model.tables.parameters()), lr=1e-2),
            torch.optim.AdamW(
                self.model.dense.parameter_groups(), lr=1e-3, fused=self.device.type == "cuda"
            ),
        )

    def step(self, batch: Batch) -> float:
        """-> the loss before the update."""
        moved = batch.to(self.device)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.half):
            click, following = self.model(moved)
        loss = click + following
        loss.backward()
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad()
        return float(loss.detach())
