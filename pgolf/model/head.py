"""The dtype of the residual stream.

Legend: B batch, T time, D model_dim, V vocab_size.
"""

from __future__ import annotations

import torch
from torch import Tensor


def stream_dtype(weight_VD: Tensor) -> torch.dtype:
    """Dtype of the residual stream: autocast's where it is on, else fp32 (fp64 stays fp64)."""
    device_type = weight_VD.device.type
    if torch.is_autocast_enabled(device_type):
        return torch.get_autocast_dtype(device_type)
    return torch.promote_types(weight_VD.dtype, torch.float32)
