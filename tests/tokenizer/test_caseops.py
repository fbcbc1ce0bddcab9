"""The published tokenizer, and what its checks refuse."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings

from pgolf.errors import UserError
from pgolf.tokenizer.caseops import CaseOpsTokenizer
from pgolf.tokenizer.sp import SentencePieceTokenizer
from tests.reference import require_reference
from tests.tokenizer.corpus import TRICKY, documents, texts
from tests.tokenizer.golden_caseops import run


def test_equals_the_published_tokenizer() -> None:
    folder = require_reference() / "golden"
    if not (folder / "caseops.jsonl").is_file():
        pytest.skip(f"no caseops.jsonl in {folder}")
    try:
        rows = run(folder)
    except LookupError as reason:
        pytest.skip(str(reason))
    assert [deviation for _, deviation, _ in rows] == [0, 0, 0]


@given(texts)
@settings(deadline=None)
def test_all_bytes_of_the_stripped_text_are_counted(caseops: CaseOpsTokenizer, text: str) -> None:
    ids, raw_bytes = caseops.encode(text)
    stripped = text.replace("\0", " ").strip()
    assert int(raw_bytes.sum()) == (len(stripped.encode()) if len(ids) else 0)
    assert isinstance(caseops.decode(ids), str)


@pytest.mark.parametrize(
    "text", [t for t in TRICKY if t == " ".join(t.split()) and set(t) - set("\0\u2581 ")]
)
def test_plain_text_is_counted_exactly(caseops: CaseOpsTokenizer, text: str) -> None:
    _, raw_bytes = caseops.encode(text)
    assert int(raw_bytes.sum()) == len(text.encode())


def test_text_is_stripped_and_nul_is_a_space(caseops: CaseOpsTokenizer) -> None:
    given = caseops.encode(" \n Kalo\0Mi\t\n")
    assert [x.tolist() for x in given] == [x.tolist() for x in caseops.encode("Kalo Mi")]


def test_specials_and_controls_have_the_published_ids(caseops: CaseOpsTokenizer) -> None:
    published = ["<pad>", "<s>", "</s>", "<unk>", "\ue001", "\ue002", "\ue003", "\ue004", "<0x00>"]
    assert caseops.model.pieces[:9] == published
    assert caseops.bos_id == 1
    assert len(caseops.model.pieces) == caseops.vocab_size == 512


def test_training_says_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    CaseOpsTokenizer(vocab_size=400).fit(documents())
    assert capfd.readouterr() == ("", "")


def test_too_little_text_names_the_size_that_it_is_good_for() -> None:
    with pytest.raises(UserError, match=r"scale\.vocab_size=\d+"):
        CaseOpsTokenizer(vocab_size=8192).fit(["only a few words"])
    with pytest.raises(UserError, match=r"tokenizer\.vocab_size=266 is too small"):
        CaseOpsTokenizer(vocab_size=266).fit(["abcdefghij klmnop"])
    with pytest.raises(UserError, match="no text"):
        CaseOpsTokenizer(vocab_size=512).fit([])


class TestPath:
    """tokenizer.path=..."""

    def test_is_loaded_instead_of_training(self, caseops: CaseOpsTokenizer, tmp_path: Path) -> None:
        caseops.save(tmp_path)
        loaded = CaseOpsTokenizer(vocab_size=512, path=str(tmp_path / "tokenizer.model"))
        loaded.check()
        loaded.fit(iter(()))
        assert loaded.fingerprint == caseops.fingerprint

    def test_missing(self) -> None:
        with pytest.raises(UserError, match=r"nowhere\.model: no such file"):
            CaseOpsTokenizer(vocab_size=512, path="nowhere.model").check()
        with pytest.raises(UserError, match="no such file"):
            CaseOpsTokenizer(vocab_size=512, path="nowhere.model").cache_key()

    @pytest.mark.parametrize("content", [b"", b"no model at all, but text" * 10])
    def test_no_model(self, tmp_path: Path, content: bytes) -> None:
        path = tmp_path / "x.model"
        path.write_bytes(content)
        with pytest.raises(UserError, match=r"x\.model is no SentencePiece model"):
            CaseOpsTokenizer(vocab_size=512, path=str(path)).check()

    def test_other_size(self, caseops: CaseOpsTokenizer, tmp_path: Path) -> None:
        caseops.save(tmp_path)
        tokenizer = CaseOpsTokenizer(vocab_size=1024, path=str(tmp_path / "tokenizer.model"))
        with pytest.raises(UserError, match=r"512 pieces.*1024.*scale\.vocab_size=512"):
            tokenizer.check()

    def test_without_controls(self, sp: SentencePieceTokenizer, tmp_path: Path) -> None:
        sp.save(tmp_path)
        tokenizer = CaseOpsTokenizer(vocab_size=512, path=str(tmp_path / "tokenizer.model"))
        with pytest.raises(UserError, match=r"U\+E001, U\+E002, U\+E003, U\+E004"):
            tokenizer.check()


def test_cache_key_follows_what_decides_the_model(
    caseops: CaseOpsTokenizer, sp: SentencePieceTokenizer, tmp_path: Path
) -> None:
    paths = []
    for tokenizer in (caseops, sp):
        tokenizer.save(tmp_path / tokenizer.kind)
        paths.append(str(tmp_path / tokenizer.kind / "tokenizer.model"))
    keys = [
        CaseOpsTokenizer(vocab_size=512).cache_key(),
        CaseOpsTokenizer(vocab_size=513).cache_key(),
        CaseOpsTokenizer(vocab_size=512, max_train_bytes=7).cache_key(),
        SentencePieceTokenizer(vocab_size=512).cache_key(),
        *(CaseOpsTokenizer(vocab_size=512, path=path).cache_key() for path in paths),
    ]
    assert len({str(sorted(key.items())) for key in keys}) == len(keys)
    given = [CaseOpsTokenizer(vocab_size=512, path=paths[0], max_train_bytes=n) for n in (1, 2)]
    assert given[0].cache_key() == given[1].cache_key()
