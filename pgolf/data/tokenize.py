"""Documents to shards: fit the tokenizer on training text, encode both splits, count bytes."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pgolf.data.corpus import Corpus, documents_of
from pgolf.data.manifest import File, Manifest, Shard, Split
from pgolf.data.pool import ordered_map
from pgolf.data.shards import shard_writer
from pgolf.errors import RunFailed
from pgolf.hardware import usable_cpus
from pgolf.progress import track
from pgolf.protocols import Tokenizer
from pgolf.tokenizer.store import open_tokenizer

SHARD_TOKENS = 10**8
CHUNK_BYTES = 1 << 19
# A process takes about as long to start as to encode this much.
BYTES_PER_PROCESS = 4_000_000
PREFIXES = {"training": "train", "validation": "val"}


def tokenize_documents(
    documents: Path,
    tokenizer: Tokenizer,
    folder: Path,
    show: bool,
    *,
    shard_tokens: int = SHARD_TOKENS,
    processes: int | None = None,
) -> Manifest:
    """Write `tokenizer/`, shards of both splits, the validation sidecar and manifest.json.

    A document is stored as BOS, which stands for 0 bytes, and its tokens.

    Args:
        documents: a folder that `corpus_writer` made.
        tokenizer: fitted here, on the training split only.
        shard_tokens: most tokens of a shard.
        processes: encoding; None takes the usable cores, fewer for little text.

    Raises:
        UserError: the text does not suffice for the tokenizer, or it refuses a document.
        RunFailed: the tokenizer counts other bytes than a document has.
    """
    corpus = Corpus.load(documents)
    texts = documents_of(documents, "training")
    tokenizer.fit(_shown(texts, corpus.document_bytes["training"], "tokenizer", show))
    tokenizer.save(folder / "tokenizer")
    encode = functools.partial(
        _encode_split, corpus, documents, tokenizer, folder, show, shard_tokens, processes
    )
    training, _ = encode("training")
    validation, num_exact = encode("validation")
    manifest = Manifest(
        tokenizer_fingerprint=tokenizer.fingerprint,
        vocab_size=tokenizer.vocab_size,
        training=training,
        validation=validation,
        official_validation=corpus.official_validation,
        split_rule=corpus.split_rule,
        duplicates_removed=corpus.duplicates_removed,
        training_documents_dropped=corpus.training_documents_dropped,
        roundtrip={"documents": corpus.num_documents["validation"], "exact": num_exact},
    )
    manifest.save(folder)
    return manifest


def _encode_split(
    corpus: Corpus,
    documents: Path,
    tokenizer: Tokenizer,
    folder: Path,
    show: bool,
    shard_tokens: int,
    processes: int | None,
    name: str,
) -> tuple[Split, int]:
    """Write a split's shards; returns it and how many documents decode exactly (validation)."""
    num_bytes, validation = corpus.document_bytes[name], name == "validation"
    workers = processes or min(usable_cpus(), 1 + num_bytes // BYTES_PER_PROCESS)
    texts = _shown(documents_of(documents, name), num_bytes, f"encode {PREFIXES[name]}", show)
    num_exact = 0
    with _SplitWriter(folder, PREFIXES[name], validation, shard_tokens) as writer:
        for encoded in _encode(texts, tokenizer, folder / "tokenizer", workers, validation):
            writer.append(encoded.ids, encoded.raw_bytes)
            num_exact += encoded.num_exact
    return Split(writer.shards, corpus.num_documents[name], num_bytes), num_exact


def _shown(texts: Iterable[str], num_bytes: int, label: str, show: bool) -> Iterator[str]:
    """The texts, with a progress bar as they are taken."""
    with track(label, num_bytes / 1e6, "MB", show) as bar:
        for text in texts:
            yield text
            bar.advance(len(text.encode("utf-8")) / 1e6)


# -- encoding -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Encoded:
    """Some documents: uint16 [n] each, and how many of them decode to what they were."""

    ids: np.ndarray
    raw_bytes: np.ndarray
    num_exact: int


def _encode(
    texts: Iterable[str], tokenizer: Tokenizer, saved: Path, processes: int, decode: bool
) -> Iterator[Encoded]:
    """Encode documents in chunks, by several processes where it pays."""
    work = functools.partial(encode_chunk, tokenizer, decode)
    if processes > 1:  # each opens its own: models of C++ objects do not travel
        work = functools.partial(_encode_chunk_by_saved, saved, decode)
    yield from ordered_map(work, _chunks(texts), processes)


def _encode_chunk_by_saved(saved: Path, decode: bool, texts: list[str]) -> Encoded:
    return encode_chunk(_opened(saved), decode, texts)


@functools.cache
def _opened(saved: Path) -> Tokenizer:
    return open_tokenizer(saved)


def _chunks(texts: Iterable[str]) -> Iterator[list[str]]:
    chunk: list[str] = []
    size = 0
    for text in texts:
        chunk.append(text)
        size += len(text)
        if size >= CHUNK_BYTES:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def encode_chunk(tokenizer: Tokenizer, decode: bool, texts: list[str]) -> Encoded:
    """Encode documents one by one and check each one's byte count and ids.

    Args:
        decode: also count the documents that come back exactly.

    Raises:
        RunFailed: a count or an id is wrong: the tokenizer has a fault.
    """
    bos, nothing = np.array([tokenizer.bos_id], np.uint16), np.zeros(1, np.uint16)
    ids: list[np.ndarray] = []
    raw_bytes: list[np.ndarray] = []
    num_exact = 0
    for text in texts:
        ids_of, bytes_of = tokenizer.encode(text)
        _check_bytes(text, int(bytes_of.sum(dtype=np.int64)))
        if ids_of.max(initial=0) >= tokenizer.vocab_size:
            raise RunFailed(f"the tokenizer gave id {ids_of.max()} of {tokenizer.vocab_size}")
        ids += [bos, ids_of]
        raw_bytes += [nothing, bytes_of]
        num_exact += decode and tokenizer.decode(ids_of) == text
    return Encoded(np.concatenate(ids), np.concatenate(raw_bytes), num_exact)


def _check_bytes(text: str, counted: int) -> None:
    """Raise RunFailed unless the tokens stand for the document's bytes.

    Tokenizers that normalise may leave out white space and invisible characters at either end:
    then fewer bytes are counted, which costs the score. More would be a false gain.
    """
    size = len(text.encode("utf-8"))
    if counted == size:
        return
    first, last = 0, len(text)
    while first < last and _is_blank(text[first]):
        first += 1
    while last > first and _is_blank(text[last - 1]):
        last -= 1
    if not len(text[first:last].encode("utf-8")) <= counted <= size:
        raise RunFailed(
            f"the tokenizer counts {counted} bytes for a document of {size} that begins with "
            f"{text[:40]!r}: its byte counts are wrong, and so would be every score"
        )


def _is_blank(character: str) -> bool:
    return character.isspace() or not character.isprintable()


# -- writing --------------------------------------------------------------------------------------


class _SplitWriter:
    """Cuts a stream of tokens into shards of equal length; the last one takes the rest."""

    def __init__(self, folder: Path, prefix: str, sidecar: bool, shard_tokens: int) -> None:
        self.folder, self.prefix, self.sidecar = folder, prefix, sidecar
        self.shard_tokens = shard_tokens
        self.shards: list[Shard] = []
        self._open = ExitStack()
        self._num_tokens = self._raw_bytes = 0

    def __enter__(self) -> _SplitWriter:
        self._begin()
        return self

    def __exit__(self, kind: type[BaseException] | None, *details: object) -> None:
        if kind is None:
            self._finish()
        else:  # unfinished files are removed by their writers
            self._open.__exit__(kind, *details)  # type: ignore[arg-type]

    def append(self, ids: np.ndarray, raw_bytes: np.ndarray) -> None:
        while len(ids):
            if self._num_tokens == self.shard_tokens:
                self._finish()
                self._begin()
            room = self.shard_tokens - self._num_tokens
            self._tokens.append(ids[:room])
            if self.sidecar:
                self._counts.append(raw_bytes[:room])
            self._num_tokens += len(ids[:room])
            self._raw_bytes += int(raw_bytes[:room].sum(dtype=np.int64))
            ids, raw_bytes = ids[room:], raw_bytes[room:]

    def _names(self) -> tuple[str, str]:
        number = f"{len(self.shards):06d}.bin"
        return f"{self.prefix}_{number}", f"{self.prefix}_bytes_{number}"

    def _begin(self) -> None:
        tokens, counts = self._names()
        self._num_tokens = self._raw_bytes = 0
        self._open = ExitStack()
        self._tokens = self._open.enter_context(shard_writer(self.folder / tokens))
        if self.sidecar:
            self._counts = self._open.enter_context(shard_writer(self.folder / counts))

    def _finish(self) -> None:
        self._open.close()
        tokens, counts = self._names()
        sidecar = File.of(self.folder, counts) if self.sidecar else None
        shard = Shard(File.of(self.folder, tokens), sidecar, self._num_tokens, self._raw_bytes)
        self.shards.append(shard)
