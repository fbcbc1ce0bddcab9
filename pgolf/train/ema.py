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
        self._parameters = dict(model.named_parameters())
        self._average = {
            name: parameter.detach().to(torch.float32, copy=True)
            for name, parameter in self._parameters.items()
        }

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights after optimizer step `step` (from 0): one multi-tensor pass."""
        weights = [parameter.detach().float() for parameter in self._parameters.values()]
        decay = ema_decay(step, self.decay, self.ramp)
        torch._foreach_lerp_(list(self._average.values()), weights, 1.0 - decay)

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
