"""Whether a tokenizer made some ids: their text, encoded again, has to give the same ones.

The right tokenizer gives back nearly all: 98.4% of the samples and more, measured with CaseOps
and plain SentencePiece on FineWeb, news, Python code and Markdown (a normalised text rarely reads
otherwise than its source). A wrong one gives back at most 7%; one trained on the same text, with 8
pieces of 2,048 fewer, 16%. A CaseOps model that is read without its case controls (tokenizer=sp)
gives back all ids, but 6 to 12% more text than the byte counts say (code: 1.5%); the right one at
most 0.01% more, and less where white space was folded.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pgolf.protocols import Tokenizer

SAMPLES, SAMPLE_TOKENS = 64, 256
MARGIN = 8  # tokens before a cut, which the text behind it could change
LEAST_SAME, MOST_TEXT = 0.5, 1.05


@dataclass(frozen=True)
class Agreement:
    """What was found in samples.

    Args:
        samples, same: all, and those whose ids come back.
        text_bytes, counted_bytes: UTF-8 bytes of the decoded samples, and what byte counts say of
            the same tokens; both 0 where there are no counts.
    """

    samples: int = 0
    same: int = 0
    text_bytes: int = 0
    counted_bytes: int = 0

    def __add__(self, other: Agreement) -> Agreement:
        return Agreement(
            self.samples + other.samples,
            self.same + other.same,
            self.text_bytes + other.text_bytes,
            self.counted_bytes + other.counted_bytes,
        )

    def fault(self) -> str | None:
        """Why these tokens are another tokenizer's, None if they are not."""
        if self.same < LEAST_SAME * self.samples:
            return (
                f"only {self.same} of {self.samples} samples of {SAMPLE_TOKENS} tokens are what "
                "this tokenizer makes of their text"
            )
        if self.text_bytes > MOST_TEXT * self.counted_bytes > 0:
            return (
                f"this tokenizer reads {self.text_bytes:,} bytes of text in samples that have "
                f"{self.counted_bytes:,} by the byte counts"
            )
        return None


def compare_samples(
    ids: np.ndarray, counts: np.ndarray | None, tokenizer: Tokenizer, most: int = SAMPLES
) -> Agreement:
    """Decode and encode evenly spread samples of a shard, each from a BOS on.

    Samples with an id outside the vocabulary, and a document that began in an earlier shard, are
    left out.

    Args:
        ids, counts: uint16 [n] each.
        most: samples.
    """
    starts, found = np.flatnonzero(ids == tokenizer.bos_id), Agreement()
    chosen = np.unique(np.linspace(0, len(starts) - 1, min(most, len(starts))).astype(np.int64))
    for start in starts[chosen]:
        sample = ids[start : start + SAMPLE_TOKENS]
        if sample.max() < tokenizer.vocab_size:
            part = None if counts is None else counts[start : start + SAMPLE_TOKENS]
            found += _compare(sample, part, len(ids) > start + SAMPLE_TOKENS, tokenizer)
    return found


def _compare(
    sample: np.ndarray, counts: np.ndarray | None, is_cut: bool, tokenizer: Tokenizer
) -> Agreement:
    """One sample, which begins with BOS and may have several documents."""
    documents = np.split(sample, np.flatnonzero(sample == tokenizer.bos_id))[1:]
    same, text_bytes = True, 0
    for number, document in enumerate(documents, start=1):
        ids = document[1:]
        text = tokenizer.decode(ids)
        again, _ = tokenizer.encode(text)
        text_bytes += len(text.encode("utf-8", "surrogatepass"))
        sure = len(ids) - MARGIN if is_cut and number == len(documents) else len(ids)
        same &= bool(sure <= 0 or np.array_equal(ids[:sure], again[:sure]))
    if counts is None:
        return Agreement(1, same)
    return Agreement(1, same, text_bytes, int(counts.sum(dtype=np.int64)))
