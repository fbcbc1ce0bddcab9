"""Adapters at the products of a model: what they are shown, and what they change."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from torch import Tensor

from pgolf.kernel.choice import compile_blocks
from pgolf.kernel.linear import adapted, adapted_by, linear
from tests.model.tiny import random_ids, tiny_baseline, tiny_recurrent

IDS = random_ids(2, 16)


def test_without_an_adapter_an_output_is_left_alone() -> None:
    y = torch.ones(2, 3)
    assert adapted(y, torch.ones(2, 4), torch.ones(3, 4)) is y


def test_an_adapter_takes_the_place_of_an_output_inside_only() -> None:
    x, weights = torch.randn(2, 4), (torch.randn(3, 4), torch.randn(1, 4))
    plain = linear(x, *weights)

    def adapter(y: Tensor, seen: Tensor, of: tuple[Tensor, ...]) -> Tensor:
        assert torch.equal(y, plain) and seen is x and of == weights
        return y + 1.0

    with adapted_by(adapter):
        assert torch.equal(linear(x, *weights), plain + 1.0)
        with adapted_by(lambda y, x, weights: y):
            assert torch.equal(linear(x, *weights), plain)
        assert torch.equal(linear(x, *weights), plain + 1.0)
    with pytest.raises(ZeroDivisionError), adapted_by(adapter):
        raise ZeroDivisionError
    assert torch.equal(linear(x, *weights), plain)


def seen_by_name(model: Any) -> Counter[tuple[str, ...]]:
    names = {id(p): n for n, p in model.named_parameters()}
    seen: Counter[tuple[str, ...]] = Counter()

    def adapter(y: Tensor, x: Tensor, weights: tuple[Tensor, ...]) -> Tensor:
        seen[tuple(names[id(w)] for w in weights)] += 1
        return y

    with adapted_by(adapter):
        model.logits(IDS, 5)
    return seen


@pytest.mark.parametrize("build", [tiny_recurrent, tiny_baseline])
def test_every_matrix_is_seen_as_often_as_it_runs_and_the_mlp_as_a_whole(build: Any) -> None:
    model = build()
    model.recurrence(True)
    expected: Counter[tuple[str, ...]] = Counter({("tok_emb.weight",): 1})
    for layer in range(5):
        runs = 3 if build is tiny_recurrent and layer in (1, 2) else 1
        attn, fc, proj = (
            f"blocks.{layer}.{n}" for n in ("attn", "mlp.fc.weight", "mlp.proj.weight")
        )
        expected[tuple(f"{attn}.{n}.weight" for n in ("c_q", "c_k", "c_v"))] = runs
        expected[(f"{attn}.proj.weight",)] = runs
        expected[(fc,)] = expected[(proj,)] = expected[(fc, proj)] = runs
    assert seen_by_name(model) == expected


def test_what_is_added_reaches_the_logits_before_their_cap_and_has_a_gradient() -> None:
    model, added = tiny_recurrent().requires_grad_(False), torch.zeros(61, requires_grad=True)
    head = model.tok_emb.weight

    def adapter(y: Tensor, x: Tensor, weights: tuple[Tensor, ...]) -> Tensor:
        return y + added if weights[0] is head else y

    plain = model.logits(IDS, 3)
    with adapted_by(adapter):
        logits = model.logits(IDS, 3)
    assert torch.equal(logits, plain)
    logits.sum().backward()
    # The slope of the cap: 1 - (logit / cap)^2.
    slope = (1.0 - (plain / model.logit_softcap).square()).flatten(0, 1).sum(0)
    torch.testing.assert_close(added.grad, slope)


def test_compiled_blocks_give_way_to_an_adapter(monkeypatch: pytest.MonkeyPatch) -> None:
    model, plain = tiny_recurrent(), tiny_recurrent()
    real = torch.nn.Module.compile
    # The eager backend traces as all backends do, and compiles nothing.
    monkeypatch.setattr(torch.nn.Module, "compile", lambda m: real(m, backend="eager"))
    compile_blocks(model)
    torch.testing.assert_close(model.logits(IDS), plain.logits(IDS))
    assert seen_by_name(model) == seen_by_name(plain)
