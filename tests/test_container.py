"""Artifact files that are damaged, from a newer pgolf, or say what no artifact may say."""

from __future__ import annotations

import hashlib
import json
import zlib
from pathlib import Path
from typing import Any

import pytest

from pgolf.artifact import FILE, build_model, read_artifact, write_artifact
from pgolf.container import MAX_HEADER_BYTES, REST, START, join
from pgolf.errors import UserError
from tests.artifact_files import FAST, RICH_CODES, SOME_CODES, equal, write


def test_every_flipped_byte_and_every_truncation_is_refused(tmp_path: Path) -> None:
    file = write(tmp_path)
    whole = file.read_bytes()
    damaged = [whole[:i] + bytes([whole[i] ^ 0x10]) + whole[i + 1 :] for i in range(len(whole))]
    damaged += [whole[:length] for length in range(len(whole))]
    damaged += [whole + b"\0", whole.replace(b"\r\n", b"\n")]
    for data in damaged:
        file.write_bytes(data)
        with pytest.raises(UserError, match=r"model\.pgolf: .*copy it again"):
            read_artifact(tmp_path)


def resign(data: bytes) -> bytes:
    """The same file with a checksum that fits."""
    rest = data[START.size :]
    return data[:8] + hashlib.sha256(rest).digest() + rest


def test_a_newer_format_says_to_upgrade(tmp_path: Path) -> None:
    file = write(tmp_path)
    data = bytearray(file.read_bytes())
    data[START.size] = 5
    file.write_bytes(resign(bytes(data)))
    with pytest.raises(UserError, match=r"format version 5.*upgrade pgolf"):
        read_artifact(file)


@pytest.mark.parametrize("version", [1, 2, 3])
def test_files_of_older_formats_are_read(tmp_path: Path, version: int) -> None:
    """Codecs of bytes and plain codes have not changed since."""
    file = write(tmp_path)
    data = bytearray(file.read_bytes())
    data[START.size] = version
    file.write_bytes(resign(bytes(data)))
    artifact = read_artifact(file)
    assert equal(artifact.codes, SOME_CODES) and artifact.format_version == version
    plain = {"name", "shape", "bits"}
    assert all(set(tensor) == plain for tensor in header_of(file)[0]["tensors"])


def header_of(file: Path) -> tuple[dict[str, Any], bytes]:
    data = file.read_bytes()
    _, length = REST.unpack_from(data, START.size)
    first = START.size + REST.size
    return json.loads(zlib.decompress(data[first : first + length])), data[first + length :]


def set_tensor(index: int, **values: Any) -> Any:
    return lambda header: header["tensors"][index].update(values)


HOSTILE: dict[str, Any] = {
    "huge shape": set_tensor(0, shape=[10**9, 10**9]),
    "huge in all": lambda h: h["tensors"].extend(
        {"name": f"x{i}", "shape": [2**30, 2], "bits": 8} for i in range(9)
    ),
    "absurd number": set_tensor(1, shape=[10**40]),
    "negative size": set_tensor(1, shape=[-3]),
    "size that is no number": set_tensor(1, shape=["3"]),
    "size that is a truth": set_tensor(1, shape=[True]),
    "many dimensions": set_tensor(1, shape=[1] * 99),
    "other shape": set_tensor(0, shape=[7, 7]),
    "nine bits": set_tensor(0, bits=9),
    "codes of one dimension": set_tensor(0, shape=[35]),
    "fewer bits than its codes need": lambda h: [set_tensor(i, bits=5)(h) for i in (0, 3)],
    "one name twice": set_tensor(1, name="a.weight"),
    "no name": lambda h: h["tensors"][0].pop("name"),
    "no tensors": lambda h: h.pop("tensors"),
    "tensor that is a number": lambda h: h.update(tensors=[3]),
    "no streams": lambda h: h.update(streams={}),
    "negative chunk": lambda h: h["streams"].update(codes6=[-1]),
    "longer chunk": lambda h: h["streams"].update(codes6=[10**12]),
    "cut elsewhere": lambda h: h["streams"].update(codes6=[1, h["streams"]["codes6"][0] - 1]),
    "codec of another package": lambda h: h.update(codec="pgolf.quant.none.NoQuantizer"),
    "codec that a module imports": lambda h: h.update(codec="pgolf.codec.brotli_codec.UserError"),
    "codec of a library": lambda h: h.update(codec="os.system"),
    "codec that is missing": lambda h: h.update(codec="pgolf.codec.newer_codec.NewerCodec"),
    "codec that is a number": lambda h: h.update(codec=3),
    "model that is a list": lambda h: h.update(model=[1, 2, 3]),
}


@pytest.mark.parametrize("change", HOSTILE.values(), ids=HOSTILE)
def test_a_header_that_does_not_fit_is_refused(tmp_path: Path, change: Any) -> None:
    file = write(tmp_path)
    header, payload = header_of(file)
    change(header)
    file.write_bytes(join(header, [payload]))
    with pytest.raises(UserError, match=r"model\.pgolf: "):
        read_artifact(file)


