"""The average of weights against a loop over floats."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from pgolf.train.ema import WeightAverage


def model_with(dtype: torch.dtype = torch.float32) -> nn.Module:
    torch.manual_seed(0)
    model = nn.Linear(3, 2)
    model.weight.data = model.weight.data.to(dtype)
    return model


@pytest.mark.parametrize("ramp", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_average_equals_a_loop_in_float64(ramp: bool, dtype: torch.dtype) -> None:
    model = model_with(dtype)
    average = WeightAverage(model, decay=0.9, ramp=ramp)
    expected = {name: p.detach().double() for name, p in model.named_parameters()}
    for step in range(20):
        decay = min(0.9, (1 + step) / (10 + step)) if ramp else 0.9
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
                expected[name] = decay * expected[name] + (1 - decay) * parameter.double()
        average.update(step)
    for name, value in average.state_dict().items():
        assert value.dtype == torch.float32
        torch.testing.assert_close(value.double(), expected[name], atol=1e-6, rtol=0)


def test_a_model_of_bf16_alone() -> None:
    model = nn.Linear(3, 2).bfloat16()
    average = WeightAverage(model, decay=0.5, ramp=False)
    start = model.weight.detach().float()
    with torch.no_grad():
        model.weight.add_(1.0)
    average.update(0)
    expected = (start + model.weight.detach().float()) / 2
    torch.testing.assert_close(average.state_dict()["weight"], expected)


def test_copy_to_writes_the_average_in_the_parameters_dtype() -> None:
    model = model_with(torch.bfloat16)
    start = model.weight.detach().clone()
    average = WeightAverage(model, decay=0.9, ramp=False)
    with torch.no_grad():
        model.weight.add_(1.0)
    average.copy_to(model)
    assert torch.equal(model.weight, start)


def test_state_goes_through_a_save() -> None:
    model = model_with()
    average = WeightAverage(model, decay=0.5, ramp=False)
    with torch.no_grad():
        model.weight.add_(1.0)
    average.update(0)
    saved = {name: value.clone() for name, value in average.state_dict().items()}
    other = WeightAverage(model, decay=0.5, ramp=False)
    other.load_state_dict(saved)
    average.update(1)
    other.update(1)
    for name, value in average.state_dict().items():
        assert torch.equal(value, other.state_dict()[name])
