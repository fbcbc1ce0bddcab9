"""Raw bytes of tokens by the surface of their pieces, for published sets without a byte sidecar.

The rule is that of the published evaluation (train_gpt.py of openai/parameter-golf): a piece counts
the UTF-8 bytes of its surface, a byte piece 1, control and unknown pieces 0, and the space that a
piece begins with 1, unless the piece stands at the start of a document (after BOS), where the
models drop the space of the text. It holds for plain SentencePiece models only: CaseOps pieces
have controls in their surface.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pgolf.data.manifest import File
from pgolf.data.shards import read_shard, shard_writer

SPACE_MARK = "\u2581"  # how SentencePiece writes a space
CHUNK_TOKENS = 1 << 22


class Surfaces:
    """What each piece of a SentencePiece model counts.

    Args:
        model: path of the .model file.
    """

    def __init__(self, model: str) -> None:
        from sentencepiece import SentencePieceProcessor

        processor = SentencePieceProcessor(model_file=model)
        size = processor.vocab_size()
        self._bytes = np.zeros(size, np.uint16)  # without the space at the beginning
        self._spaced = np.zeros(size, bool)
        self._border = np.zeros(size, bool)
        for i in range(size):
            piece = processor.id_to_piece(i)
            if processor.is_control(i) or processor.is_unknown(i) or processor.is_unused(i):
                self._border[i] = True
            elif processor.is_byte(i):
                self._bytes[i] = 1
            else:
                self._spaced[i] = piece.startswith(SPACE_MARK)
                text = piece.removeprefix(SPACE_MARK).replace(SPACE_MARK, " ")
                self._bytes[i] = len(text.encode("utf-8"))

    def count(self, ids: np.ndarray, previous: int | None) -> np.ndarray:
        """Raw bytes of each token.

        Args:
            ids: uint16 [n], in order; documents are told apart by their BOS.
            previous: the id before the first one; None at the start of the stream.

        Returns:
            uint16 [n].
        """
        after_border = np.empty(len(ids), bool)
        after_border[:1] = previous is None or self._border[previous]
        after_border[1:] = self._border[ids[:-1]]
        return self._bytes[ids] + (self._spaced[ids] & ~after_border)


def write_sidecars(shards: list[Path], model: str, folder: Path) -> list[tuple[File, int]]:
    """Write val_bytes_000000.bin ... for the shards of a validation split, in their order.

    Returns:
        the file of each shard, and the sum of its counts.
    """
    surfaces = Surfaces(model)
    written: list[tuple[File, int]] = []
    previous: int | None = None
    for number, path in enumerate(shards):
        ids, total, name = read_shard(path), 0, f"val_bytes_{number:06d}.bin"
        with shard_writer(folder / name) as writer:
            for start in range(0, len(ids), CHUNK_TOKENS):
                chunk = ids[start : start + CHUNK_TOKENS]
                counts = surfaces.count(chunk, previous)
                writer.append(counts)
                total += int(counts.sum(dtype=np.int64))
                previous = int(chunk[-1])
        written.append((File.of(folder, name), total))
    return written
