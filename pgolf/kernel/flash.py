"""FlashAttention packages behind one pair of functions: found, loaded, and called alike.

`fa2` is the package flash-attn, `fa3` its Hopper build (module flash_attn_interface) or the same
from the hub through the package kernels, `fa4` the package flash-attn-4 (module flash_attn.cute).
Legend: B batch, T time, N tokens of all documents, H query heads, G key-value heads, K head_dim.
"""

from __future__ import annotations

import importlib
import importlib.util
from functools import cache
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from pgolf.errors import UserError

MODULES = {"fa4": "flash_attn.cute", "fa3": "flash_attn_interface", "fa2": "flash_attn"}
# Generations of GPUs that each is written for.
CAPABILITIES = {"fa4": (9, 10, 11), "fa3": (9,), "fa2": (8, 9, 10, 11, 12)}
HUB_KERNEL = "kernels-community/flash-attn3"


def is_installed(name: str, device: torch.device) -> bool:
    """Whether a package can be imported and is written for this GPU."""
    if torch.cuda.get_device_capability(device)[0] not in CAPABILITIES[name]:
        return False
    return _imported(MODULES[name]) is not None


def fetch_fa3() -> None:
    """FlashAttention 3 from the Hugging Face hub (cached there), for who asks for it by name.

    Raises:
        UserError: no package kernels, or no such kernel within reach.
    """
    kernels = _imported("kernels")
    if kernels is None:
        raise UserError(
            "hardware.attention=fa3: neither flash_attn_interface nor the package kernels is "
            "installed; pip install kernels, or use hardware.attention=auto"
        )
    try:
        _LOADED["fa3"] = kernels.get_kernel(HUB_KERNEL)
    except Exception as error:  # whatever the hub, the network or the build says
        raise UserError(
            f"hardware.attention=fa3: {HUB_KERNEL} cannot be loaded from the hub ({error}): use "
            "hardware.attention=auto"
        ) from error


def flash_attention(name: str, q_BTHK: Tensor, k_BTGK: Tensor, v_BTGK: Tensor) -> Tensor:
    """Causal attention of whole rows, [B, T, H, K]."""
    return _first(_module(name).flash_attn_func(q_BTHK, k_BTGK, v_BTGK, causal=True))


def flash_attention_varlen(
    name: str, q_NHK: Tensor, k_NGK: Tensor, v_NGK: Tensor, borders: Tensor, longest: int
) -> Tensor:
    """Causal attention within documents that stand one behind the other, [N, H, K].

    Args:
        borders: int32, where documents begin and the last one ends.
        longest: no document has more tokens.
    """
    function = _module(name).flash_attn_varlen_func
    lengths: dict[str, Any] = {"cu_seqlens_q": borders, "cu_seqlens_k": borders}
    if name != "fa4":  # which finds it itself
        lengths |= {"max_seqlen_q": longest, "max_seqlen_k": longest}
    return _first(function(q_NHK, k_NGK, v_NGK, causal=True, **lengths))


def _first(result: Tensor | tuple[Tensor, ...]) -> Tensor:
    # Some releases return (y, log-sum-exp).
    return result[0] if isinstance(result, tuple) else result


_LOADED: dict[str, Any] = {}


def _module(name: str) -> Any:
    return _LOADED.get(name) or _imported(MODULES[name])


@cache
def _imported(module: str) -> ModuleType | None:
    try:
        return importlib.import_module(module)
    except (ImportError, OSError):  # absent, or built for another torch or CUDA
        return None
