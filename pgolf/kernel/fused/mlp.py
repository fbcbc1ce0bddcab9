"""The MLP with its activation inside the matrix products: `leaky_square_mlp` on a GPU, in bf16.

Legend: M rows (B*T), D model_dim, F hidden. Passes over [M, F] beside those of the products that
read a and dh (out, dproj, dfc, dx), which are the same in both forms:

                            separate                                fused
    forward                 write h; read h, write a                write a
    backward                write da; read da, read a, write dh     read a, write dh

Both keep x and a for the backward pass, and no h: in training a is signed (mlp_products.py). On
normal h that leaves a 0.0033 from exact (relative norm; 0.0017 without gradients), plain torch in
bf16 0.0037, the separate form, which signs an a of a rounded h, 0.0046.

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
from pgolf.kernel.linear import observe

# What pays: a tiling of the fused product, or None for the separate form (bench/mlp_kernel.py).
FORWARD: Tiling | None = Tiling(128, 256, 64, num_warps=8, num_stages=4, flatten=True)
# Two programs on a processor: one multiplies while the other waits for a and takes its root.
BACKWARD: Tiling | None = Tiling(
    128, 128, 32, num_warps=4, num_stages=5, programs_per_sm=2, flatten=True
)
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
    x_MD = x_BTD.flatten(0, -2).contiguous()
    # What is frozen does not count: a is rounded the same, and so is all that follows from it.
    run = _LeakySquareMLP.apply if torch.is_grad_enabled() else _infer
    out_MD: Tensor = run(x_MD, fc_FD, proj_DF)
    return out_MD.view(*x_BTD.shape[:-1], proj_DF.size(0))


def _infer(x_MD: Tensor, fc_FD: Tensor, proj_DF: Tensor) -> Tensor:
    observe(x_MD, fc_FD)
    a_MF = activate(x_MD, _half(fc_FD), False, FORWARD)
    observe(a_MF, proj_DF)
    return torch.mm(a_MF, _half(proj_DF).t())


def _half(weight: Tensor) -> Tensor:
    return weight.to(torch.bfloat16).contiguous()


def activate(x_MD: Tensor, fc_FD: Tensor, signed: bool, tiling: Tiling | None) -> Tensor:
    """a = act(x fc^T), [M, F]; signed: with the sign of h in its last bit. bf16 in and out."""
    if tiling is not None and _fits(fc_FD):
        return activated_product(x_MD, fc_FD, signed, tiling)
    a_MF = torch.mm(x_MD, fc_FD.t())
    _in_blocks(_activate_kernel, a_MF, a_MF, signed)
    return a_MF


def activation_gradient(
    dout_MD: Tensor, proj_DF: Tensor, a_MF: Tensor, tiling: Tiling | None
) -> Tensor:
    """dh = (dout proj) * act'(h), [M, F], by a signed a; bf16 in and out."""
    if tiling is not None and _fits(proj_DF):
        return gradient_product(dout_MD, proj_DF, a_MF, tiling)
    dh_MF = torch.mm(dout_MD, proj_DF)
    _in_blocks(_gradient_kernel, dh_MF, a_MF)
    return dh_MF


class _LeakySquareMLP(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_MD: Tensor, fc_FD: Tensor, proj_DF: Tensor) -> Tensor:
        fc, proj = _half(fc_FD), _half(proj_DF)
        a_MF = activate(x_MD, fc, True, FORWARD)
        needs_x, needs_fc, _ = ctx.needs_input_grad
        ctx.save_for_backward(
            x_MD if needs_fc else None,
            fc if needs_x else None,
            proj if needs_x or needs_fc else None,
            a_MF,
        )
        ctx.dtypes = fc_FD.dtype, proj_DF.dtype
        return torch.mm(a_MF, proj.t())

    @staticmethod
    def backward(ctx: Any, dout_MD: Tensor) -> tuple[Tensor | None, ...]:
        x_MD, fc, proj, a_MF = ctx.saved_tensors
        fc_dtype, proj_dtype = ctx.dtypes
        dout_MD = dout_MD.contiguous()
        dx_MD = dfc_FD = dproj_DF = None
        if ctx.needs_input_grad[2]:
            dproj_DF = _weight_gradient(dout_MD, a_MF, proj_dtype)
        if proj is not None:
            dh_MF = activation_gradient(dout_MD, proj, a_MF, BACKWARD)
            if x_MD is not None:
                dfc_FD = _weight_gradient(dh_MF, x_MD, fc_dtype)
            if fc is not None:
                dx_MD = torch.mm(dh_MF, fc)
        return dx_MD, dfc_FD, dproj_DF


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


def _in_blocks(kernel: Any, first: Tensor, second: Tensor, *options: bool) -> None:
    """Run an element-wise kernel on two tensors of one shape."""
    count = first.numel()
    kernel[(triton.cdiv(count, ELEMENTS),)](first, second, count, ELEMENTS, *options, num_warps=8)


@triton.jit
def _activate_kernel(
    a: tl.tensor, h: tl.tensor, count: tl.tensor, BLOCK: tl.constexpr, SIGNED: tl.constexpr
) -> None:
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    tl.store(a + at, activation(tl.load(h + at, mask=at < count), SIGNED), mask=at < count)


@triton.jit
def _gradient_kernel(dh: tl.tensor, a: tl.tensor, count: tl.tensor, BLOCK: tl.constexpr) -> None:
    # In place: dh holds the gradient of the activation's output.
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    da, a_part = tl.load(dh + at, mask=at < count), tl.load(a + at, mask=at < count)
    tl.store(dh + at, (da.to(tl.float32) * slope(a_part)).to(tl.bfloat16), mask=at < count)
