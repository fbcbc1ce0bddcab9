"""Rotary position embedding on the first dimensions of a head (RoFormer, arXiv 2104.09864).

Legend: T time, R rope_dims (the rotated ones), r = R/2.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor


def rotary_base(base: float, seq_len: int, train_seq_len: int, rope_dims: int) -> float:
    """Base of the frequencies; beyond the training length it grows so that the slowest still fits.

    base * (seq_len/train_seq_len)^(R/(R-2)): the "NTK-aware" rule, as in PR #1738.
    """
    if seq_len <= train_seq_len or rope_dims <= 2:
        return base
    return float(base * (seq_len / train_seq_len) ** (rope_dims / (rope_dims - 2)))


def rotary_tables(
    seq_len: int,
    *,
    rope_dims: int,
    base: float,
    train_seq_len: int,
    like: Tensor,
    freq_dtype: Literal["fp32", "bf16"] = "fp32",
) -> tuple[Tensor, Tensor]:
    """Cosines and sines of all positions, each [1, T, 1, r], on `like`'s device and in its dtype.

    Computed anew for each forward pass, once for all layers: T*r elements cost nothing, and there
    is no cache that a compiled graph, inference mode or another length could spoil.

    Args:
        freq_dtype: to which frequencies are rounded; positions and angles stay fp32.
    """
    base = rotary_base(base, seq_len, train_seq_len, rope_dims)
    exponent_r = torch.arange(0, rope_dims, 2, dtype=torch.float32, device=like.device) / rope_dims
    position_T = torch.arange(seq_len, dtype=torch.float32, device=like.device)
    frequency_r = 1.0 / (base**exponent_r)
    if freq_dtype == "bf16":
        frequency_r = frequency_r.bfloat16().float()
    angle_1T1r = torch.outer(position_T, frequency_r)[None, :, None, :]
    return angle_1T1r.cos().to(like.dtype), angle_1T1r.sin().to(like.dtype)
