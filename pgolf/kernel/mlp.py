"""The MLP of recurrent3 as a function. Legend: B batch, T time, D model_dim, F hidden."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from pgolf.kernel.choice import use_fused
from pgolf.kernel.linear import adapted, is_observed, linear

NEGATIVE_SLOPE = 0.5


def leaky_square_mlp(x_BTD: Tensor, fc_FD: Tensor, proj_DF: Tensor) -> Tensor:
    """leaky_relu(x fc^T, 0.5)^2 proj^T: the square keeps a gradient where relu^2 has none (#1738).

    Args:
        x_BTD: activations; any number of leading dimensions.
        fc_FD, proj_DF: weights; products are computed in the dtype that autocast gives them, the
            fused form computes in bf16.

    Returns:
        out_BTD, in the dtype of the products.
    """
    # What a training step keeps is not rounded as inference rounds it; an observer gets the latter.
    if use_fused(x_BTD) and not (is_observed() and torch.is_grad_enabled()):
        from pgolf.kernel.fused.mlp import leaky_square_mlp_fused

        out_BTD = leaky_square_mlp_fused(x_BTD, fc_FD, proj_DF)
    else:
        out_BTD = leaky_square_mlp_eager(x_BTD, fc_FD, proj_DF)
    return adapted(out_BTD, x_BTD, fc_FD, proj_DF)


def leaky_square_mlp_eager(x_BTD: Tensor, fc_FD: Tensor, proj_DF: Tensor) -> Tensor:
    """The twin in plain torch, which defines what `leaky_square_mlp` computes."""
    h_BTF = linear(x_BTD, fc_FD)
    return linear(F.leaky_relu(h_BTF, NEGATIVE_SLOPE).square(), proj_DF)