RICH: dict[str, Any] = {
    "three states": set_tensor(0, states=3),
    "states that are no number": set_tensor(0, states="8"),
    "states that are a list": set_tensor(0, states=[8]),
    "columns that are a number": set_tensor(0, columns=1),
    "no columns": set_tensor(0, columns=False),
    "columns of fp16": set_tensor(1, columns=True),
    "states of fp16": set_tensor(1, states=4),
    "negative rank": set_tensor(0, rank=-2),
    "rank that is a truth": set_tensor(0, rank=True),
    "other rank": set_tensor(0, rank=3),
    "huge rank": set_tensor(0, rank=2**32),
    "absurd rank": set_tensor(0, rank=10**40),
    "rank without bits": lambda h: h["tensors"][0].pop("factor_bits"),
    "bits without rank": lambda h: h["tensors"][0].pop("rank"),
    "nine bits of factors": set_tensor(0, factor_bits=9),
    "fewer bits than factors need": set_tensor(0, factor_bits=2),
    "factors of fp16": set_tensor(1, rank=1, factor_bits=4),
    "columns left out": lambda h: h["tensors"][0].pop("columns"),
    "columns of nobody": set_tensor(5, columns="x.weight"),
    "columns of fp16 numbers": set_tensor(5, columns="b"),
    "columns of itself": set_tensor(5, columns="f.weight"),
    "columns of no name": set_tensor(5, columns=""),
    "columns of a narrower matrix": set_tensor(5, columns="a.weight"),
    "columns of a list": set_tensor(5, columns=["d.weight"]),
    "narrower groups": set_tensor(6, group_columns=2),
    "groups as wide as the matrix": set_tensor(4, group_columns=4),
    "absurd groups": set_tensor(4, group_columns=10**40),
    "negative groups": set_tensor(6, group_columns=-3),
    "groups that are a truth": set_tensor(6, group_columns=True),
    "groups that are no number": set_tensor(6, group_columns="3"),
    "groups of fp16": set_tensor(1, group_columns=1),
    "groups of a scalar": set_tensor(1, shape=[], group_columns=0),
    "groups left out": lambda h: h["tensors"][6].pop("group_columns"),
    "groups where there are none": set_tensor(2, group_columns=2),
    "columns of a later matrix": lambda h: h["tensors"][0].update(columns="d.weight"),
}


@pytest.mark.parametrize("change", RICH.values(), ids=RICH)
def test_a_representation_that_does_not_exist_is_refused(tmp_path: Path, change: Any) -> None:
    file = write(tmp_path, RICH_CODES)
    header, payload = header_of(file)
    assert header["tensors"][0]["rank"] == 2 and equal(read_artifact(file).codes, RICH_CODES)
    change(header)
    file.write_bytes(join(header, [payload]))
    with pytest.raises(UserError, match=r"model\.pgolf: "):
        read_artifact(file)


@pytest.mark.parametrize(
    "packed",
    [b"", b"no zlib", zlib.compress(b"[]"), zlib.compress(b"{"), zlib.compress(b"[" * 10**6),
     zlib.compress(b" " * (MAX_HEADER_BYTES + 1)), zlib.compress(b'{"a": "\xff"}')],
    ids=["empty", "no zlib", "list", "cut", "nested", "bomb", "no text"],
)  # fmt: skip
def test_a_header_that_is_none_is_refused(tmp_path: Path, packed: bytes) -> None:
    file = tmp_path / FILE
    rest = REST.pack(1, len(packed)) + packed
    file.write_bytes(resign(START.pack(b"PGOLF\r\n\x1a", b"") + rest))
    with pytest.raises(UserError, match=r"model\.pgolf: .*header"):
        read_artifact(file)


@pytest.mark.parametrize("target", [
    "os.system", "pgolf.model.recurrent.torch.jit.ScriptModule", "pgolf.model.recurrent.nn.Linear",
    "pgolf.model.recurrent.UserError", "pgolf.model", "pgolf.model.nothing.Model",
    "pgolf.model..os.system", "pgolf.modelx.A", "pgolf.artifact.Artifact", 3, None,
])  # fmt: skip
@pytest.mark.parametrize("nested", [False, True])
def test_a_target_outside_the_models_is_refused(tmp_path: Path, target: Any, nested: bool) -> None:
    file = write(tmp_path)
    header, payload = header_of(file)
    if nested:
        header["model"]["block"] = [{"deep": {"_target_": target}}]
    else:
        header["model"]["_target_"] = target
    file.write_bytes(join(header, [payload]))
    with pytest.raises(UserError, match=r"no class of pgolf\.model"):
        build_model(read_artifact(file))
    with pytest.raises(UserError, match=r"no class of pgolf\.model"):
        write_artifact(tmp_path, header["model"], SOME_CODES, FAST, "f")
