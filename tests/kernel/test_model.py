"""The whole model on fused kernels against the same model on their twins, in bf16 and float64."""

from __future__ import annotations

import importlib
import pkgutil

import pytest
import torch
from torch import Tensor, nn

from pgolf import kernel
from pgolf.distributed import World
from pgolf.kernel.linear import observed_by
from pgolf.model.recurrent import RecurrentGPT
from tests.kernel.precision import DEVICE, error
from tests.model.tiny import RECURRENT, SIZES, random_ids

pytest.importorskip("triton", reason="the fused kernels are written in Triton")

WORLD = World(device=torch.device(DEVICE), precision="bf16")


@pytest.fixture
def fused(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Every kernel takes its fused form, on the CPU in the interpreter."""
    for found in pkgutil.iter_modules(kernel.__path__):
        module = importlib.import_module(f"pgolf.kernel.{found.name}")
        if hasattr(module, "use_fused"):
            monkeypatch.setattr(module, "use_fused", lambda x: x.dtype == torch.bfloat16)
    return monkeypatch


def model_of(on: bool) -> RecurrentGPT:
    """With its own first weights and small output projections: rounding errors stay small."""
    torch.manual_seed(0)
    sizes = {"model_dim": 32, "embed_init_std": 0.3, "rope_dims": 4}
    model = RecurrentGPT(**{**SIZES, **RECURRENT, **sizes})
    for name, parameter in model.named_parameters():
        if name.endswith("proj.weight"):
            nn.init.normal_(parameter, std=0.1)
    model.recurrence(on)
    return model.to(DEVICE)


def passed(model: nn.Module, tokens: Tensor) -> dict[str, Tensor]:
    """The loss, every gradient, and nats of the last targets."""
    exact = next(model.parameters()).dtype == torch.float64
    with torch.autocast(WORLD.device.type, torch.bfloat16, enabled=not exact):
        loss = model(tokens[:, :-1], tokens[:, 1:])
        with torch.no_grad():
            nats = model.nll(tokens[:, :-1], tokens[:, -3:])  # type: ignore[operator]
    model.zero_grad()
    loss.backward()
    grads = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    return {"loss": loss.detach(), "nats": nats, **grads}


@pytest.mark.parametrize("on", [False, True])
def test_fused_and_plain_are_equally_near_to_float64(
    on: bool, request: pytest.FixtureRequest
) -> None:
    tokens = random_ids(2, 10).to(DEVICE)
    exact, plain = passed(model_of(on).double(), tokens), passed(model_of(on), tokens)
    request.getfixturevalue("fused")
    found = passed(model_of(on), tokens)
    assert found.keys() == exact.keys() and len(found) > 20
    for name, value in found.items():
        # A gain has four numbers, whose errors do not average out.
        assert error(value, exact[name]) <= max(2 * error(plain[name], exact[name]), 0.1), name
    ours, twins, wanted = (
        torch.cat([tensor.flatten().double() for tensor in every.values()])
        for every in (found, plain, exact)
    )
    assert error(ours, wanted) <= min(1.5 * error(twins, wanted), 2e-2)


def test_frozen_parameters_get_no_gradient(fused: pytest.MonkeyPatch) -> None:
    tokens, model, whole = random_ids(2, 10).to(DEVICE), model_of(True), model_of(True)
    frozen = ("tok_emb.", "blocks.0.")
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(not name.startswith(frozen))
    found, expected = passed(model, tokens), passed(whole, tokens)
    assert not any(name.startswith(frozen) for name in found)
    for name, value in found.items():
        torch.testing.assert_close(value, expected[name], rtol=1e-3, atol=1e-5)


def test_an_observer_sees_the_inputs_of_all_matrices(fused: pytest.MonkeyPatch) -> None:
    ids, seen = random_ids(2, 10).to(DEVICE), []
    for dtype in (torch.bfloat16, torch.float32):  # fused, and not
        model, grams = model_of(True), dict[str, Tensor]()
        names = {parameter: name for name, parameter in model.named_parameters()}

        def watch(x: Tensor, weights: tuple[Tensor, ...], names=names, grams=grams) -> None:
            x_NC = x.flatten(0, -2).double()
            for weight in weights:
                gram_CC = x_NC.T @ x_NC
                grams[names[weight]] = grams.get(names[weight], 0) + gram_CC

        half = torch.autocast(WORLD.device.type, dtype, dtype == torch.bfloat16)
        with torch.no_grad(), half, observed_by(watch):
            model.logits(ids)
        seen.append(grams)
    assert seen[0].keys() == seen[1].keys() and len(seen[0]) == 5 * 6 + 1
    for name, gram in seen[0].items():
        assert error(gram, seen[1][name]) < 3e-2, name
