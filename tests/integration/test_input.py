"""Wrong inputs on the command line: exit code 2, the thing and its remedy, and nothing lost."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from pgolf.container import FORMAT_VERSION, MAGIC
from pgolf.data.shards import shard_writer
from pgolf.jobs import PRODUCE_STAGES
from pgolf.tokenizer.sp import SentencePieceTokenizer
from tests.integration.command import TINY, Done, Workspace

pytestmark = pytest.mark.slow


def refused(done: Done, *parts: str) -> None:
    """The command ended with 2 and a message that has all of the parts, without a traceback."""
    assert done.code == 2, done.text
    assert "Traceback" not in done.text, done.text
    missing = [part for part in parts if part not in done.stderr]
    assert not missing, f"{missing} not in:\n{done.stderr}"


# -- text ------------------------------------------------------------------------------------------

TEXTS: dict[str, tuple[bytes, list[str]]] = {
    "empty.txt": (b"", ["empty.txt", "empty"]),
    "empty.jsonl": (b"\n\n", ["empty.jsonl"]),
    "latin1.txt": ("übrig".encode("latin-1"), ["latin1.txt", "UTF-8", "byte 0"]),
    "broken.jsonl": (b'{"text": "one"}\n{"text": \n', ["broken.jsonl", "line 2"]),
    "other.jsonl": (b'{"txt": "one"}\n', ["other.jsonl", "text"]),
    "one.jsonl": (b'{"text": "the only document"}\n', ["one.jsonl", "needs different documents"]),
    "short.jsonl": (
        b'{"text": "first"}\n{"text": "another"}\n{"text": "third"}\n',
        ["validation text has", "one window of eval.seq_len=64", "scale.eval_seq_len=..."],
    ),
}


@pytest.mark.parametrize("name", TEXTS)
def test_a_wrong_text_is_named(workspace: Workspace, tmp_path: Path, name: str) -> None:
    content, parts = TEXTS[name]
    (tmp_path / name).write_bytes(content)
    refused(workspace.launch(f"data.path={tmp_path / name}"), *parts)


def test_a_missing_path_is_named(workspace: Workspace) -> None:
    refused(workspace.launch("data.path=/nowhere/text.jsonl"), "/nowhere/text.jsonl", "data.path=")


WRONG_SETTINGS = {
    "quant.bits=9": "expected 2 to 8",
    "codec.quality=12": "brotli takes 0 to 11",
}


@pytest.mark.parametrize("setting", WRONG_SETTINGS)
def test_a_wrong_setting_of_a_later_stage_is_named_before_training(
    workspace: Workspace, setting: str
) -> None:
    done = workspace.launch(setting, "seed=78")
    refused(done, setting.partition("=")[0], WRONG_SETTINGS[setting])
    assert "train" not in done.stages("start")


def test_fewer_shards_than_workers_are_named_before_workers_start(workspace: Workspace) -> None:
    done = workspace.launch("train.loader=published", "hardware.num_workers=2")
    refused(done, "1 training shards for 2 workers", "train.loader=global")
    assert "worker(s) on" not in done.text


# -- published shards and tokenizers ---------------------------------------------------------------


@pytest.fixture(scope="module")
def tokenizer_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SentencePiece model of 320 pieces."""
    folder = tmp_path_factory.mktemp("tokenizer")
    tokenizer = SentencePieceTokenizer(vocab_size=320)
    tokenizer.fit(f"document {i} of small words, and {i * 7} more" for i in range(200))
    tokenizer.save(folder)
    return folder / "tokenizer.model"


def write_shards(folder: Path, largest: int = 300) -> Path:
    """A folder as it is published: training and validation tokens, bytes of the latter."""
    folder.mkdir()
    ids = np.resize(np.arange(3, largest + 1, dtype=np.uint16), 4000)
    ids[::100] = 1
    for name, values in (("train", ids), ("val", ids), ("val_bytes", np.ones_like(ids))):
        with shard_writer(folder / f"fineweb_{name}_000000.bin") as writer:
            writer.append(values)
    return folder


def shards(workspace: Workspace, folder: Path, *overrides: str) -> Done:
    return workspace.launch(
        "data=fineweb_caseops", "tokenizer=sp", "scale.vocab_size=320", f"data.path={folder}",
        *overrides,
    )  # fmt: skip


def test_no_shards_are_named_with_what_to_put_where(workspace: Workspace, tmp_path: Path) -> None:
    refused(shards(workspace, tmp_path), str(tmp_path), "data=embedded", "fineweb_train_*.bin")


