"""Causal attention behind one function; the backend is chosen once for a process.

Legend: B batch, T time, H query heads, G key-value heads (H is a multiple of G), K head_dim.
Every backend takes q as [B, T, H, K] and k, v as [B, T, G, K], and returns [B, T, H, K].
"""

from __future__ import annotations

import importlib.util
import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from pgolf.errors import UserError
from pgolf.kernel.documents import document_mask
from pgolf.kernel.flash import (
    fetch_fa3,
    flash_attention,
    flash_attention_varlen,
    is_installed,
)

CPU = "cpu"
# Best first. Measured on one H100 for 48x2048 with 8/4 heads of 64, forward and backward: cuDNN
# 2.26 ms, SDPA's flash 3.62 ms; FlashAttention 3 is faster than both, FlashAttention 2 equals
# SDPA's flash; FlashAttention 4, young on Hopper, was not measured and waits behind cuDNN.
PREFERENCE = ("fa3", "cudnn", "fa4", "fa2", "flash", "efficient", "math")
FLASH = ("fa2", "fa3", "fa4")
SDPA = {
    "cudnn": SDPBackend.CUDNN_ATTENTION,
    "flash": SDPBackend.FLASH_ATTENTION,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
    "math": SDPBackend.MATH,
}
# Kernels that take a mask and serve any shape; cuDNN plans each.
WITHOUT_PLANS = [SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]
HALF = (torch.bfloat16, torch.float16)
# Backends that have half-precision kernels only.
HALF_ONLY = (*FLASH, "cudnn", "flash")

_backend = CPU
_shapes_vary = False


def available_backends(device: torch.device, dtype: torch.dtype = torch.bfloat16) -> list[str]:
    """Names of the backends that work here for such tensors, best first.

    Args:
        device: where q, k and v live.
        dtype: their dtype; fp32 leaves "efficient" and "math".
    """
    if device.type != "cuda":
        return [CPU]
    capability = torch.cuda.get_device_capability(device)
    names = []
    for name in PREFERENCE:
        # FlashAttention and cuDNN need Ampere.
        enough = capability >= (8, 0) if name in HALF_ONLY else True
        if name in FLASH:
            enough = is_installed(name, device)
        elif name == "cudnn":
            enough = enough and torch.backends.cudnn.is_available()
        if enough and (dtype in HALF or name not in HALF_ONLY):
            names.append(name)
    return names


def select_backend(device: torch.device, dtype: torch.dtype, requested: str = "auto") -> str:
    """The backend to use: the best available one, or the one asked for.

    "fa3" that is not installed is fetched from the Hugging Face hub, where the package kernels is
    there; "auto" takes what is installed.

    Raises:
        UserError: `requested` is unknown or does not work on this device with this dtype.
    """
    present = available_backends(device, dtype)
    if requested == "auto":
        return present[0]
    if requested == "math" and device.type != "cuda":
        return CPU
    hopper = device.type == "cuda" and torch.cuda.get_device_capability(device)[0] == 9
    if requested == "fa3" and hopper and dtype in HALF and "fa3" not in present:
        fetch_fa3()
        return requested
    if requested not in present:
        raise UserError(
            f"hardware.attention={requested} does not work on {device.type} with "
            f"{str(dtype).removeprefix('torch.')}; choose auto or one of: {', '.join(present)}"
        )
    return requested


def set_backend(requested: str, device: torch.device, dtype: torch.dtype = torch.bfloat16) -> str:
    """Select the backend of all attention modules of this process; returns its name.

    A module global rather than an argument: torch.compile guards on it, so a change recompiles.
    """
    global _backend
    _backend = select_backend(device, dtype, requested)
    return _backend


def current_backend() -> str:
    return _backend


@contextmanager
def varying_shapes() -> Iterator[None]:
    """Inside, hardly two calls have the same shape: cuDNN gives way to SDPA's other kernels.

    cuDNN plans each new shape (half a second forward and as much backward, users of torch 2.11
    report), of which it gains back a millisecond a call.
    """
    global _shapes_vary
    before, _shapes_vary = _shapes_vary, True
    try:
        yield
    finally:
        _shapes_vary = before


def causal_attention(
    q_BTHK: Tensor, k_BTGK: Tensor, v_BTGK: Tensor, borders: Tensor | None = None
) -> Tensor:
    """Softmax attention of each position over itself and those before it, scale 1/sqrt(K).

    q and k are cast to v's dtype first: under autocast v comes from a matrix product in bf16 while
    q and k may have left their norm in fp32, which flash kernels refuse (a crash that users of
    PR #1738 met on torch 2.5). In fp32, half-precision backends give way to SDPA's own choice.

    Args:
        q_BTHK: queries of H heads.
        k_BTGK, v_BTGK: keys and values of G heads, each serving H/G query heads.
        borders: of `pgolf.kernel.documents.document_borders`: attention stays within a document;
            None lets it see the whole row.

    Returns:
        y_BTHK in v's dtype.
    """
    q_BTHK, k_BTGK = q_BTHK.to(v_BTGK.dtype), k_BTGK.to(v_BTGK.dtype)
    if borders is not None:
        return _within_documents(q_BTHK, k_BTGK, v_BTGK, borders)
    if v_BTGK.device.type != "cuda":
        return _sdpa(q_BTHK, k_BTGK, v_BTGK)
    backend = "flash" if _shapes_vary and _backend in (CPU, "cudnn") else _backend
    if v_BTGK.dtype not in HALF and backend in HALF_ONLY:
        return _sdpa(*_repeat_heads(q_BTHK, k_BTGK, v_BTGK))
    if backend in FLASH:
        return flash_attention(backend, q_BTHK, k_BTGK, v_BTGK)
    if backend == "efficient":
        q_BTHK, k_BTGK, v_BTGK = _repeat_heads(q_BTHK, k_BTGK, v_BTGK)
    if backend not in SDPA:
        return _sdpa(q_BTHK, k_BTGK, v_BTGK)
    # The context becomes part of a compiled graph, so caches of compiled code tell backends apart.
    with sdpa_kernel(SDPA[backend]):
        return _sdpa(q_BTHK, k_BTGK, v_BTGK)


