"""The plain GPT; causality, last_n and loss are tested with recurrent3's."""

from __future__ import annotations

import pytest
import torch

from pgolf.errors import UserError
from tests.model.tiny import random_ids, tiny_baseline


@pytest.mark.parametrize("activation", ["relu2", "gelu"])
def test_it_fits_a_few_sequences(activation: str) -> None:
    model, tokens = tiny_baseline(activation=activation), random_ids(2, 12)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    losses = []
    for _ in range(40):
        loss = model(tokens[:, :-1], tokens[:, 1:])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.3 * losses[0]


def test_recurrence_does_nothing() -> None:
    model, ids_BT = tiny_baseline(), random_ids(2, 9)
    with torch.no_grad():
        before = model.logits(ids_BT)
        model.recurrence(True)
        assert torch.equal(model.logits(ids_BT), before)


def test_heads_that_do_not_divide_are_the_users_error() -> None:
    with pytest.raises(UserError, match="num_heads"):
        tiny_baseline(num_heads=5)