@pytest.mark.parametrize("name", ["train", "val", "val_bytes"])
def test_a_truncated_shard_is_named(
    workspace: Workspace, tmp_path: Path, tokenizer_file: Path, name: str
) -> None:
    folder = write_shards(tmp_path / "shards")
    path = folder / f"fineweb_{name}_000000.bin"
    path.write_bytes(path.read_bytes()[:-2])
    done = shards(workspace, folder, f"tokenizer.path={tokenizer_file}")
    refused(done, path.name, "cut off", "copy it again")


def test_a_sidecar_of_another_length_is_named(workspace: Workspace, tmp_path: Path) -> None:
    folder = write_shards(tmp_path / "shards")
    with shard_writer(folder / "fineweb_val_bytes_000000.bin") as writer:
        writer.append(np.ones(3999, np.uint16))
    refused(shards(workspace, folder), "3999 byte counts for the 4000 tokens", "copy both again")


def test_shards_without_their_tokenizer_are_named(workspace: Workspace, tmp_path: Path) -> None:
    folder = write_shards(tmp_path / "shards")
    refused(shards(workspace, folder), "tokenizer.path=", "no such file")
    refused(shards(workspace, folder, "tokenizer.path=null"), "give the tokenizer that made them")


def test_ids_beyond_the_vocabulary_are_named(
    workspace: Workspace, tmp_path: Path, tokenizer_file: Path
) -> None:
    folder = write_shards(tmp_path / "shards", largest=400)
    done = shards(workspace, folder, f"tokenizer.path={tokenizer_file}")
    refused(done, "token id 400 is outside the tokenizer's vocabulary of 320", "scale.vocab_size")


def test_a_tokenizer_of_another_size_is_named(workspace: Workspace, tokenizer_file: Path) -> None:
    done = workspace.launch("tokenizer=sp", f"tokenizer.path={tokenizer_file}")
    refused(done, str(tokenizer_file), "320 pieces", "use scale.vocab_size=320")


# -- artifacts -------------------------------------------------------------------------------------


@pytest.fixture
def copied(plain: Done, tmp_path: Path) -> Path:
    """A copy of a finished run; the original's artifact is hard-linked to the cache."""
    return Path(shutil.copytree(plain.folder, tmp_path / "run"))


def seal(content: bytes) -> bytes:
    """The file with its checksum made right, as another program of the format would."""
    body = content[len(MAGIC) + 32 :]
    return MAGIC + hashlib.sha256(body).digest() + body


@pytest.mark.parametrize("command", ["evaluate", "inspect"])
def test_a_damaged_artifact_is_named(workspace: Workspace, copied: Path, command: str) -> None:
    path = copied / "artifact" / "model.pgolf"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    refused(workspace.pgolf(command, copied), str(path), "checksum does not match", "copy it again")


@pytest.mark.parametrize("command", ["evaluate", "inspect"])
def test_an_artifact_of_a_newer_version_is_named(
    workspace: Workspace, copied: Path, command: str
) -> None:
    path = copied / "artifact" / "model.pgolf"
    content = bytearray(path.read_bytes())
    struct.pack_into("<H", content, len(MAGIC) + 32, FORMAT_VERSION + 1)
    path.write_bytes(seal(bytes(content)))
    refused(workspace.pgolf(command, copied), f"format version {FORMAT_VERSION + 1}", "upgrade")


