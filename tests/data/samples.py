"""Small text files and shards for the tests of this folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from pgolf.data.corpus import Corpus
from pgolf.data.local import LocalText
from pgolf.data.manifest import Manifest
from pgolf.data.shards import shard_writer
from pgolf.data.tokenize import Work, tokenize_documents
from pgolf.tokenizer.bytes import BytesTokenizer

TEXTS = [f"Document {i}: häßlich, \n\n two lines and {'a word ' * (i % 7)}" for i in range(60)]


def write_jsonl(path: Path, texts: list[str]) -> Path:
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")
    return path


def write_shard(path: Path, values: np.ndarray | list[int]) -> Path:
    with shard_writer(path) as writer:
        writer.append(np.asarray(values, np.uint16))
    return path


def bytes_tokenizer() -> BytesTokenizer:
    return BytesTokenizer(vocab_size=264)


def collect(source: LocalText, root: Path) -> tuple[Path, Corpus]:
    folder = root / "documents"
    folder.mkdir()
    return folder, source.documents(folder, show=False)


def prepare(root: Path, texts: list[str] = TEXTS, **settings: Any) -> tuple[Path, Manifest]:
    """A folder of shards made from some documents by the byte tokenizer."""
    source = LocalText(path=str(write_jsonl(root / "text.jsonl", texts)), val_rule="hash:0.2")
    documents, _ = collect(source, root)
    folder = root / "shards"
    folder.mkdir()
    work = Work(**settings)
    return folder, tokenize_documents(documents, bytes_tokenizer(), folder, False, work)
