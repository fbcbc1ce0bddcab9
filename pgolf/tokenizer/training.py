"""Training a SentencePiece BPE model on a bounded, evenly spread part of a corpus."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from typing import Literal

import sentencepiece

from pgolf.errors import UserError

CHUNK_CHARS = 4000


def train(
    sentences: list[str],
    *,
    vocab_size: int,
    normalisation: Literal["nmt_nfkc", "identity"],
    symbols: tuple[str, ...],
) -> bytes:
    """A model with pad 0, bos 1, eos 2, unk 3, then the symbols, 256 byte pieces and learned ones.

    Settings are those of the published models; `identity` also keeps white space as it is. The
    result depends on the arguments alone.

    Args:
        sentences: text to learn from; may contain new lines, which then join pieces.
        symbols: pieces that are never joined with others.

    Returns:
        The serialized model, of at most vocab_size pieces.

    Raises:
        UserError: the text does not suffice for that vocabulary.
    """
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(sentences),
            model_writer=model,
            model_type="bpe",
            vocab_size=vocab_size,
            # A smaller model tells the caller how many pieces the text is good for.
            hard_vocab_limit=False,
            normalization_rule_name=normalisation,
            remove_extra_whitespaces=normalisation != "identity",
            add_dummy_prefix=False,
            split_digits=True,
            byte_fallback=True,
            character_coverage=0.999,
            user_defined_symbols=list(symbols),
            pad_id=0,
            bos_id=1,
            eos_id=2,
            unk_id=3,
            max_sentence_length=16 * CHUNK_CHARS,
            num_threads=1,  # stored in the model: with another number its hash would differ
            minloglevel=2,
        )
    except RuntimeError as error:
        raise UserError(_explain(str(error), vocab_size)) from error
    return model.getvalue()


def _explain(message: str, vocab_size: int) -> str:
    if "sentences_.empty()" in message:
        return "no text to train the tokenizer on: choose another data=..., or give tokenizer.path"
    if "smaller than required_chars" in message:
        return (
            f"tokenizer.vocab_size={vocab_size} is too small for the characters of this text: use "
            "a larger scale.vocab_size, or tokenizer=bytes"
        )
    return f"SentencePiece could not train tokenizer.vocab_size={vocab_size}: {message}"


def spread(texts: Iterable[str], max_bytes: int) -> list[str]:
    """Pieces of at most 4,000 characters, evenly spread over the texts.

    Every k-th piece, where k is the smallest power of two with which they have at most max_bytes
    UTF-8 bytes: one pass over the texts in bounded memory, whose result is the same each time.
    """
    kept: list[str] = []
    sizes: list[int] = []
    total, step = 0, 1
    for number, chunk in enumerate(_chunks(texts)):
        if number % step:
            continue
        kept.append(chunk)
        sizes.append(len(chunk.encode("utf-8", "replace")))
        total += sizes[-1]
        while total > max_bytes and len(kept) > 1:
            kept, sizes, step = kept[::2], sizes[::2], step * 2
            total = sum(sizes)
    return kept


def _chunks(texts: Iterable[str]) -> Iterator[str]:
    for text in texts:
        for start in range(0, len(text), CHUNK_CHARS):
            yield text[start : start + CHUNK_CHARS]
