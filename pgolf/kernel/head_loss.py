"""The head: from the last vectors to the loss, without logits that outlive it.

Legend: B batch, T time, D model_dim, V vocab_size.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from pgolf.kernel.choice import use_fused


def softcapped_loss(x_BTD: Tensor, weight_VD: Tensor, targets_BT: Tensor, softcap: float) -> Tensor:
    """Mean cross entropy of softcap * tanh(x W^T / softcap), in nats, fp32, without dimensions.

    Every target counts; there is no id that is left out.

    Args:
        x_BTD: what the head reads, normed.
        weight_VD: the head's matrix; its gradient comes in its own dtype.
        targets_BT: int64 ids below V.
        softcap: bound of the logits.
    """
    if use_fused(x_BTD):
        from pgolf.kernel.fused.head_loss import softcapped_loss_fused

        return softcapped_loss_fused(x_BTD, weight_VD, targets_BT, softcap)
    return softcapped_loss_eager(x_BTD, weight_VD, targets_BT, softcap)


def softcapped_loss_eager(
    x_BTD: Tensor, weight_VD: Tensor, targets_BT: Tensor, softcap: float
) -> Tensor:
    """The definition of `softcapped_loss`: logits in x's dtype, cross entropy in fp32."""
    logits_BTV = softcapped_logits(x_BTD, weight_VD, softcap)
    return F.cross_entropy(logits_BTV.flatten(0, 1).float(), targets_BT.flatten())


def softcapped_nll(x_BTD: Tensor, weight_VD: Tensor, targets_BT: Tensor, softcap: float) -> Tensor:
    """The loss of every position by itself: fp32 [B, T], without gradient."""
    if use_fused(x_BTD):
        from pgolf.kernel.fused.head_loss import softcapped_nll_fused

        return softcapped_nll_fused(x_BTD, weight_VD, targets_BT, softcap)
    return softcapped_nll_eager(x_BTD, weight_VD, targets_BT, softcap)


@torch.no_grad()
def softcapped_nll_eager(
    x_BTD: Tensor, weight_VD: Tensor, targets_BT: Tensor, softcap: float
) -> Tensor:
    """The definition of `softcapped_nll`, by that of the loss."""
    logits_NV = softcapped_logits(x_BTD, weight_VD, softcap).flatten(0, 1).float()
    return F.cross_entropy(logits_NV, targets_BT.flatten(), reduction="none").view_as(targets_BT)


def softcapped_logits(x_BTD: Tensor, weight_VD: Tensor, softcap: float) -> Tensor:
    """softcap * tanh(x W^T / softcap): logits stay within the cap (Gemma 2, arXiv 2408.00118)."""
    return soft_cap(F.linear(x_BTD, weight_VD), softcap)


def soft_cap(logits_BTV: Tensor, softcap: float) -> Tensor:
    """Bound logits smoothly: softcap * tanh(logits / softcap)."""
    return softcap * torch.tanh(logits_BTV / softcap)
