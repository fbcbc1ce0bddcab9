"""Exponential moving average of a model's weights, kept in fp32."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from pgolf.train.schedule import ema_decay


class WeightAverage:
    """Average of all parameters, starting from those the model has now.

    Args:
        model: read at each update.
        decay: weight of the past at each update.
        ramp: smaller decay at the first updates, see `schedule.ema_decay`.
    """

    def __init__(self, model: nn.Module, *, decay: float, ramp: bool) -> None:
        self.decay, self.ramp = decay, ramp
        parameters = dict(model.named_parameters())
        self._average = {
            name: parameter.detach().to(torch.float32, copy=True)
            for name, parameter in parameters.items()
        }
        # The multi-tensor kernel wants one dtype: others are cast at each update, one by one.
        fp32 = [name for name, p in parameters.items() if p.dtype == torch.float32]
        self._fp32_averages = [self._average[name] for name in fp32]
        self._fp32_parameters: list[Tensor] = [parameters[name] for name in fp32]
        self._others = [(self._average[n], p) for n, p in parameters.items() if n not in set(fp32)]

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights after optimizer step `step` (from 0), in one multi-tensor pass."""
        weight = 1.0 - ema_decay(step, self.decay, self.ramp)
        if self._fp32_averages:
            torch._foreach_lerp_(self._fp32_averages, self._fp32_parameters, weight)
        for average, parameter in self._others:
            average.lerp_(parameter.float(), weight)

    @torch.no_grad()
    def copy_to(self, model: nn.Module) -> None:
        """Overwrite a model's parameters by the averages, in the parameters' own dtypes."""
        for name, parameter in model.named_parameters():
            parameter.copy_(self._average[name])

    def state_dict(self) -> dict[str, Tensor]:
        """The fp32 averages by parameter name (the tensors themselves, not copies)."""
        return dict(self._average)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        assert state.keys() == self._average.keys(), "an average of another model"
        for name, average in self._average.items():
            average.copy_(state[name])
