"""Keys and values of what a model has read, so that a further token costs one position.

Layers that run several times in a forward pass see other inputs each time, so each pass of a layer
has a cache of its own. Rotary tables are those of the training length; beyond it the models change
their rotary base with the length of the input, which would change every key: `Window` begins anew
before that.
Legend: B batch, N new positions, T all positions, D model_dim, H query heads, G key-value heads,
K head_dim, r rotated pairs.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from pgolf.errors import UserError
from pgolf.kernel.attention import attention_where

NEEDED = ("queries_keys_values", "output")  # of an attention module; both models here have them


class Cache:
    """What was read so far, of all layers.

    Attributes:
        length: positions read.
        document_T: number of the document of each position, for attention within documents.
    """

    def __init__(self, model: Any) -> None:
        self.limit: int = model.train_seq_len
        self.bos: int | None = model.document_bos
        device = model.tok_emb.weight.device
        self.tables = model.rotary(self.limit, torch.empty(0, device=device))
        self.layers: list[CachedAttention] = []
        self.clear()

    def clear(self) -> None:
        """Forget everything."""
        self.length, self.new = 0, 0
        self.document_T = torch.zeros(0, dtype=torch.int64, device=self.tables[0].device)
        for layer in self.layers:
            layer.passes.clear()

    def begin(self, ids_BN: Tensor) -> None:
        """Announce a forward pass over further ids."""
        self.new = ids_BN.size(1)
        assert ids_BN.size(0) == 1 and self.length + self.new <= self.limit
        begins_N = torch.zeros_like(ids_BN[0]) if self.bos is None else ids_BN[0] == self.bos
        last = self.document_T[-1] if self.length else 0
        self.document_T = torch.cat((self.document_T, last + begins_N.long().cumsum(0)))
        for layer in self.layers:
            layer.next_pass = 0

    def end(self) -> None:
        """The forward pass is over: what it added counts as read."""
        self.length += self.new
        self.new = 0

    def new_tables(self) -> tuple[Tensor, Tensor]:
        """Cosines and sines of the new positions, [1, N, 1, r]."""
        cos, sin = (table[:, self.length : self.length + self.new] for table in self.tables)
        return cos, sin

    def visible(self, last_n: int) -> Tensor:
        """What the last new positions may see: bool [last_n, T]."""
        T = self.length + self.new
        causal = torch.ones(last_n, T, dtype=torch.bool, device=self.document_T.device)
        causal = causal.tril(T - last_n)
        return causal & (self.document_T[-last_n:, None] == self.document_T)


class CachedAttention(nn.Module):
    """Takes the place of a model's attention and keeps keys and values of each pass."""

    def __init__(self, attention: nn.Module, cache: Cache) -> None:
        super().__init__()
        missing = [name for name in NEEDED if not hasattr(attention, name)]
        if missing:
            raise UserError(
                f"{type(attention).__name__} has no {' and '.join(missing)}, which a cache of keys "
                "and values needs: add them as in pgolf/model/attention.py, or use --no-cache"
            )
        self.attention: Any = attention
        self.cache = cache
        self.passes: list[tuple[Tensor, Tensor]] = []
        self.next_pass = 0

    def forward(self, x_BND: Tensor, *_: Any) -> Tensor:
        """Of all new positions; tables and borders come from the cache."""
        return self.of_last(x_BND, None, None, x_BND.size(1))

    def of_last(self, x_BND: Tensor, _cos: Any, _sin: Any, last_n: int) -> Tensor:
        """Of the last new positions alone, [B, last_n, D]."""
        cos, sin = self.cache.new_tables()
        cos, sin = cos.to(x_BND.dtype), sin.to(x_BND.dtype)
        q_BNHK, k_BNGK, v_BNGK, own_BNGK = self.attention.queries_keys_values(x_BND, cos, sin)
        k_BTGK, v_BTGK = self._joined(k_BNGK, v_BNGK)
        y_BNHK = attention_where(q_BNHK[:, -last_n:], k_BTGK, v_BTGK, self.cache.visible(last_n))
        output: Tensor = self.attention.output(y_BNHK, own_BNGK[:, -last_n:])
        return output

    def _joined(self, k_BNGK: Tensor, v_BNGK: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of all positions, of this pass of the layer."""
        index = self.next_pass
        self.next_pass += 1
        if index == len(self.passes):
            self.passes.append((k_BNGK, v_BNGK))
        else:
            k_BSGK, v_BSGK = self.passes[index]
            joined = torch.cat((k_BSGK, k_BNGK), 1), torch.cat((v_BSGK, v_BNGK), 1)
            self.passes[index] = joined
        return self.passes[index]


@contextmanager
def cached(model: Any) -> Iterator[Cache]:
    """Inside, the model's attention reads and fills the cache; outside it is as it was.

    Raises:
        UserError: the model's attention cannot be cached.
    """
    if not all(hasattr(model, name) for name in ("blocks", "rotary")):
        raise UserError(f"{type(model).__name__} cannot be cached: use --no-cache")
    cache = Cache(model)
    before = [block.attn for block in model.blocks]
    cache.layers = [CachedAttention(attention, cache) for attention in before]
    try:
        for block, layer in zip(model.blocks, cache.layers, strict=True):
            block.attn = layer
        yield cache
    finally:
        for block, attention in zip(model.blocks, before, strict=True):
            block.attn = attention
