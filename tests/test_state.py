"""The norm of all weights and buffers: exact enough to compare two devices."""

from __future__ import annotations

from torch import nn

from pgolf.state import norms_of, state_of


def test_the_norm_of_a_large_matrix_is_that_of_float64() -> None:
    model = nn.Embedding(8192, 512)
    exact = float(model.weight.detach().double().norm())
    assert abs(float(state_of(model)) - exact) < 1e-6 * exact


def test_a_change_that_torch_does_not_count_shows() -> None:
    model = nn.Embedding(8192, 16)
    before, version = norms_of([model]), model.weight._version
    model.weight.data[8191, 15] += 1.0
    assert model.weight._version == version
    assert (norms_of([model]) != before).any() and state_of(model) != before.double().norm()
