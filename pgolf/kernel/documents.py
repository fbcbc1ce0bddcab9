"""Documents inside windows of text, so that attention can stay within them.

Legend: B batch, T time.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def document_borders(ids_BT: Tensor, bos_id: int) -> Tensor:
    """Where documents begin in a batch: the `cu_seqlens` of attention kernels of variable length.

    A row's first token begins a document as well, since its own beginning is not there to see. On
    CUDA this waits for the device, because the number of documents is the size of the result.

    Args:
        ids_BT: inputs, any integer type.
        bos_id: the id that begins a document.

    Returns:
        ascending positions in the flattened batch, from 0 to B*T, which is repeated up to the next
        power of two (empty documents), so that compiled code meets few sizes: int32.
    """
    begins_BT = ids_BT == bos_id
    begins_BT[:, 0] = True
    positions = begins_BT.flatten().nonzero().flatten()
    size = 1 << positions.numel().bit_length()
    return F.pad(positions, (0, size - positions.numel()), value=ids_BT.numel()).int()


def document_mask(borders: Tensor, num_rows: int, seq_len: int) -> Tensor:
    """What each position may see, for attention without kernels of variable length.

    Args:
        borders: of `document_borders`.

    Returns:
        bool [B, 1, T, T]: true for itself and for what lies before it in its document.
    """
    position = torch.arange(num_rows * seq_len, device=borders.device, dtype=borders.dtype)
    document_BT = torch.searchsorted(borders, position, right=True).view(num_rows, seq_len)
    same_BTT = document_BT[:, :, None] == document_BT[:, None, :]
    return same_BTT.tril()[:, None]
