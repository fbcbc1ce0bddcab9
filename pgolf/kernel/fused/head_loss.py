# mypy: disallow-untyped-defs=False
"""`pgolf.kernel.head_loss` with one Triton kernel between the matrix products.

Passes over memory, in units of the bf16 logits [N, V] (1.6 GB for 98,304 tokens and 8192 ids): the
product writes them, the kernel reads them once and leaves the gradient in their place, each of the
two products of the backward reads that: 5 units. As single operations: softcap 6, cast 3, log
softmax and loss 4, their gradients more than 15, and a peak of several such tensors in fp32.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable


@triton.jit
def _tanh(x):
    # By an exponential: 1e-7 from exact, and right where the exponential overflows.
    return 1.0 - 2.0 / (tl.exp(2.0 * x) + 1.0)


@triton.jit
def _loss_and_gradient(
    logits_ptr, targets_ptr, losses_ptr, softcap, gradient_scale,
    V: tl.constexpr, V2: tl.constexpr, WITH_GRADIENT: tl.constexpr,
):  # fmt: skip
    """One row: its loss, and d(mean loss)/d(logits before the cap) in the place of the logits."""
    row = tl.program_id(0)
    logits_ptr += row.to(tl.int64) * V
    target = tl.load(targets_ptr + row)
    # Read before the first reduction, where all threads meet, and so before anything is written.
    # An id that does not exist makes the loss NaN instead of touching other memory.
    exists = (target >= 0) & (target < V)
    z_target = tl.load(logits_ptr + target, mask=exists, other=float("nan")).to(tl.float32)
    column = tl.arange(0, V2)
    # Compares with a constant where V is a power of two, so that no mask takes registers.
    live = (column < V) | (V == V2)
    z = tl.load(logits_ptr + column, mask=live, other=float("-inf")).to(tl.float32)

    # The cap keeps the order: the largest before it tells the largest after it, while all that a
    # thread holds of its row is z.
    inverse_cap = 1.0 / softcap
    largest = softcap * _tanh(tl.max(z, 0) * inverse_cap)
    tanh = _tanh(z * inverse_cap)
    weight = tl.where(live, tl.exp(softcap * tanh - largest), 0.0)
    total = tl.sum(weight, 0)
    at_target = softcap * _tanh(z_target * inverse_cap)
    tl.store(losses_ptr + row, tl.log(total) + largest - at_target)
    if WITH_GRADIENT:
        # The scale 1/N takes nothing from the precision: bf16 has the exponents of fp32.
        slope = (1.0 - tanh * tanh) * gradient_scale
        dz = (weight * (1.0 / total) - tl.where(column == target, 1.0, 0.0)) * slope
        tl.store(logits_ptr + column, dz.to(logits_ptr.dtype.element_ty), mask=live)


def _losses(logits_NV: Tensor, targets_N: Tensor, softcap: float, grads: bool) -> Tensor:
    """fp32 [N]; with `grads` the logits become the gradient of their mean."""
    N, V = logits_NV.shape
    losses_N = torch.empty(N, device=logits_NV.device)
    width = triton.next_power_of_2(V)
    _loss_and_gradient[(N,)](
        logits_NV, targets_N, losses_N, softcap, 1 / N, V=V, V2=width, WITH_GRADIENT=grads,
        # 16 elements a thread for 8192 ids: 64 registers, so that an SM holds two rows.
        num_warps=min(max(width // 512, 4), 16),
    )  # fmt: skip
    return losses_N


class _SoftcappedLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x_ND: Tensor, weight_VD: Tensor, targets_N: Tensor, softcap: float, grads: bool
    ) -> Tensor:
        logits_NV = torch.mm(x_ND, weight_VD.t())
        losses_N = _losses(logits_NV, targets_N, softcap, grads)
        if grads:
            ctx.save_for_backward(x_ND, weight_VD, logits_NV)
        return losses_N.mean()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dloss: Tensor) -> tuple[Tensor | None, ...]:
        x_ND, weight_VD, dlogits_NV = ctx.saved_tensors
        dx_ND = dweight_VD = None
        # dloss stays on the device, and scales the smaller side: W before one product, dW after.
        # In fp32, because a dloss rounded to bf16 would make all gradients wrong by one factor.
        if ctx.needs_input_grad[0]:
            scaled_VD = (weight_VD.float() * dloss).to(weight_VD.dtype)
            dx_ND = torch.mm(dlogits_NV, scaled_VD)
        if ctx.needs_input_grad[1]:
            dweight_VD = torch.mm(dlogits_NV.t(), x_ND).float().mul_(dloss).to(weight_VD.dtype)
        return dx_ND, dweight_VD, None, None, None


def softcapped_loss_fused(
    x_BTD: Tensor, weight_VD: Tensor, targets_BT: Tensor, softcap: float
) -> Tensor:
    """See `pgolf.kernel.head_loss.softcapped_loss`; the logits are in x's dtype, bf16.

    Without a need for gradients, nothing is kept and the logits are not written again.
    """
    weight_VD = weight_VD.to(x_BTD.dtype)
    grads = torch.is_grad_enabled() and (x_BTD.requires_grad or weight_VD.requires_grad)
    loss: Tensor = _SoftcappedLoss.apply(
        x_BTD.flatten(0, 1), weight_VD, targets_BT.flatten().contiguous(), softcap, grads
    )
    return loss


@torch.no_grad()
def softcapped_nll_fused(
    x_BTD: Tensor, weight_VD: Tensor, targets_BT: Tensor, softcap: float
) -> Tensor:
    """See `pgolf.kernel.head_loss.softcapped_nll`."""
    logits_NV = torch.mm(x_BTD.flatten(0, 1), weight_VD.to(x_BTD.dtype).t())
    losses_N = _losses(logits_NV, targets_BT.flatten().contiguous(), softcap, grads=False)
    return losses_N.view_as(targets_BT)
