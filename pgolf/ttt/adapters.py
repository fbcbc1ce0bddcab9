"""Low-rank adapters, one set for each of the documents that are predicted side by side.

y = W x + scale * up (down x) at every product with a model's matrices (LoRA, arXiv 2106.09685), for
each pass of a layer that runs several times by adapters of its own (PR #1855).
Legend: B documents, T time, R rank, D width of an input, C width of an output, V vocab_size.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from pgolf.distributed import World
from pgolf.kernel.linear import adapted_by
from pgolf.protocols import Model
from pgolf.ttt.ledger import synthetic_ids

# Parameters that are multiplied together, by identity.
Key = tuple[int, ...]


@dataclass(frozen=True)
class Site:
    """One place of a forward pass where an adapter adds to an output.

    Args:
        in_dim: D.
        out_dims: C of each matrix of a stacked product, each of which has an adapter of its own;
            a part that is adapted as a whole has one.
    """

    in_dim: int
    out_dims: tuple[int, ...]


def find_sites(model: nn.Module, world: World) -> dict[Key, list[Site]]:
    """All places of a model as it runs now, by what is multiplied there; a layer's passes in order.

    A product inside a part that is adapted as a whole has no adapter of its own.
    """
    found: dict[Key, list[Site]] = {}
    ids_BT = synthetic_ids(model, 2)[None].to(world.device)

    def note(y: Tensor, x: Tensor, weights: tuple[Tensor, ...]) -> Tensor:
        widths = tuple(weight.size(0) for weight in weights)
        out_dims = widths if sum(widths) == y.size(-1) else (y.size(-1),)
        key = tuple(map(id, weights))
        found.setdefault(key, []).append(Site(x.size(-1), out_dims))
        return y

    with torch.no_grad(), world.autocast(), adapted_by(note):
        cast(Model, model).logits(ids_BT)
    inner = {weight for key in found if len(key) > 1 for weight in key}
    return {key: sites for key, sites in found.items() if len(key) > 1 or key[0] not in inner}


class LoraAdapters(nn.Module):
    """A model with adapters of some documents: row i of a batch is predicted with set i.

    | parameter | shape   | first value                                                         |
    |-----------|---------|---------------------------------------------------------------------|
    | down_BP   | B, P    | all R x D of a document: uniform in +-1/sqrt(D), from its own seed  |
    | up_BQ     | B, Q    | all C x R: 0, so that the adapters begin without effect             |

    They are one tensor each, so that an optimizer step is few kernels; in fp32, while products are
    computed in the dtype of the activations.

    Args:
        model: stays as it is.
        sites: of `find_sites`.
        seeds: one for each document, so that its scores do not depend on those beside it.
        rank: R.
        scale: factor on what an adapter adds.
    """

    def __init__(
        self,
        model: nn.Module,
        sites: dict[Key, list[Site]],
        seeds: Sequence[int],
        *,
        rank: int,
        scale: float,
    ) -> None:
        super().__init__()
        self.model, self.rank, self.scale = model, rank, scale
        self._sites = [site for passes in sites.values() for site in passes]
        firsts = torch.tensor([0, *map(len, sites.values())]).cumsum(0).tolist()
        self._first = dict(zip(sites, firsts, strict=False))
        self._passes: Counter[Key] = Counter()
        self._down_sizes = [len(site.out_dims) * rank * site.in_dim for site in self._sites]
        self._up_sizes = [sum(site.out_dims) * rank for site in self._sites]
        weight = next(model.parameters())
        dtype = torch.promote_types(weight.dtype, torch.float32)
        down_BP = weight.new_empty(len(seeds), sum(self._down_sizes), dtype=dtype)
        for row, seed in zip(down_BP, seeds, strict=True):
            row.uniform_(-1.0, 1.0, generator=torch.Generator(weight.device).manual_seed(seed))
        for part, site in zip(down_BP.split(self._down_sizes, dim=1), self._sites, strict=True):
            part.mul_(site.in_dim**-0.5)
        self.down_BP = nn.Parameter(down_BP)
        self.up_BQ = nn.Parameter(down_BP.new_zeros(len(seeds), sum(self._up_sizes)))
        self._down: tuple[Tensor, ...] = ()
        self._up: tuple[Tensor, ...] = ()

    def trained(self) -> list[nn.Parameter]:
        """The adapters' parameters, without the model's."""
        return [self.down_BP, self.up_BQ]

    def logits(self, ids_BT: Tensor, last_n: int) -> Tensor:
        """Those of the model with the adapters, for the first B documents: [B, last_n, V]."""
        rows, dtype = len(ids_BT), self.activations_dtype(ids_BT.device)
        self._down = self.down_BP[:rows].to(dtype).split(self._down_sizes, dim=1)
        self._up = self.up_BQ[:rows].to(dtype).split(self._up_sizes, dim=1)
        self._passes.clear()
        with adapted_by(self._add):
            logits = cast(Model, self.model).logits(ids_BT, last_n)
        self._down = self._up = ()
        return logits

    def activations_dtype(self, device: torch.device) -> torch.dtype:
        """The dtype that products have here."""
        if torch.is_autocast_enabled(device.type):
            return torch.get_autocast_dtype(device.type)
        return self.up_BQ.dtype

    def _add(self, y_BTC: Tensor, x_BTD: Tensor, weights: tuple[Tensor, ...]) -> Tensor:
        key = tuple(map(id, weights))
        if key not in self._first:
            return y_BTC
        place = self._first[key] + self._passes[key]
        self._passes[key] += 1
        site = self._sites[place]
        down = self._down[place].unflatten(1, (-1, site.in_dim))
        up = self._up[place].unflatten(1, (-1, self.rank))
        hidden = torch.bmm(x_BTD.to(down.dtype), down.mT)
        if len(site.out_dims) == 1:
            return torch.baddbmm(y_BTC, hidden, up.mT, alpha=self.scale)
        parts = zip(hidden.split(self.rank, dim=2), up.split(site.out_dims, dim=1), strict=True)
        added = torch.cat([torch.bmm(h_BTR, up_BCR.mT) for h_BTR, up_BCR in parts], dim=2)
        return torch.add(y_BTC, added, alpha=self.scale)
