"""What each document of a stream took, added up while the stream is scored.

The score itself does not come from here and is the same without. Legend as in `pgolf.eval.scoring`;
D documents.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pgolf.data.stream import TokenStream
from pgolf.distributed import World, to_device
from pgolf.files import atomic_writer


class TalliedStream(TokenStream):
    """A stream that keeps nats, tokens and raw bytes of each document that is scored on it.

    A token belongs to the document that it lies in, a BOS to that which begins with it. What stands
    before the first BOS is a document, too.

    Args:
        stream: the text.
        bos_id: the id that begins a document.
        world: the ranks that share the work; nats are added up on its device.
    """

    def __init__(self, stream: TokenStream, bos_id: int, world: World) -> None:
        super().__init__(stream.ids, stream.raw_bytes)
        self._starts = np.union1d([0], np.flatnonzero(stream.ids == bos_id))
        self._world = world
        self._nats = torch.zeros(len(self._starts), dtype=torch.float64, device=world.device)
        self._counts = np.zeros((2, len(self._starts)), np.int64)

    def add(self, begins: np.ndarray, size: int, scored_BN: np.ndarray, nll_BN: Tensor) -> None:
        """Add a batch of windows, without waiting for the device.

        Args:
            begins: index in the stream of each window's first input token, int64 [B].
            size: tokens of a window, T.
            scored_BN: which of the last N positions count, bool.
            nll_BN: nats of these positions, 0 where they do not count.
        """
        target_BN = begins[:, None] + np.arange(size - scored_BN.shape[1], size) + 1
        document_BN = np.searchsorted(self._starts, target_BN, side="right") - 1
        scored = document_BN[scored_BN]
        np.add.at(self._counts[0], scored, 1)
        np.add.at(self._counts[1], scored, self.raw_bytes[target_BN[scored_BN]].astype(np.int64))
        index = to_device(torch.from_numpy(document_BN.ravel()), self._world.device)
        self._nats.index_add_(0, index, nll_BN.detach().flatten().double())

    def documents(self) -> np.ndarray:
        """First token, nats, tokens and raw bytes of each, those of all ranks: float64 [4, D].

        Every rank has to ask for it.
        """
        counts = torch.from_numpy(self._counts).to(self._nats)
        summed = self._world.sum_(torch.cat([self._nats[None], counts]))
        return np.concatenate([self._starts[None], summed.cpu().numpy()])

    def write(self, path: Path) -> None:
        """Have the main rank write `documents()`, as numpy does; every rank has to call it."""
        found = self.documents()
        if self._world.is_main:
            with atomic_writer(path) as file:
                np.save(file, found)
