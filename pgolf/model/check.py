"""Checks of sizes that both models share: a wrong one is the user's, with its key and remedy."""

from __future__ import annotations

from pgolf.errors import UserError


def check_positive(**sizes: float) -> None:
    for key, value in sizes.items():
        if not 0.0 < value < float("inf"):
            raise UserError(f"model.{key}={value}: expected a number above 0")


def check_heads(*, model_dim: int, num_heads: int, num_kv_heads: int, rope_dims: int) -> None:
    """Raises UserError where heads do not divide, or the rotary dimensions do not fit a head."""
    if model_dim % num_heads:
        raise UserError(
            f"model.model_dim={model_dim} does not divide into num_heads={num_heads}: "
            "choose scale.model_dim as a multiple of scale.num_heads"
        )
    if num_heads % num_kv_heads:
        raise UserError(
            f"model.num_heads={num_heads} is no multiple of num_kv_heads={num_kv_heads}: query "
            "heads share key-value heads evenly; change scale.num_heads or scale.num_kv_heads"
        )
    head_dim = model_dim // num_heads
    if rope_dims % 2 or not 0 < rope_dims <= head_dim:
        raise UserError(
            f"model.rope_dims={rope_dims}: expected an even number from 2 to the head's width "
            f"{head_dim}; change scale.rope_dims"
        )
