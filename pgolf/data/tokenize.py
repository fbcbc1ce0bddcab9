"""Documents to shards: fit the tokenizer on training text, encode both splits, count bytes."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Literal

import numpy as np

from pgolf.data import pool, ray_pool
from pgolf.data.blocks import save_block_sums
from pgolf.data.corpus import CORPUS, Corpus, documents_of
from pgolf.data.journal import JOURNAL, Counts, Journal
from pgolf.data.manifest import Manifest, Split
from pgolf.data.seen import Seen
from pgolf.data.splitwriter import Encoded, SplitWriter
from pgolf.data.token_keys import key_of_ids, keys_of_shards
from pgolf.errors import RunFailed, UserError
from pgolf.files import sha256_file
from pgolf.hardware import usable_cpus
from pgolf.progress import track
from pgolf.protocols import Tokenizer
from pgolf.tokenizer.store import open_tokenizer

SHARD_TOKENS = 10**8
CHUNK_BYTES = 1 << 19
# A process takes about as long to start as to encode this much.
BYTES_PER_PROCESS = 4_000_000
PREFIXES = {"training": "train", "validation": "val"}
# What the normalisers of published models turn into white space, besides white space.
BLANKS = {"\u2581", "\ufffd"}


@dataclass(frozen=True)
class Work:
    """How a corpus is encoded; none of it but `shard_tokens` changes a byte of the shards.

    Args:
        shard_tokens: most tokens of a shard.
        processes: encoding at a time; None takes the usable cores (with ray, the cluster's),
            fewer for little text.
        engine: processes of this machine, or tasks of Ray (extra `launchers`), whose machines all
            have to see the folder under the same path.
    """

    shard_tokens: int = SHARD_TOKENS
    processes: int | None = None
    engine: Literal["pool", "ray"] = "pool"

    def processes_for(self, num_bytes: int) -> int:
        if self.processes is not None:
            return self.processes
        cpus = usable_cpus() if self.engine == "pool" else ray_pool.usable_cpus()
        return min(cpus, 1 + num_bytes // BYTES_PER_PROCESS)


def tokenize_documents(
    documents: Path,
    tokenizer: Tokenizer,
    folder: Path,
    show: bool,
    work: Work | None = None,
) -> Manifest:
    """As `encode_documents`, for a folder that is finished for good: without the journal."""
    manifest = encode_documents(documents, tokenizer, folder, show, work or Work())
    (folder / JOURNAL).unlink()
    return manifest


def encode_documents(
    documents: Path, tokenizer: Tokenizer, folder: Path, show: bool, work: Work
) -> Manifest:
    """Write `tokenizer/`, shards of both splits, the validation sidecar and manifest.json.

    A document is stored as BOS, which stands for 0 bytes, and its tokens. Training documents with
    the tokens of a validation document are left out. Where another process has begun the same in
    the folder, its tokenizer and its whole shards are kept.

    Args:
        documents: a folder that `corpus_writer` made.
        tokenizer: fitted here, on the training split only.

    Raises:
        UserError: the text does not suffice for the tokenizer, it refuses a document, or nothing
            is left for training.
        RunFailed: the tokenizer counts other bytes than a document has.
    """
    corpus, journal = Corpus.load(documents), open_journal(documents, folder, work)
    _fit(tokenizer, journal, documents, corpus, show)
    encode = functools.partial(_encode_split, corpus, documents, tokenizer, journal, show, work)
    validation, held_out = encode("validation", Seen())
    paths = [folder / shard.tokens.path for shard in validation.shards]
    training, taken = encode("training", keys_of_shards(paths, tokenizer.bos_id))
    if not training.num_documents:
        raise UserError(
            f"no text is left for training: all {taken.dropped} documents have the same tokens as "
            "a validation document, apart from white space say; give other text, or another rule"
        )
    manifest = Manifest(
        tokenizer_fingerprint=tokenizer.fingerprint,
        vocab_size=tokenizer.vocab_size,
        training=training,
        validation=validation,
        official_validation=corpus.official_validation,
        split_rule=corpus.split_rule,
        duplicates_removed=corpus.duplicates_removed,
        training_documents_dropped=corpus.training_documents_dropped + taken.dropped,
        roundtrip={"documents": corpus.num_documents["validation"], "exact": held_out.exact},
    )
    save_block_sums(folder, manifest)
    manifest.save(folder)
    return manifest


def _fit(
    tokenizer: Tokenizer, journal: Journal, documents: Path, corpus: Corpus, show: bool
) -> None:
    """Load the tokenizer that the shards were begun with, or fit it anew."""
    saved = journal.folder / "tokenizer"
    with suppress(UserError):  # missing or damaged
        if journal.tokenizer is not None:
            tokenizer.load(saved)
            if tokenizer.fingerprint == journal.tokenizer:
                return
    texts = documents_of(documents, "training")
    tokenizer.fit(_shown(texts, corpus.document_bytes["training"], "tokenizer", show))
    tokenizer.save(saved)
    journal.begin(tokenizer.fingerprint)


def open_journal(documents: Path, folder: Path, work: Work) -> Journal:
    """What is finished in a folder of shards of these documents."""
    identity = {"documents": sha256_file(documents / CORPUS), "shard_tokens": work.shard_tokens}
    return Journal(folder, identity)


def _encode_split(
    corpus: Corpus,
    documents: Path,
    tokenizer: Tokenizer,
    journal: Journal,
    show: bool,
    work: Work,
    name: str,
    dropped: Seen,
) -> tuple[Split, Counts]:
    """Write a split's shards; returns it and what its documents were.

    Args:
        dropped: keys of documents that are left out.
    """
    num_bytes, validation = corpus.document_bytes[name], name == "validation"
    texts = _shown(documents_of(documents, name), num_bytes, f"encode {PREFIXES[name]}", show)
    with SplitWriter(journal, name, PREFIXES[name], validation, work.shard_tokens) as writer:
        left = islice(texts, writer.counts.documents, None)
        for encoded in _encode(left, tokenizer, journal.folder, work, num_bytes, validation):
            writer.append(encoded.without(dropped))
    counts = writer.counts
    num_documents = corpus.num_documents[name] - counts.dropped
    return Split(writer.shards, num_documents, num_bytes - counts.dropped_bytes), counts


def _shown(texts: Iterable[str], num_bytes: int, label: str, show: bool) -> Iterator[str]:
    """The texts, with a progress bar as they are taken."""
    with track(label, num_bytes / 1e6, "MB", show) as bar:
        for text in texts:
            yield text
            bar.advance(len(text.encode("utf-8")) / 1e6)


def _encode(
    texts: Iterable[str],
    tokenizer: Tokenizer,
    folder: Path,
    work: Work,
    num_bytes: int,
    decode: bool,
) -> Iterator[Encoded]:
    """Encode documents in chunks, by several processes where it pays."""
    processes = work.processes_for(num_bytes)
    if processes == 1 and work.engine == "pool":
        yield from map(functools.partial(encode_chunk, tokenizer, decode), _chunks(texts))
        return
    # Each process opens its own tokenizer: models of C++ objects do not travel.
    by_saved = functools.partial(_encode_chunk_by_saved, folder.resolve() / "tokenizer", decode)
    ordered_map = ray_pool.ordered_map if work.engine == "ray" else pool.ordered_map
    yield from ordered_map(by_saved, _chunks(texts), processes)


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
    exact: list[bool] = []
    keys: list[bytes] = []
    for text in texts:
        ids_of, bytes_of = tokenizer.encode(text)
        check_bytes(text, int(bytes_of.sum(dtype=np.int64)))
        if ids_of.max(initial=0) >= tokenizer.vocab_size:
            raise RunFailed(f"the tokenizer gave id {ids_of.max()} of {tokenizer.vocab_size}")
        ids += [bos, ids_of]
        raw_bytes += [nothing, bytes_of]
        exact.append(decode and tokenizer.decode(ids_of) == text)
        keys.append(key_of_ids(ids_of))
    lengths = np.array([1 + len(ids_of) for ids_of in ids[1::2]])
    sizes = np.array([len(text.encode("utf-8")) for text in texts])
    joined = np.concatenate(ids), np.concatenate(raw_bytes)
    return Encoded(*joined, lengths, sizes, np.array(exact), keys)


def check_bytes(text: str, counted: int) -> None:
    """Raise RunFailed unless the tokens stand for the document's bytes.

    Tokenizers that normalise may leave out white space, invisible characters and BLANKS at either
    end: then fewer bytes are counted, which costs the score. More would be a false gain.
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
    return character.isspace() or not character.isprintable() or character in BLANKS
