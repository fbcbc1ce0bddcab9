"""Trellis-coded numbers: what a code means depends on the codes before it in its row.

The grid is twice as fine as the codes: its points are v = 2k + p, where the code k is stored and
the parity p follows from the earlier codes' lowest bits b by a parity check of Ungerboeck's (1987):
p_n + (sum of p_{n-i} and b_{n-j} over the taps i, j) is even, with zeros before a row's start. A
row's numbers are then points of a lattice that is denser than the cubic one, at the price in bits
of the coarse grid. Entropy-coded trellis-coded quantization: Fischer and Wang 1992, JPEG 2000 part
2, dependent quantization in VVC. All states are treated alike: none has a zero of its own.
Legend: R rows, C columns.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

# By number of states: taps of the check on earlier parities, and on earlier lowest bits.
TAPS = {
    4: ((2,), (1,)),
    8: ((1, 3), (2,)),
    16: ((1, 4), (2,)),
    32: ((2, 5), (3,)),
    64: ((1, 6), (2, 4)),
    128: ((2, 3, 4, 7), (1, 2, 4, 6)),
    256: ((2, 3, 6, 8), (1, 4, 5, 6, 7)),
}
# In steps of the coarse grid: p is 0 or 1/2, and with its mean taken off codes are centred at 0.
HALF, CENTRE = 0.5, 0.25


def parities(codes_RC: Tensor, states: int) -> Tensor:
    """p of every number, uint8 [R, C] of 0 and 1, on the CPU.

    Args:
        codes_RC: int8; any will do.
        states: a key of `TAPS`.
    """
    earlier, bits = TAPS[states]
    # Eight rows in a byte, columns as contiguous rows.
    odd_CR = np.packbits(codes_RC.cpu().numpy().T & 1, axis=1)
    parity_CR = np.zeros_like(odd_CR)
    for column in range(1, len(odd_CR)):
        for taps, source in ((earlier, parity_CR), (bits, odd_CR)):
            for tap in taps:
                if tap <= column:
                    parity_CR[column] ^= source[column - tap]
    return torch.from_numpy(np.unpackbits(parity_CR, axis=1, count=codes_RC.size(0)).T.copy())


def reconstruct(codes_RC: Tensor, states: int) -> Tensor:
    """Numbers in steps of the coarse grid, float32 [R, C], exact.

    Args:
        codes_RC: int8.
        states: 0: codes are the numbers; otherwise a key of `TAPS`.
    """
    if not states:
        return codes_RC.float()
    return codes_RC.float() + (HALF * parities(codes_RC, states).to(codes_RC.device) - CENTRE)
