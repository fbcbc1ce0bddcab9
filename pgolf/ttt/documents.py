"""The documents of a stream, longest first, and how they are dealt into rounds and windows.

A position is named by the index of its input token, as in `pgolf.eval.scoring`; its target is the
token after it. The last target of a document is the BOS of the next one.
Legend: Q documents, B rows, T window length, N last positions of a window.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from pgolf.data.stream import TokenStream


@dataclass(frozen=True)
class DocumentOrder:
    """How a method wants its documents.

    Args:
        chunk_tokens: positions of a document that are scored together.
        batch_docs: most documents that a rank scores side by side.
        prefix_docs: the first so many documents, or all, are divided into phases.
        phases: after each the method may ask for the text so far; the rest of the documents
            follows in one more.
    """

    chunk_tokens: int
    batch_docs: int
    prefix_docs: int
    phases: int

    def phase_ends(self, num_docs: int) -> list[int]:
        """Documents scored at the end of each phase, ascending; the last is all of them."""
        prefix = min(self.prefix_docs, num_docs)
        ends = {prefix * (phase + 1) // self.phases for phase in range(self.phases)}
        return sorted((ends | {num_docs}) - {0})


@dataclass(frozen=True)
class Queue:
    """All documents of a stream, longest first, those of one length as they come in the stream.

    Every position of the stream belongs to one of them. What stands before the first BOS is a
    document, too.

    Args:
        starts: index of each document's first token, int64 [Q].
        lengths: positions of each document, int64 [Q], descending.
        ends: index of the token after each document's last own one, int64 [Q].
    """

    starts: np.ndarray
    lengths: np.ndarray
    ends: np.ndarray

    @classmethod
    def of(cls, ids: np.ndarray, bos_id: int) -> Queue:
        """The documents of ids [n], each of which begins with bos_id."""
        num_positions = len(ids) - 1
        starts = np.union1d([0], np.flatnonzero(ids[:num_positions] == bos_id))
        ends = np.append(starts[1:], num_positions if ids[-1] == bos_id else len(ids))
        lengths = np.minimum(ends, num_positions) - starts
        order = np.argsort(-lengths, kind="stable")
        return cls(starts[order], lengths[order], ends[order])

    def __len__(self) -> int:
        return len(self.starts)

    def text(self, ids: np.ndarray, count: int) -> np.ndarray:
        """The first documents' tokens, one behind the other, int64."""
        spans = zip(self.starts[:count], self.ends[:count], strict=True)
        parts = [ids[start:end] for start, end in spans]
        return np.concatenate([np.zeros(0, np.int64), *parts]).astype(np.int64)


@dataclass(frozen=True)
class Round:
    """Documents that are scored side by side on all ranks, and this rank's part of them.

    Args:
        documents: places in the queue of this rank's documents, perhaps none.
        end: documents of the queue that are scored after it.
        ends_phase: whether a phase ends here, and documents are left to learn for.
        work: tokens of all windows of rank 0, whose documents are the longest.
    """

    documents: range
    end: int
    ends_phase: bool
    work: float


@dataclass(frozen=True)
class Chunk:
    """Windows of one shape, each ending with the same chunk of its document.

    Args:
        rows: how many of the round's documents, the longest, it has.
        begin: first position of the windows, counted in their documents.
        size: T; a document that ends before it does is padded.
        num_scored: N.
        num_going_on: documents, the longest, that have a chunk after it.
    """

    rows: int
    begin: int
    size: int
    num_scored: int
    num_going_on: int


def chunks_of(lengths: np.ndarray, chunk_tokens: int, seq_len: int) -> Iterator[Chunk]:
    """All chunks of documents that are scored side by side, the first positions first.

    Rows of documents that are through are left out by halves, so that few shapes occur.

    Args:
        lengths: positions, int64 [B], descending.
    """
    active, end = len(lengths), 0
    while active:
        end += chunk_tokens
        rows = min(len(lengths), 1 << (active - 1).bit_length())
        active = int(np.count_nonzero(lengths > end))
        begin = max(0, end - seq_len)
        yield Chunk(rows, begin, end - begin, chunk_tokens, active)


def gather(
    stream: TokenStream, begins: np.ndarray, ends: np.ndarray, size: int, num_scored: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    """Inputs, targets and a mask of scored positions, and the raw bytes of the scored targets.

    What lies beyond a document is token 0 and not scored. The model is causal, so it matters to no
    score.

    Args:
        begins, ends: first position of each window, and that after its document's last, int64 [B].
        size: T.
        num_scored: the last positions of each window that are scored, N.

    Returns:
        int64 [B, T], int64 [B, N], bool [B, N], and an int.
    """
    window_BT = begins[:, None] + np.arange(size)[None, :]
    inside_BT = window_BT < ends[:, None]
    ids_BT = np.where(inside_BT, stream.ids[np.where(inside_BT, window_BT, 0)], 0)
    scored_BN = inside_BT[:, size - num_scored :]
    target_BN = np.where(scored_BN, window_BT[:, size - num_scored :] + 1, 0)
    targets_BN = np.where(scored_BN, stream.ids[target_BN], 0)
    raw_bytes = int(stream.raw_bytes[target_BN][scored_BN].sum(dtype=np.int64))
    return ids_BT.astype(np.int64), targets_BN.astype(np.int64), scored_BN, raw_bytes