@pytest.mark.parametrize("damage", ["cut off", "missing"])
def test_damaged_shipped_code_is_named(workspace: Workspace, copied: Path, damage: str) -> None:
    """Python would pass over it, and take the code that lies here."""
    path = copied / "artifact" / "code.zip"
    content = path.read_bytes()
    path.unlink()
    if damage == "cut off":
        path.write_bytes(content[: len(content) // 2])
    refused(workspace.pgolf("evaluate", copied), str(path), "copy it again")


def test_a_text_that_has_changed_since_is_named(workspace: Workspace, copied: Path) -> None:
    path = copied / "provenance.json"
    facts = json.loads(path.read_text())
    facts["data"]["manifest_sha256"] = "0" * 64
    path.write_text(json.dumps(facts))
    done = workspace.pgolf("evaluate", copied)
    refused(done, str(copied), "have changed", f"--data {facts['data']['folder']}")


@pytest.mark.parametrize("command", ["evaluate", "inspect", "pack"])
def test_a_configuration_without_its_parts_is_named(
    workspace: Workspace, copied: Path, tmp_path: Path, command: str
) -> None:
    (copied / "config.yaml").write_text("seed: 3\n")
    more = ("-o", str(tmp_path / "packed")) if command == "pack" else ()
    done = workspace.pgolf(command, copied, *more)
    refused(done, str(copied / "config.yaml"), "has no data, tokenizer", "repeat the run")


def test_windows_longer_than_the_shards_are_named(workspace: Workspace, plain: Done) -> None:
    shards = ("--data", plain.shards, "eval.seq_len=100000", "eval.stride=64")
    done = workspace.pgolf("evaluate", plain.folder / "artifact", *shards)
    refused(done, "eval.seq_len=100000", "fewer than one window")


def test_no_run_and_no_artifact_are_named(workspace: Workspace, tmp_path: Path) -> None:
    for command in ("evaluate", "compare", "report"):
        refused(workspace.pgolf(command, tmp_path), str(tmp_path), "run folder")
    refused(workspace.pgolf("inspect", tmp_path), str(tmp_path), "cannot be read")


# -- disks -----------------------------------------------------------------------------------------


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    """A disk of so many bytes, in memory; skips the test where that is not permitted."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    if sys.platform != "linux" or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("a small disk cannot be mounted: needs Linux and the right to mount")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_a_full_cache_disk_is_named_and_finished_stages_are_kept(
    workspace: Workspace, tmp_path: Path
) -> None:
    with small_disk(tmp_path / "disk", "700k") as disk:
        command = workspace.tiny("ttt.epochs=1")
        done = workspace.run(command, PGOLF_CACHE=str(disk))
        refused(done, "no space left on the disk", str(disk), "PGOLF_CACHE", "same command again")
        assert {"documents", "tokens"} <= done.stages("done")
        subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
        again = workspace.run(command, PGOLF_CACHE=str(disk))
        assert again.result and done.stages("done") <= again.stages("reused")


def test_a_full_output_disk_is_named_and_the_work_is_kept(
    workspace: Workspace, plain: Done, tmp_path: Path
) -> None:
    with small_disk(tmp_path / "disk", "64k") as disk:
        done = workspace.launch("ttt=none", f"out_dir={disk}")
        refused(done, "no space left on the disk", str(disk), "out_dir=...")
    assert set(PRODUCE_STAGES) <= workspace.launch("ttt=none").stages("reused")


@pytest.mark.skipif(sys.platform != "linux" or os.getuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission_is_named(workspace: Workspace, tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    refused(workspace.launch(f"out_dir={tmp_path / 'x'}"), "out_dir", "choose a writable folder")


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs Linux's /proc")
def test_a_place_where_nothing_can_be_made_is_named(workspace: Workspace) -> None:
    refused(workspace.launch("out_dir=/proc/nowhere"), "cannot write /proc/nowhere", "out_dir=...")


def test_a_file_in_the_way_of_the_cache_is_named(workspace: Workspace, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = workspace.run(workspace.tiny(), PGOLF_CACHE=str(tmp_path / "file"))
    refused(done, f"{tmp_path / 'file'} is no folder", "PGOLF_CACHE")


# -- Weights & Biases ------------------------------------------------------------------------------


def closed_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def unreachable() -> dict[str, str | None]:
    """The environment of somebody with a key whose server does not answer."""
    url = f"http://127.0.0.1:{closed_port()}"
    return {"WANDB_BASE_URL": url, "WANDB_API_KEY": "0123456789" * 4, "WANDB_MODE": None}


def test_an_unreachable_server_ends_an_online_run_before_it_begins(workspace: Workspace) -> None:
    before = set(workspace.folder.rglob("*"))
    done = workspace.launch("tracking=wandb", "tracking.mode=online", "seed=77", **unreachable())
    refused(done, "127.0.0.1", "connection refused", "tracking.mode=offline")
    assert set(workspace.folder.rglob("*")) == before


def test_an_unreachable_server_does_not_keep_a_run_from_going_on(
    workspace: Workspace, plain: Done
) -> None:
    done = workspace.launch("ttt=none", "tracking=wandb", **unreachable())
    assert done.result["bpb"]["final"]["nats"] == plain.result["bpb"]["final"]["nats"]
    assert "tracking: W&B offline" in done.stderr and "connection refused" in done.stderr
    assert list((done.folder / "wandb").glob("offline-run-*/*.wandb"))
    assert TINY[1] == "tracking=none"  # and the other tests really run without