def attention_of_last(q_BNHK: Tensor, k_BTGK: Tensor, v_BTGK: Tensor) -> Tensor:
    """The last N rows of `causal_attention`, where the queries before them are not needed.

    Args:
        q_BNHK: queries of the last N of T positions.
        k_BTGK, v_BTGK: keys and values of all.

    Returns:
        y_BNHK in v's dtype.
    """
    N, T = q_BNHK.size(1), k_BTGK.size(1)
    visible_NT = torch.ones(N, T, dtype=torch.bool, device=q_BNHK.device).tril(T - N)
    return attention_where(q_BNHK, k_BTGK, v_BTGK, visible_NT)


def attention_where(q_BNHK: Tensor, k_BTGK: Tensor, v_BTGK: Tensor, visible_NT: Tensor) -> Tensor:
    """Softmax attention over the keys that a query sees, scale 1/sqrt(K).

    Args:
        q_BNHK: queries of H heads.
        k_BTGK, v_BTGK: keys and values of G heads.
        visible_NT: bool, which key each query sees.

    Returns:
        y_BNHK in v's dtype.
    """
    q_BNHK, k_BTGK = q_BNHK.to(v_BTGK.dtype), k_BTGK.to(v_BTGK.dtype)
    q_BNHK, k_BTGK, v_BTGK = _repeat_heads(q_BNHK, k_BTGK, v_BTGK)
    if not (_shapes_vary and v_BTGK.is_cuda):
        return _sdpa(q_BNHK, k_BTGK, v_BTGK, visible_NT)
    with sdpa_kernel(WITHOUT_PLANS):
        return _sdpa(q_BNHK, k_BTGK, v_BTGK, visible_NT)


def _within_documents(q_BTHK: Tensor, k_BTGK: Tensor, v_BTGK: Tensor, borders: Tensor) -> Tensor:
    """By a kernel of variable length where there is one, else by a mask."""
    B, T = q_BTHK.shape[:2]
    if v_BTGK.device.type == "cuda" and v_BTGK.dtype in HALF:
        q, k, v = (x.flatten(0, 1) for x in (q_BTHK, k_BTGK, v_BTGK))
        if _backend in FLASH:
            return flash_attention_varlen(_backend, q, k, v, borders, T).view_as(q_BTHK)
        y_NHK = _torch_varlen(q, k, v, borders, T)
        if y_NHK is not None:
            return y_NHK.view_as(q_BTHK)
    q_BTHK, k_BTGK, v_BTGK = _repeat_heads(q_BTHK, k_BTGK, v_BTGK)
    return _sdpa(q_BTHK, k_BTGK, v_BTGK, document_mask(borders, B, T))


def _sdpa(q_BTHK: Tensor, k_BTGK: Tensor, v_BTGK: Tensor, mask: Tensor | None = None) -> Tensor:
    y_BHTK = F.scaled_dot_product_attention(
        q_BTHK.transpose(1, 2),
        k_BTGK.transpose(1, 2),
        v_BTGK.transpose(1, 2),
        attn_mask=mask,
        is_causal=mask is None,
        enable_gqa=q_BTHK.size(2) != k_BTGK.size(2),
    )
    return y_BHTK.transpose(1, 2)


def _repeat_heads(q_BTHK: Tensor, k_BTGK: Tensor, v_BTGK: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    # SDPA's memory-efficient kernels know no grouped heads.
    group = q_BTHK.size(2) // k_BTGK.size(2)
    return q_BTHK, k_BTGK.repeat_interleave(group, 2), v_BTGK.repeat_interleave(group, 2)


def _torch_varlen(
    q_NHK: Tensor, k_NGK: Tensor, v_NGK: Tensor, borders: Tensor, longest: int
) -> Tensor | None:
    """torch's own attention of variable length; None before torch 2.10, which has none."""
    if importlib.util.find_spec("torch.nn.attention.varlen") is None:
        return None
    from torch.nn.attention.varlen import varlen_attn

    # torch 2.10 says it in a word, later ones by a window without an end to the left.
    windowed = "window_size" in inspect.signature(varlen_attn).parameters
    causal: dict[str, Any] = {"window_size": (-1, 0)} if windowed else {"is_causal": True}
    # Its flash kernels take grouped heads, but only newer releases say so.
    q, k, v = (x[0] for x in _repeat_heads(q_NHK[None], k_NGK[None], v_NGK[None]))
    y: Tensor = varlen_attn(q, k, v, borders, borders, longest, longest, **causal)  # type: ignore[assignment]
    return y
