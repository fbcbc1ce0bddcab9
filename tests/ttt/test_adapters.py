"""Adapters of documents against a model whose matrices are replaced, document by document."""

from __future__ import annotations

import copy
from itertools import count
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pgolf.distributed import World
from pgolf.ttt.adapters import LoraAdapters, find_sites
from tests.model.tiny import random_ids, tiny_baseline, tiny_recurrent

RANK, SCALE, LAST_N = 3, 1.5, 4
IDS = random_ids(3, 16)


def adapters_of(model: Any, seeds: list[int]) -> LoraAdapters:
    model.recurrence(True)
    return LoraAdapters(model, find_sites(model, World()), seeds, rank=RANK, scale=SCALE)


def randomized(model: Any, seeds: list[int]) -> LoraAdapters:
    """With a second half that is no longer zero."""
    adapters = adapters_of(model, seeds)
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        adapters.up_BQ.copy_(0.2 * torch.randn(adapters.up_BQ.shape, generator=generator))
    return adapters


class Pieces:
    """The down and up matrices of one document, cut from copies of its rows in the order of use."""

    def __init__(self, adapters: LoraAdapters, document: int) -> None:
        self.down = adapters.down_BP[document].detach().clone().requires_grad_(True)
        self.up = adapters.up_BQ[document].detach().clone().requires_grad_(True)
        self.at = [0, 0]

    def next(self, in_dim: int, *out_dims: int) -> list[Tensor]:
        """up x down of each matrix of a place, [C, D]."""
        down = self._take(0, self.down, len(out_dims) * RANK * in_dim).view(-1, RANK, in_dim)
        up = self._take(1, self.up, sum(out_dims) * RANK).view(-1, RANK).split(out_dims)
        return [SCALE * u @ d for u, d in zip(up, down, strict=True)]

    def _take(self, which: int, flat: Tensor, size: int) -> Tensor:
        begin = self.at[which]
        self.at[which] += size
        return flat[begin : begin + size]


def reference_logits(model: Any, pieces: Pieces, ids: Tensor) -> Tensor:
    """Those of a copy, the weights of whose layers are dense sums, anew in each pass."""
    model = copy.deepcopy(model)
    runs = {1: 3, 2: 3} if hasattr(model, "recurrent") else {}
    # Places come by what is multiplied, in the order of first use, and the passes of each together.
    places: list[tuple[nn.Module, dict[str, list[Tensor]]]] = []
    for layer, block in enumerate(model.blocks):
        of_block: dict[str, list[Tensor]] = {}
        places.append((block, of_block))
        attn = block.attn
        layers = [attn.c_q, attn.c_k, attn.c_v]
        sums = [
            pieces.next(24, *(m.weight.size(0) for m in layers)) for _ in range(runs.get(layer, 1))
        ]
        for name, *deltas in zip(("c_q", "c_k", "c_v"), *sums, strict=True):
            of_block[name] = deltas
        of_block["proj"] = [pieces.next(24, 24)[0] for _ in range(runs.get(layer, 1))]
        of_block["mlp"] = [pieces.next(24, 24)[0] for _ in range(runs.get(layer, 1))]
    for block, of_block in places:
        _replace(block, of_block)
    x, weight = model.last_vectors(ids, LAST_N, None)
    logits = x @ (weight + pieces.next(24, 61)[0]).T
    assert pieces.at == [len(pieces.down), len(pieces.up)]
    return model.logit_softcap * torch.tanh(logits / model.logit_softcap)


def _replace(block: Any, of_block: dict[str, list[Tensor]]) -> None:
    passes, attn, mlp = count(), block.attn, block.mlp
    before = {name: getattr(attn, name).weight.detach() for name in ("c_q", "c_k", "c_v", "proj")}
    for name in before:
        del getattr(attn, name)._parameters["weight"]
    own_forward, delta = mlp.forward, of_block["mlp"]

    def begin(*_: Any) -> None:
        run = next(passes)
        for name, weight in before.items():
            getattr(attn, name).weight = weight + of_block[name][run]
        mlp.forward = lambda x: own_forward(x) + x @ delta[run].T

    block.register_forward_pre_hook(begin)


@pytest.mark.parametrize("build", [tiny_recurrent, tiny_baseline])
def test_values_and_gradients_are_those_of_dense_matrices_document_by_document(build: Any) -> None:
    model = build().double().requires_grad_(False)
    adapters = randomized(model, [5, 6, 7])
    # Weights that make each document's gradient its own.
    factors = torch.randn(3, LAST_N, 61, dtype=torch.float64)
    logits = adapters.logits(IDS, LAST_N)
    (logits * factors).sum().backward()
    assert not torch.allclose(logits, model.logits(IDS, LAST_N), atol=1e-2)
    for document in range(3):
        pieces = Pieces(adapters, document)
        expected = reference_logits(model, pieces, IDS[document : document + 1])
        torch.testing.assert_close(logits[document], expected[0])
        (expected[0] * factors[document]).sum().backward()
        for parameter, flat in zip(adapters.trained(), (pieces.down, pieces.up), strict=True):
            torch.testing.assert_close(parameter.grad[document], flat.grad)
    assert all(p.grad is None for p in model.parameters())


def test_a_looped_layer_has_adapters_for_each_pass() -> None:
    sites = find_sites(tiny_recurrent(), World())
    assert [len(passes) for passes in sites.values()] == [1] * 16
    model = tiny_recurrent()
    model.recurrence(True)
    counts = [len(passes) for passes in find_sites(model, World()).values()]
    # q, k, v together, o, and the MLP of five layers, of which two run three times; the head.
    assert sorted(counts) == [1] * 10 + [3] * 6


def test_at_first_they_change_nothing_and_are_drawn_by_their_seeds_alone() -> None:
    model = tiny_recurrent()
    some, other = adapters_of(model, [11, 12, 13]), adapters_of(model, [13, 11])
    assert torch.equal(some.logits(IDS, LAST_N), model.logits(IDS, LAST_N))
    assert torch.equal(some.down_BP[[2, 0]], other.down_BP)
    assert not torch.equal(some.down_BP[0], some.down_BP[1])
    scaled = some.down_BP.detach().abs() * 24**0.5
    assert 0.97 < float(scaled.max()) <= 1.0001 and float(scaled.mean()) == pytest.approx(
        0.5, abs=0.02
    )
    assert some.up_BQ.eq(0.0).all()


def test_a_batch_may_have_the_first_documents_only() -> None:
    adapters = randomized(tiny_recurrent().double(), [5, 6, 7])
    torch.testing.assert_close(adapters.logits(IDS[:2], LAST_N), adapters.logits(IDS, LAST_N)[:2])


def test_under_autocast_products_are_bf16_and_what_is_trained_is_not() -> None:
    model = tiny_recurrent(num_loops=0, embed_dtype="bf16")
    adapters, errors = randomized(model, [5, 6, 7]), []
    for predictor in (adapters, model):
        exact = predictor.logits(IDS, LAST_N).detach()
        with World(precision="bf16").autocast():
            half = predictor.logits(IDS, LAST_N)
        assert half.dtype == torch.float32
        errors.append(float((half.detach() - exact).norm() / exact.norm()))
        if predictor is adapters:
            half.sum().backward()
    assert 0.0 < errors[0] < 1.5 * errors[1]
    assert all(p.dtype == p.grad.dtype == torch.float32 for p in adapters.trained())


def test_no_documents_are_no_trouble() -> None:
    assert [len(p) for p in adapters_of(tiny_recurrent(), []).trained()] == [0, 0]
