"""Batches on their device before they are asked for.

A thread draws batches ahead and copies each into one of a ring of pinned buffers, so that on CUDA
the step only enqueues a copy. On the CPU there is nothing to overlap: reading a batch takes about a
thousandth of the step that uses it, and a thread would take its core.
"""

from __future__ import annotations

import queue
import threading
from typing import Any

import torch
from torch import Tensor

from pgolf.kernel.documents import document_borders
from pgolf.protocols import Loader

AHEAD = 4


class Prefetch:
    """Reads a loader for one rank.

    Its state is that of the batches that were taken, whatever was drawn ahead. Until the first
    batch nothing is drawn, and nothing after an error of the loader, which the batch that met it
    raises again.

    Args:
        loader: nobody else may draw from it meanwhile.
        num_seqs, rank, world_size: of each batch, as `Loader.next_batch` takes them.
        device: where batches go.
        document_bos: the id that begins a document, where the borders of documents are wanted.
    """

    def __init__(
        self,
        loader: Loader,
        num_seqs: int,
        rank: int,
        world_size: int,
        device: torch.device,
        document_bos: int | None = None,
    ) -> None:
        self._loader, self._batch, self._device = loader, (num_seqs, rank, world_size), device
        self._document_bos = document_bos
        self._state: dict[str, Any] = {}  # behind the last batch that the reader gave
        self._reader: _Reader | None = None

    def next_batch(self) -> tuple[Tensor, Tensor | None]:
        """The next windows, int64 [B, T + 1] on the device, and the borders in their inputs."""
        if self._device.type != "cuda":
            tokens_BT = torch.from_numpy(self._loader.next_batch(*self._batch))
            return tokens_BT, _borders(tokens_BT, self._document_bos)
        if self._reader is None:
            self._state = self._loader.state_dict()
            self._reader = _Reader(self._loader, self._batch, self._device, self._document_bos)
        tokens_BT, borders, self._state = self._reader.take()
        return tokens_BT, borders

    def state_dict(self) -> dict[str, Any]:
        return self._state if self._reader is not None else self._loader.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.close()
        self._loader.load_state_dict(state)

    def close(self) -> None:
        """End the thread, and put the loader behind the last batch that was taken."""
        if self._reader is not None:
            self._reader.stop()
            self._reader = None
            self._loader.load_state_dict(self._state)


class _Slot:
    """A pinned buffer, the loader's state behind its batch, and the end of the copy out of it."""

    def __init__(self) -> None:
        self.pinned_BT = torch.empty(0, dtype=torch.int64)
        self.borders: Tensor | None = None
        self.state: dict[str, Any] = {}
        self.copied = torch.cuda.Event(blocking=True)  # a waiting thread sleeps

    def fill(self, loader: Loader, batch: tuple[int, int, int], document_bos: int | None) -> None:
        tokens_BT = torch.from_numpy(loader.next_batch(*batch))
        if self.pinned_BT.shape != tokens_BT.shape:
            self.pinned_BT = torch.empty_like(tokens_BT, pin_memory=True)
        self.copied.synchronize()  # the copy before, of AHEAD batches ago
        self.pinned_BT.copy_(tokens_BT)
        borders = _borders(tokens_BT, document_bos)
        self.borders = None if borders is None else borders.pin_memory()
        self.state = loader.state_dict()


class _Reader:
    """The thread and its ring: slots go from `empty` to `full` and, taken, back."""

    def __init__(
        self,
        loader: Loader,
        batch: tuple[int, int, int],
        device: torch.device,
        document_bos: int | None,
    ) -> None:
        self._loader, self._batch, self._device = loader, batch, device
        self._document_bos = document_bos
        self._empty: queue.SimpleQueue[_Slot | None] = queue.SimpleQueue()
        self._full: queue.SimpleQueue[_Slot | BaseException] = queue.SimpleQueue()
        for _ in range(AHEAD):
            self._empty.put(_Slot())
        # A daemon: it must not keep a failed process alive.
        self._thread = threading.Thread(target=self._read, name="prefetch", daemon=True)
        self._thread.start()

    def _read(self) -> None:
        try:
            if self._device.index is not None:
                # A thread begins on the first GPU, where pinning memory would open a context.
                torch.cuda.set_device(self._device)
            while (slot := self._empty.get()) is not None:
                slot.fill(self._loader, self._batch, self._document_bos)
                self._full.put(slot)
        except BaseException as error:
            self._full.put(error)

    def take(self) -> tuple[Tensor, Tensor | None, dict[str, Any]]:
        """A batch and its borders on the device, and the loader's state behind it."""
        slot = self._full.get()
        if isinstance(slot, BaseException):
            self._full.put(slot)  # for whoever asks again
            raise slot
        tokens_BT, state = slot.pinned_BT.to(self._device, non_blocking=True), slot.state
        borders = slot.borders
        if borders is not None:
            borders = borders.to(self._device, non_blocking=True)
        slot.copied.record()
        self._empty.put(slot)
        return tokens_BT, borders, state

    def stop(self) -> None:
        self._empty.put(None)
        self._thread.join()


def _borders(tokens_BT: Tensor, document_bos: int | None) -> Tensor | None:
    return None if document_bos is None else document_borders(tokens_BT[:, :-1], document_bos)
