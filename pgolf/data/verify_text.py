"""Whether validation tokens and their byte counts are those of the text."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from pgolf.data.documents import read_documents
from pgolf.data.faults import Check, Files
from pgolf.data.shards import shard_length
from pgolf.data.tokenize import check_bytes
from pgolf.data.verify_files import AGAIN
from pgolf.errors import RunFailed, UserError
from pgolf.progress import track
from pgolf.protocols import Tokenizer

# A tokenizer that loses text decodes it a little otherwise than it was. On FineWeb 99.98% of the
# counts of CaseOps still agree with the decoded text, of another sidecar's about every fifth.
LEAST_AGREEMENT, UNKNOWN = 0.9, -1


def check_text(
    files: Files,
    places: list[range],
    tokenizer: Tokenizer,
    documents: Path | None,
    remedy: str,
    exact: bool,
    show: bool,
) -> Check:
    """Compare validation with raw documents, or without any with its own decoded text.

    Args:
        places: of each document's tokens.
        documents: raw validation documents in their order; there may be more behind them.
        remedy: where these cannot be read, or are too few.
        exact: the tokenizer gives back every document, so decoded text is the raw one.
    """
    check = Check("bytes")
    if not files.whole or not files.has_sidecars:
        return check.skip("validation shards or sidecars are missing or damaged")
    if not files.sidecars:
        return check.skip("there are no byte sidecars")
    if files.counts is None:
        what = "its length is not that of its tokens: the two are not of one set"
        for path, ids in zip(files.sidecars, files.ids, strict=True):
            if shard_length(path) != len(ids):
                check.fault(path, 0, what, AGAIN)
        return check
    ids, counts = np.concatenate(files.ids), np.concatenate(files.counts)
    comparison = _Comparison(check, files, tokenizer, ids, counts)
    with track("bytes", len(places), "document", show) as bar:
        try:
            for place, text in _texts(places, tokenizer, ids, documents):
                if text is None:
                    what = f"{documents} ends before this document"
                    check.fault(*files.place(place.start - 1), what, remedy)
                    break
                comparison.add(place, text, documents is not None or exact)
                bar.advance()
        except UserError as error:
            check.fault(documents or "", 0, str(error), remedy)
    comparison.finish()
    source = "its decoded text" if documents is None else documents.name
    check.about = (
        f"{int(counts.sum(dtype=np.int64)):,} in sidecars, {comparison.num_bytes:,} in {source}"
    )
    return check


def _texts(
    places: list[range], tokenizer: Tokenizer, ids: np.ndarray, documents: Path | None
) -> Iterator[tuple[range, str | None]]:
    """Each document's tokens with its text, None where the given documents have ended.

    Decoded is what can be: ids outside the vocabulary are named by the check of the ids.
    """
    if documents is None:
        for place in places:
            tokens = ids[place.start : place.stop]
            if tokens.max(initial=0) < tokenizer.vocab_size:
                yield place, tokenizer.decode(tokens)
        return
    texts = itertools.chain(read_documents(documents), itertools.repeat(None))
    yield from zip(places, texts, strict=False)


class _Comparison:
    """Goes through the documents of a split."""

    def __init__(
        self, check: Check, files: Files, tokenizer: Tokenizer, ids: np.ndarray, counts: np.ndarray
    ) -> None:
        self.check, self.files, self.tokenizer = check, files, tokenizer
        self.ids, self.counts = ids, counts
        self.num_bytes = 0
        # Of each token: whether its count is that of the decoded text, UNKNOWN if none says.
        self._agrees = np.full(len(ids), UNKNOWN, np.int8)

    def add(self, place: range, text: str, is_raw: bool) -> None:
        """Compare one document; text that is not the raw one shows only faults of many tokens."""
        self.num_bytes += len(text.encode("utf-8"))
        ids, counts = self.ids[place.start : place.stop], self.counts[place.start : place.stop]
        expected_ids, expected_counts = self.tokenizer.encode(text)
        if not is_raw:
            if len(ids) == len(expected_ids):
                self._agrees[place.start : place.stop] = counts == expected_counts
            return
        wrong = _first_difference(ids, expected_ids)
        if wrong is not None:
            what = f"not the token that the tokenizer gives for this document ({text[:30]!r} ...)"
            self.check.fault(*self.files.place(place.start + wrong), what, AGAIN)
            return
        wrong = _first_difference(counts, expected_counts)
        if wrong is not None:
            what = f"{counts[wrong]} bytes for a token of {expected_counts[wrong]}"
            self.check.fault(*self.files.place(place.start + wrong, sidecar=True), what, AGAIN)
            return
        try:
            check_bytes(text, int(counts.sum(dtype=np.int64)))
        except RunFailed as error:
            remedy = "prepare again with a tokenizer that counts rightly"
            self.check.fault(*self.files.place(place.start, sidecar=True), str(error), remedy)

    def finish(self) -> None:
        """Judge what only a whole shard shows."""
        start = 0
        for ids in self.files.ids:
            agrees = self._agrees[start : start + len(ids)]
            known = agrees != UNKNOWN
            compared, agreeing = int(known.sum()), int((agrees == 1).sum())
            if agreeing < LEAST_AGREEMENT * compared:
                what = (
                    f"byte counts agree with the decoded text in {agreeing:,} of {compared:,} "
                    "tokens only: this is not the sidecar of these tokens"
                )
                wrong = start + int(np.flatnonzero(agrees == 0)[0])
                self.check.fault(*self.files.place(wrong, sidecar=True), what, AGAIN)
            start += len(ids)


def _first_difference(found: np.ndarray, expected: np.ndarray) -> int | None:
    """Index of the first value that differs; the shorter one's end if it is part of the other."""
    both = min(len(found), len(expected))
    different = np.flatnonzero(found[:both] != expected[:both])
    if len(different):
        return int(different[0])
    return None if len(found) == len(expected) else both
