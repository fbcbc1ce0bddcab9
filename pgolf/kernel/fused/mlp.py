"""The MLP with its activation inside the matrix products: `leaky_square_mlp` on a GPU, in bf16.

Legend: M rows (B*T), D model_dim, F hidden. Passes over [M, F] beside those of the products that
read a and dh (out, dproj, dfc, dx), which are the same in both forms:

                            separate                                fused
    forward, training       write h; read h, write a                write h, write a
    forward, inference      write h; read h, write a                write a
    backward                write da; read da, read h, write dh     read h, write dh

"separate" is torch.mm and a one-pass element-wise kernel; plain torch makes two passes for the
activation and more for its gradient.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from pgolf.kernel.fused.mlp_products import (
    Tiling,
    activated_product,
    activation,
    gradient_product,
    slope,
)

# What pays: a tiling of the fused product, or None for the separate form (bench/mlp_kernel.py).
# Two programs on a processor: one multiplies while the other stores.
FORWARD: Tiling | None = Tiling(128, 128, 64, num_warps=4, num_stages=3, programs_per_sm=2)
BACKWARD: Tiling | None = Tiling(128, 128, 64, num_warps=4, num_stages=3, programs_per_sm=2)
# The tilings are made for Hopper's shared memory; other GPUs take the separate form.
HOPPER = 9

ELEMENTS = 4096  # of a program of the element-wise kernels: 16 a thread
ROW_MULTIPLE = 8  # TMA wants rows that begin at multiples of 16 bytes


def leaky_square_mlp_fused(x_BTD: Tensor, fc_FD: Tensor, proj_DF: Tensor) -> Tensor:
    """act(x fc^T) proj^T with act(h) = leaky_relu(h, 0.5)^2.

    Args:
        x_BTD: bf16, any number of leading dimensions.
        fc_FD, proj_DF: of any float dtype, cast to bf16; their gradients come back in it.

    Returns:
        out_BTD: bf16.
    """
    # Asked here, because inside of the function gradients are always off.
    grad = torch.is_grad_enabled()
    keep_h = grad and (x_BTD.requires_grad or fc_FD.requires_grad)
    out_MD: Tensor = _LeakySquareMLP.apply(x_BTD.flatten(0, -2), fc_FD, proj_DF, keep_h)
    return out_MD.view(*x_BTD.shape[:-1], proj_DF.size(0))


def activate(
    x_MD: Tensor, fc_FD: Tensor, keep_h: bool, tiling: Tiling | None
) -> tuple[Tensor | None, Tensor]:
    """h = x fc^T (None unless kept) and a = act(h), both [M, F]; bf16 in and out."""
    if tiling is not None and _fits(fc_FD):
        return activated_product(x_MD, fc_FD, keep_h, tiling)
    h_MF = torch.mm(x_MD, fc_FD.t())
    a_MF = torch.empty_like(h_MF) if keep_h else h_MF
    count = h_MF.numel()
    _activate_kernel[(triton.cdiv(count, ELEMENTS),)](h_MF, a_MF, count, ELEMENTS, num_warps=8)
    return (h_MF if keep_h else None), a_MF


def activation_gradient(
    dout_MD: Tensor, proj_DF: Tensor, h_MF: Tensor, tiling: Tiling | None
) -> Tensor:
    """dh = (dout proj) * act'(h), [M, F]; bf16 in and out."""
    if tiling is not None and _fits(proj_DF):
        return gradient_product(dout_MD, proj_DF, h_MF, tiling)
    dh_MF = torch.mm(dout_MD, proj_DF)
    count = dh_MF.numel()
    _gradient_kernel[(triton.cdiv(count, ELEMENTS),)](dh_MF, h_MF, count, ELEMENTS, num_warps=8)
    return dh_MF


class _LeakySquareMLP(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_MD: Tensor, fc_FD: Tensor, proj_DF: Tensor, keep_h: bool) -> Tensor:
        x_MD = x_MD.contiguous()
        fc, proj = (w.to(torch.bfloat16).contiguous() for w in (fc_FD, proj_DF))
        h_MF, a_MF = activate(x_MD, fc, keep_h, FORWARD)
        needs_x, needs_fc, needs_proj, _ = ctx.needs_input_grad
        ctx.save_for_backward(
            x_MD if needs_fc else None,
            fc if needs_x else None,
            proj if keep_h else None,
            h_MF,
            a_MF if needs_proj else None,
        )
        ctx.dtypes = fc_FD.dtype, proj_DF.dtype
        return torch.mm(a_MF, proj.t())

    @staticmethod
    def backward(ctx: Any, dout_MD: Tensor) -> tuple[Tensor | None, ...]:
        x_MD, fc, proj, h_MF, a_MF = ctx.saved_tensors
        fc_dtype, proj_dtype = ctx.dtypes
        dout_MD = dout_MD.contiguous()
        dx_MD = dfc_FD = dproj_DF = None
        if a_MF is not None:
            dproj_DF = _weight_gradient(dout_MD, a_MF, proj_dtype)
        if h_MF is not None:
            dh_MF = activation_gradient(dout_MD, proj, h_MF, BACKWARD)
            if x_MD is not None:
                dfc_FD = _weight_gradient(dh_MF, x_MD, fc_dtype)
            if fc is not None:
                dx_MD = torch.mm(dh_MF, fc)
        return dx_MD, dfc_FD, dproj_DF, None


def _weight_gradient(dout_MN: Tensor, in_MK: Tensor, dtype: torch.dtype) -> Tensor:
    # cuBLAS writes its fp32 accumulator as it is; the CPU has no such product.
    if dtype == torch.float32 and dout_MN.is_cuda:
        return torch.mm(dout_MN.t(), in_MK, out_dtype=dtype)
    return torch.mm(dout_MN.t(), in_MK).to(dtype)


def _fits(weight: Tensor) -> bool:
    """Whether the fused product can take it."""
    if weight.is_cuda and torch.cuda.get_device_capability(weight.device)[0] != HOPPER:
        return False
    return weight.size(0) % ROW_MULTIPLE == 0 and weight.size(1) % ROW_MULTIPLE == 0


@triton.jit
def _activate_kernel(h: tl.tensor, a: tl.tensor, count: tl.tensor, BLOCK: tl.constexpr) -> None:
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    tl.store(a + at, activation(tl.load(h + at, mask=at < count)).to(tl.bfloat16), mask=at < count)


@triton.jit
def _gradient_kernel(dh: tl.tensor, h: tl.tensor, count: tl.tensor, BLOCK: tl.constexpr) -> None:
    # In place: dh holds the gradient of the activation's output.
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    da, h_part = tl.load(dh + at, mask=at < count), tl.load(h + at, mask=at < count)
    tl.store(dh + at, (da.to(tl.float32) * slope(h_part)).to(tl.bfloat16), mask=at < count)
