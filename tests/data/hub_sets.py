"""A published set on a hub of our own, and the source that fetches it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from pgolf.data import hub, hub_transfer
from pgolf.data.hub_record import RECORD
from pgolf.data.published import PublishedShards
from pgolf.data.tokenize import encode_chunk
from tests.data.hub_server import HubServer
from tests.data.samples import TEXTS, bytes_tokenizer, write_shard

REPOSITORY, DATASET, MODEL = "someone/golf", "fineweb_set", "set.model"
SHARDS = f"datasets/datasets/{DATASET}"


def contents() -> dict[str, bytes]:
    """A repository: four training shards, validation with sidecar, tokenizer, and other things."""
    tokenizer, files = bytes_tokenizer(), {"README.md": b"# A set\n"}
    with TemporaryDirectory() as temporary:
        path = Path(temporary) / "shard"
        for number in range(4):
            encoded = encode_chunk(tokenizer, False, TEXTS[10 + 10 * number : 20 + 10 * number])
            name = f"fineweb_train_{number:06d}.bin"
            files[f"{SHARDS}/{name}"] = write_shard(path, encoded.ids).read_bytes()
        encoded = encode_chunk(tokenizer, False, TEXTS[:10])
        for kind, values in (("val", encoded.ids), ("val_bytes", encoded.raw_bytes)):
            files[f"{SHARDS}/fineweb_{kind}_000000.bin"] = write_shard(path, values).read_bytes()
    files[f"datasets/tokenizers/{MODEL}"] = b"a model"
    # An older export and another set, which are not meant.
    files[f"old/datasets/{DATASET}/fineweb_val_000000.bin"] = b"old"
    files["datasets/datasets/other/fineweb_val_000000.bin"] = b"other"
    return files


def source_of(folder: Path, train_shards: int | None = None) -> PublishedShards:
    return PublishedShards(
        path=str(folder),
        tokenizer_path=str(folder / MODEL),
        name="a_set",
        repository=REPOSITORY,
        dataset=DATASET,
        byte_counts="sidecar",
        val_tokens=1,
        val_bytes=1,
        train_shards=train_shards,
    )


@contextmanager
def serving(
    monkeypatch: pytest.MonkeyPatch, files: dict[str, dict[str, bytes]]
) -> Iterator[HubServer]:
    """A server that huggingface_hub takes for the hub, and hardly any waiting between retries."""
    from huggingface_hub import constants
    from huggingface_hub.utils import close_session

    server = HubServer(files)
    template = constants.HUGGINGFACE_CO_URL_TEMPLATE.replace(constants.ENDPOINT, server.url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "ENDPOINT", server.url)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(hub_transfer, "FIRST_WAIT_S", 0.001)
    close_session()
    try:
        yield server
    finally:
        server.close()
        close_session()


VAL, TRAIN = "fineweb_val_000000.bin", "fineweb_train_000000.bin"
SET = [
    MODEL,
    "fineweb_val_bytes_000000.bin",
    VAL,
    *(f"fineweb_train_{i:06d}.bin" for i in range(4)),
]
FILES = contents()


def content_of(name: str) -> bytes:
    paths = [path for path in FILES if path.endswith("/" + name) and path.startswith("datasets/")]
    return FILES[next(path for path in paths if path.startswith((SHARDS, "datasets/tokenizers")))]


def whole(folder: Path, names: list[str] = SET) -> bool:
    """Whether the folder holds these files, as they are on the hub, and no rest of a download."""
    visible = {path.name for path in folder.iterdir() if path.name not in (RECORD, hub.LOCK)}
    same = all((folder / name).read_bytes() == content_of(name) for name in visible & set(names))
    return same and visible == set(names)
