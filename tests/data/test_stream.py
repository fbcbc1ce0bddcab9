"""Opening token streams: with a manifest, from published folders, with and without byte counts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pgolf.data.stream import TokenStream
from pgolf.errors import UserError
from tests.data.samples import TEXTS, prepare, write_shard


def published(folder: Path, num_val: int = 1, sidecar: bool = True) -> Path:
    """Shards whose ids and counts differ, so that a mix-up shows."""
    for i in range(num_val):
        write_shard(folder / f"fineweb_val_{i:06d}.bin", range(100 * i, 100 * i + 50))
        if sidecar:
            write_shard(folder / f"fineweb_val_bytes_{i:06d}.bin", np.full(50, i + 3))
    for i in range(2):
        write_shard(folder / f"fineweb_train_{i:06d}.bin", range(1000 * i, 1000 * i + 70))
    return folder


def test_published_folder_opens_without_a_manifest(tmp_path: Path) -> None:
    stream = TokenStream.open_validation(published(tmp_path))
    assert stream.num_tokens == 50
    assert stream.ids.tolist() == list(range(50))
    assert stream.raw_bytes.tolist() == [3] * 50


def test_several_validation_shards_are_one_stream(tmp_path: Path) -> None:
    stream = TokenStream.open_validation(published(tmp_path, num_val=3))
    assert stream.ids.tolist() == [*range(50), *range(100, 150), *range(200, 250)]
    assert stream.raw_bytes.tolist() == [3] * 50 + [4] * 50 + [5] * 50


def test_training_is_one_stream_a_shard_and_needs_no_counts(tmp_path: Path) -> None:
    first, second = TokenStream.open_training(published(tmp_path))
    assert first.ids.tolist() == list(range(70))
    assert second.ids.tolist() == list(range(1000, 1070))
    with pytest.raises(AssertionError, match="no byte counts"):
        _ = first.raw_bytes


def test_without_sidecar_the_remedy_is_named_or_a_table_counts(tmp_path: Path) -> None:
    folder = published(tmp_path, num_val=2, sidecar=False)
    with pytest.raises(UserError, match=r"no byte sidecar .*data=local"):
        TokenStream.open_validation(folder)
    table = np.arange(200, dtype=np.uint16) % 7
    stream = TokenStream.open_validation(folder, bytes_of_id=table)
    assert stream.raw_bytes.tolist() == [int(i) % 7 for i in stream.ids]
    with pytest.raises(
        UserError, match="token id 149 is outside the tokenizer's vocabulary of 100"
    ):
        TokenStream.open_validation(folder, bytes_of_id=table[:100])


def test_a_sidecar_of_another_set_is_refused(tmp_path: Path) -> None:
    folder = published(tmp_path)
    write_shard(folder / "fineweb_val_bytes_000000.bin", range(49))
    with pytest.raises(UserError, match="49 byte counts for the 50 tokens"):
        TokenStream.open_validation(folder)


def test_no_training_shards_is_an_error(tmp_path: Path) -> None:
    write_shard(tmp_path / "fineweb_val_000000.bin", range(5))
    with pytest.raises(UserError, match="no training shards"):
        TokenStream.open_training(tmp_path)


def test_prepared_folder_opens_through_its_manifest(tmp_path: Path) -> None:
    folder, manifest = prepare(tmp_path, shard_tokens=500)
    # Whatever else lies there is not looked at.
    write_shard(folder / "val_000099.bin", range(5))
    write_shard(folder / "fineweb_val_000000.bin", range(5))
    stream, training = TokenStream.open_validation(folder), TokenStream.open_training(folder)
    assert stream.num_tokens == manifest.validation.num_tokens
    assert sum(part.num_tokens for part in training) == manifest.training.num_tokens
    assert len(training) == len(manifest.training.shards) > 1
    everything = sum(len(text.encode()) + 1 for text in TEXTS)  # each has a BOS
    assert stream.num_tokens + manifest.training.num_tokens == everything
