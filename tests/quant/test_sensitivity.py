"""What is measured of errors agrees with what they do, and with Fisher's information."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pgolf.distributed import World
from pgolf.quant.sensitivity import RARE, Divergence, row_importance
from tests.model.tiny import random_ids, tiny_recurrent, weights
from tests.quant.markov import texts, trained
from tests.two_workers import run_in_two_workers

VOCAB, ROWS, COLUMNS, LENGTH = 11, 5, 6, 8


class Linear(nn.Module):
    """Logits are head @ weight @ (a vector of each token): all that is asked of it is exact."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)

        def normal(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=generator, dtype=torch.float64)

        self.weight = nn.Parameter(0.5 * normal(ROWS, COLUMNS))
        self.register_buffer("vectors", normal(VOCAB, COLUMNS))
        self.register_buffer("head", normal(VOCAB, ROWS) * torch.tensor([0.1, 0.3, 1.0, 0.5, 2.0]))

    def logits(self, ids_BT: Tensor) -> Tensor:
        logits: Tensor = self.vectors[ids_BT] @ self.weight.T @ self.head.T  # type: ignore
        return logits

    def forward(self, ids_BT: Tensor, targets_BT: Tensor) -> Tensor:
        return F.cross_entropy(self.logits(ids_BT).flatten(0, 1), targets_BT.flatten())


def batches(count: int, sequences: int = 3) -> list[Tensor]:
    return [random_ids(sequences, LENGTH, vocab_size=VOCAB, seed=seed) for seed in range(count)]


def test_an_unchanged_model_diverges_by_nothing() -> None:
    model = tiny_recurrent()
    assert Divergence(model, [random_ids(3, 16)], World())() == 0.0


@torch.no_grad()
def test_it_is_the_mean_divergence_of_a_token() -> None:
    model, ids = tiny_recurrent(), random_ids(3, 16)
    divergence = Divergence(model, [ids[:2], ids[2:]], World())
    first = model.logits(ids).double().log_softmax(dim=-1)
    dict(model.named_parameters())["blocks.1.mlp.proj.weight"].mul_(1.1)
    now = model.logits(ids).double().log_softmax(dim=-1)
    expected = F.kl_div(now, first, log_target=True, reduction="sum") / ids.numel()
    assert divergence() == pytest.approx(float(expected), rel=1e-4)


@torch.no_grad()
def test_small_changes_cost_half_of_fishers_form() -> None:
    model, ids = Linear(), torch.cat(batches(4))
    divergence = Divergence(model, [ids], World())
    change = torch.randn(ROWS, COLUMNS, generator=torch.Generator().manual_seed(1)).double()
    chance_BTV = model.logits(ids).softmax(dim=-1)
    moved_BTV = model.vectors[ids] @ change.T @ model.head.T  # type: ignore
    mean_BT = (chance_BTV * moved_BTV).sum(dim=-1)
    variance_BT = (chance_BTV * moved_BTV.square()).sum(dim=-1) - mean_BT.square()
    size = 1e-4
    model.weight.add_(size * change)
    assert divergence() == pytest.approx(0.5 * size**2 * float(variance_BT.mean()), rel=1e-3)


@torch.no_grad()
def test_it_is_what_the_loss_of_a_model_that_is_right_rises_by() -> None:
    model, ids = tiny_recurrent(), random_ids(2, 16)
    divergence = Divergence(model, [ids], World())
    before = model.logits(ids).double().log_softmax(dim=-1).flatten(0, 1)
    generator = torch.Generator().manual_seed(0)
    drawn = torch.multinomial(before.exp(), 20_000, replacement=True, generator=generator)
    weight = dict(model.named_parameters())["blocks.2.attn.c_q.weight"]
    weight.add_(0.05 * torch.randn(weight.shape, generator=generator))
    after = model.logits(ids).double().log_softmax(dim=-1).flatten(0, 1)
    rises = before.gather(1, drawn) - after.gather(1, drawn)
    error = float(rises.std()) / drawn.numel() ** 0.5
    assert divergence() > 20 * error
    assert divergence() == pytest.approx(float(rises.mean()), abs=4 * error)


