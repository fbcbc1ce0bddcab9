"""Saved tokenizers come back as they were, and damaged ones do not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pgolf.errors import UserError
from pgolf.tokenizer.bytes import BytesTokenizer
from pgolf.tokenizer.caseops import CaseOpsTokenizer
from pgolf.tokenizer.store import KINDS, open_tokenizer
from tests.tokenizer.corpus import documents


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_opened_tokenizer_is_the_saved_one(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    fixtures = {"caseops": "caseops", "caseops_lossless": "lossless", "sp": "sp"}
    saved: Any = BytesTokenizer(vocab_size=264)
    if kind in fixtures:
        saved = request.getfixturevalue(fixtures[kind])
    saved.save(tmp_path / "new")
    opened = open_tokenizer(tmp_path / "new")
    assert type(opened) is KINDS[kind]
    assert opened.fingerprint == saved.fingerprint
    assert (opened.vocab_size, opened.bos_id) == (saved.vocab_size, saved.bos_id)
    for text in documents(5):
        for found, expected in zip(opened.encode(text), saved.encode(text), strict=True):
            assert found.dtype == "uint16" and found.tolist() == expected.tolist()


def test_fingerprints_differ(request: pytest.FixtureRequest) -> None:
    names = ("caseops", "lossless", "sp")
    prints = {request.getfixturevalue(name).fingerprint for name in names}
    assert len(prints | {BytesTokenizer(vocab_size=264).fingerprint}) == 4


def test_damaged_model_is_refused(caseops: CaseOpsTokenizer, tmp_path: Path) -> None:
    caseops.save(tmp_path)
    path = tmp_path / "tokenizer.model"
    model = bytearray(path.read_bytes())
    place = model.index("\u2581ka".encode())
    model[place + 3] ^= 1
    path.write_bytes(model)
    with pytest.raises(UserError, match=r"is damaged.*run again"):
        open_tokenizer(tmp_path)
    path.write_bytes(model[: len(model) // 2])
    with pytest.raises(UserError, match=r"tokenizer\.model"):
        open_tokenizer(tmp_path)
    path.unlink()
    with pytest.raises(UserError, match=r"tokenizer\.model is missing"):
        open_tokenizer(tmp_path)


@pytest.mark.parametrize("change", [{"kind": "words"}, {"settings": {"size": 3}}, {"extra": 1}])
def test_damaged_description_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    BytesTokenizer(vocab_size=264).save(tmp_path)
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(UserError, match=r"tokenizer\.json"):
        open_tokenizer(tmp_path)


def test_folder_without_tokenizer_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"tokenizer\.json: no such file"):
        open_tokenizer(tmp_path)


def test_other_kind_or_size_is_refused(caseops: CaseOpsTokenizer, tmp_path: Path) -> None:
    caseops.save(tmp_path)
    with pytest.raises(UserError, match="not bytes"):
        BytesTokenizer(vocab_size=264).load(tmp_path)
    with pytest.raises(UserError, match=r"scale\.vocab_size=512"):
        CaseOpsTokenizer(vocab_size=600).load(tmp_path)
