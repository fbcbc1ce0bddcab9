"""Tied embedding: ids to vectors, vectors to softcapped logits, and the loss.

Legend: B batch, T time, D model_dim, V vocab_size.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def stream_dtype(weight_VD: Tensor) -> torch.dtype:
    """Dtype of the residual stream: autocast's where it is on, else fp32 (fp64 stays fp64)."""
    device_type = weight_VD.device.type
    if torch.is_autocast_enabled(device_type):
        return torch.get_autocast_dtype(device_type)
    return torch.promote_types(weight_VD.dtype, torch.float32)


def softcapped_logits(x_BTD: Tensor, weight_VD: Tensor, softcap: float) -> Tensor:
    """softcap * tanh(x W^T / softcap): logits stay within the cap (Gemma 2, arXiv 2408.00118)."""
    return softcap * torch.tanh(F.linear(x_BTD, weight_VD) / softcap)


def next_token_loss(logits_BTV: Tensor, targets_BT: Tensor) -> Tensor:
    """Mean nats per token, computed in fp32."""
    return F.cross_entropy(logits_BTV.flatten(0, 1).float(), targets_BT.flatten())
