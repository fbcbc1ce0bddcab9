"""Training documents with the tokens of a validation document are found, however they are cut."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pgolf.cli import main
from pgolf.clock import Clock
from pgolf.data import journal, token_keys, tokenize
from pgolf.data.local import LocalText
from pgolf.data.prepare_shards import Prepared, prepare_shards
from pgolf.data.token_keys import key_of_ids, keys_of_shards
from pgolf.data.tokenize import Work
from pgolf.data.verify import verify_folder
from pgolf.errors import UserError
from pgolf.tokenizer.caseops import CaseOpsTokenizer
from tests.data.samples import write_jsonl, write_shard
from tests.data.test_prepare_shards import digests
from tests.tokenizer.corpus import documents as sentences

BOS = 9


@pytest.fixture(scope="module")
def caseops() -> CaseOpsTokenizer:
    tokenizer = CaseOpsTokenizer(vocab_size=512)
    tokenizer.fit(sentences())
    return tokenizer


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.lists(st.integers(0, 2), max_size=5), max_size=8),
    st.integers(1, 12),
    st.integers(1, 7),
)
def test_keys_of_shards_are_those_of_the_documents(
    tmp_path_factory: pytest.TempPathFactory,
    documents: list[list[int]],
    shard_tokens: int,
    block_tokens: int,
) -> None:
    """Wherever shards and blocks are cut; also for documents without tokens."""
    folder = tmp_path_factory.mktemp("keys")
    ids = [value for document in documents for value in [BOS, *document]]
    starts = range(0, len(ids), shard_tokens)
    paths = [
        write_shard(folder / f"{start}.bin", ids[start : start + shard_tokens]) for start in starts
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(token_keys, "BLOCK_TOKENS", block_tokens)
        seen = keys_of_shards(paths, BOS)
    different = {tuple(document) for document in documents}
    assert len(seen) == len(different)
    assert all(key_of_ids(np.array(document, np.uint16)) in seen for document in different)
    assert key_of_ids(np.array([7], np.uint16)) not in seen


SPACES = [f"Kalo mi ren {i} tos{' ' * (1 + i % 3)}vul\n" for i in range(40)]


@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize("calls", [0, 2, 4, 5, 6])
def test_training_never_has_the_tokens_of_validation(
    tmp_path: Path,
    caseops: CaseOpsTokenizer,
    monkeypatch: pytest.MonkeyPatch,
    processes: int,
    calls: int,
) -> None:
    """Texts that a normalising tokenizer makes equal are one document; also after a kill."""
    monkeypatch.setattr(tokenize, "CHUNK_BYTES", 60)
    caseops.save(tmp_path / "model")
    model = str(tmp_path / "model" / "tokenizer.model")
    # In training twice each, with other white space: at its beginning, alone in chunks, at the end.
    leaks = [text.replace(" ", "  ").strip() + " \n" for text in SPACES[:10]]
    text = write_jsonl(
        tmp_path / "text.jsonl",
        [*SPACES[:10], *leaks[:2], *SPACES[10:20], *leaks[2:], *SPACES[20:], leaks[0] + "\n"],
    )

    def attempt(name: str) -> Prepared:
        source = LocalText(path=str(text), val_rule="first:10")
        tokenizer = CaseOpsTokenizer(vocab_size=512, path=model)
        work = Work(shard_tokens=100, processes=processes if name == "cut" else 1)
        return prepare_shards(source, tokenizer, tmp_path / name, Clock({}), work, show=False)

    manifest = attempt("whole").manifest
    training = manifest.training
    assert manifest.training_documents_dropped == 11 and training.num_documents == 30
    assert training.document_bytes == sum(len(text.encode()) for text in SPACES[10:])
    assert manifest.validation.num_documents == 10
    with monkeypatch.context() as patch:
        patch.setattr(journal.Journal, "add", stopping(journal.Journal.add, calls))
        with suppress(KeyboardInterrupt):
            attempt("cut")
    attempt("cut")
    assert digests(tmp_path / "cut") == digests(tmp_path / "whole")
    checks = verify_folder(tmp_path / "cut", None, None, show=False)
    assert not any(check.faults or check.skipped for check in checks)


def stopping(function: Callable[..., None], calls: int) -> Callable[..., None]:
    """The function, which after so many calls ends the program."""
    left = calls

    def call(*arguments: object) -> None:
        nonlocal left
        function(*arguments)
        left -= 1
        if left == 0:
            raise KeyboardInterrupt

    return call


def test_training_of_nothing_but_validation_is_refused(
    tmp_path: Path, caseops: CaseOpsTokenizer
) -> None:
    caseops.save(tmp_path / "model")
    tokenizer = CaseOpsTokenizer(vocab_size=512, path=str(tmp_path / "model" / "tokenizer.model"))
    text = write_jsonl(tmp_path / "text.jsonl", ["kalo mi", "kalo  mi", "kalo\nmi "])
    source = LocalText(path=str(text), val_rule="first:1")
    with pytest.raises(UserError, match="all 2 documents have the same tokens"):
        prepare_shards(source, tokenizer, tmp_path / "out", Clock({}), Work(), show=False)


def test_documents_with_odd_ends_are_prepared(
    tmp_path: Path, caseops: CaseOpsTokenizer, capsys: pytest.CaptureFixture[str]
) -> None:
    """Characters that the normaliser drops, at the ends of documents and alone."""
    caseops.save(tmp_path / "model")
    texts = [
        *("Text that ends with a mark \ufffd", "\ufffd Some text", "\u2581 starts", "ends \u2581"),
        *("\u2581\u2582\u2583 chart", "\ufffd", "\u2581 \ufffd", " \n"),
    ]
    path = write_jsonl(tmp_path / "text.jsonl", [*texts, *(f"{text}x" for text in texts)])
    for kind in ("caseops", "sp"):
        folder, model = str(tmp_path / kind), str(tmp_path / "model" / "tokenizer.model")
        given = [f"tokenizer={kind}", f"tokenizer.path={model}", "--validation", "first:8"]
        assert main(["data", "prepare", str(path), "-o", folder, "--json", *given]) == 0
        assert json.loads(capsys.readouterr().out)["validation"]["documents"] == 8
        assert main(["data", "verify", folder, "--json"]) == 0
        capsys.readouterr()
