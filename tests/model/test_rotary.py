"""Rotary embedding: relative positions, norms, and the rule for long inputs."""

from __future__ import annotations

import pytest
import torch

from pgolf.kernel.qk_prep import apply_rotary
from pgolf.model.rotary import rotary_base, rotary_tables


def rotate(x_K: torch.Tensor, position: int, rope_dims: int, train_seq_len: int = 64):
    x_BTHK = torch.zeros(1, 64, 1, len(x_K), dtype=x_K.dtype)
    x_BTHK[0, position, 0] = x_K
    cos, sin = rotary_tables(
        64, rope_dims=rope_dims, base=100.0, train_seq_len=train_seq_len, like=x_BTHK
    )
    return apply_rotary(x_BTHK, cos, sin)[0, position, 0]


def test_products_depend_on_the_distance_alone() -> None:
    torch.manual_seed(0)
    q_K, k_K = torch.randn(2, 12).double()
    products = [rotate(q_K, p + 7, 8) @ rotate(k_K, p, 8) for p in (0, 3, 20, 56)]
    torch.testing.assert_close(torch.stack(products), products[0].expand(4), atol=1e-4, rtol=0)
    assert abs(rotate(q_K, 9, 8) @ rotate(k_K, 0, 8) - products[0]) > 1e-3


def test_norm_and_unrotated_dimensions_stay() -> None:
    x_K = torch.randn(12)
    for position in (0, 1, 33):
        turned_K = rotate(x_K, position, 8)
        assert torch.equal(turned_K[8:], x_K[8:])
        torch.testing.assert_close(turned_K[:8].norm(), x_K[:8].norm())
    torch.testing.assert_close(rotate(x_K, 0, 8), x_K)


def test_base_grows_beyond_the_training_length_only() -> None:
    assert rotary_base(10000.0, 64, 64, 8) == 10000.0
    assert rotary_base(10000.0, 32, 64, 8) == 10000.0
    assert rotary_base(10000.0, 128, 64, 8) == pytest.approx(10000.0 * 2 ** (8 / 6))
    # The slowest pair then turns over the longer text as far as it did over the training length.
    slowest = rotary_base(10000.0, 128, 64, 8) ** (6 / 8)
    assert 128 / slowest == pytest.approx(64 / 10000.0 ** (6 / 8))


def test_rounded_frequencies_turn_exact_positions() -> None:
    """Frequencies alone are rounded: a position of 1,001 in bf16 would be 1,000."""
    like = torch.empty(0, dtype=torch.float64)
    cos, sin = rotary_tables(
        1002, rope_dims=8, base=100.0, train_seq_len=2048, like=like, freq_dtype="bf16"
    )
    rounded = (1 / 100.0 ** (torch.arange(0, 8, 2) / 8)).bfloat16().double()
    angle_r = 1001 * rounded
    torch.testing.assert_close(cos[0, 1001, 0], angle_r.cos(), atol=1e-4, rtol=0)
    torch.testing.assert_close(sin[0, 1001, 0], angle_r.sin(), atol=1e-4, rtol=0)
    exact, _ = rotary_tables(1002, rope_dims=8, base=100.0, train_seq_len=2048, like=like)
    assert (exact - cos).abs().max() > 0.1
