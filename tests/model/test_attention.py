"""Exclusive self-attention."""

from __future__ import annotations

import torch

from pgolf.kernel.xsa import exclude_own_value


def test_each_head_is_orthogonal_to_its_own_value_afterwards() -> None:
    torch.manual_seed(0)
    y_BTHK, v_BTGK = torch.randn(2, 5, 6, 8), torch.randn(2, 5, 2, 8)
    out_BTHK = exclude_own_value(y_BTHK, v_BTGK)
    for head in range(6):
        value_BTK = v_BTGK[:, :, head // 3]
        assert ((out_BTHK[:, :, head] * value_BTK).sum(-1)).abs().max() < 1e-5
        removed_BTK = y_BTHK[:, :, head] - out_BTHK[:, :, head]
        # What is removed is parallel to the value.
        cosine = torch.cosine_similarity(removed_BTK, value_BTK, dim=-1).abs()
        torch.testing.assert_close(cosine, torch.ones_like(cosine))


def test_a_zero_value_removes_nothing() -> None:
    y_BTHK = torch.randn(1, 3, 4, 8)
    assert torch.equal(exclude_own_value(y_BTHK, torch.zeros(1, 3, 2, 8)), y_BTHK)