def test_each_weight_is_changed_by_itself_and_put_back() -> None:
    model = tiny_recurrent()
    before = weights(model)
    divergence = Divergence(model, [random_ids(2, 16)], World())
    names = ["blocks.0.mlp.fc.weight", "blocks.3.attn.proj.weight"]
    changed = {name: before[name] * 1.2 for name in names}
    changed["blocks.1.mlp.fc.weight"] = before["blocks.1.mlp.fc.weight"]
    found = divergence.of_each(changed)
    assert all(torch.equal(value, before[name]) for name, value in weights(model).items())
    assert found["blocks.1.mlp.fc.weight"] == 0.0 and divergence() == 0.0
    for name in names:
        with torch.no_grad():
            dict(model.named_parameters())[name].copy_(changed[name])
        assert found[name] == divergence() > 0
        model.load_state_dict(before)


def exact_importance(model: Linear, ids: list[Tensor]) -> Tensor:
    """From the covariance of the logits' gradient instead of drawn targets."""
    sum_R, inputs_C = torch.zeros(ROWS).double(), torch.zeros(COLUMNS).double()
    for ids_BT in ids:
        x_BTC = model.vectors[ids_BT]  # type: ignore
        inputs_C += x_BTC.square().sum(dim=(0, 1))
    for ids_BT in ids:
        x_BTC = model.vectors[ids_BT]  # type: ignore
        chance_BTV = model.logits(ids_BT).softmax(dim=-1).detach()
        mean_BTR = chance_BTV @ model.head  # type: ignore
        variance_BTR = chance_BTV @ model.head.square() - mean_BTR.square()  # type: ignore
        sum_R += (variance_BTR * (x_BTC.square() / inputs_C).sum(dim=-1, keepdim=True)).sum((0, 1))
    return sum_R / sum_R.mean() + RARE


def moments(model: Linear, ids: list[Tensor]) -> Tensor:
    x_NC = torch.cat([model.vectors[b].flatten(0, 1) for b in ids])  # type: ignore
    return x_NC.T @ x_NC


def test_rows_count_by_fishers_information() -> None:
    model, ids = Linear(), batches(200)
    found = row_importance(model, ids, {"weight": moments(model, ids)}, World())["weight"]
    expected = exact_importance(model, ids)
    torch.testing.assert_close(found.double(), expected, rtol=0.08, atol=0.0)
    assert float(found.mean()) == pytest.approx(1 + RARE) and expected.max() > 50 * expected.min()


def test_rows_of_an_embedding_stay_alike() -> None:
    model = trained()
    names = [name for name, p in model.named_parameters() if p.ndim == 2]
    hessians = {n: torch.eye(model.get_parameter(n).size(1)) for n in names}
    found = row_importance(model, [texts(4, 0)], hessians, World())
    assert "tok_emb.weight" in names and "tok_emb.weight" not in found
    assert "blocks.0.mlp.fc.weight" in found


def test_a_matrix_without_any_gradient_is_left_out() -> None:
    model, ids = Linear(), batches(1)
    model.head.zero_()  # type: ignore
    assert row_importance(model, ids, {"weight": moments(model, ids)}, World()) == {}


def _shared(world: World) -> list[Any]:
    """Both measures, each rank with every second batch."""
    model, ids = Linear(), batches(4)
    own = ids[world.rank :: world.world_size]
    rows = row_importance(model, own, {"weight": moments(model, ids)}, world)["weight"]
    divergence = Divergence(model, own, world)
    return [rows, divergence.of_each({"weight": 1.1 * model.weight.detach()})["weight"]]


@pytest.mark.slow
def test_the_number_of_ranks_changes_nothing() -> None:
    rows, nats = _shared(World())
    found = run_in_two_workers(_shared)
    assert torch.equal(found[0][0], found[1][0]) and found[0][1] == found[1][1]
    torch.testing.assert_close(found[0][0], rows, rtol=1e-5, atol=0.0)
    assert found[0][1] == pytest.approx(nats, rel=1e-9)
