"""A wrapped program does the same as its original, whatever bytes its compressed form has."""

from __future__ import annotations

import random
import zlib
from pathlib import Path

import pytest

from pgolf.audit.records.unpack import unpack
from pgolf.bundle.wrap import _quoted, wrap
from tests.bundle.packages import output_of_file
from tests.bundle.test_minify import PROGRAM


@pytest.mark.parametrize("codec", ["lzma", "brotli"])
def test_a_wrapped_program_does_the_same(codec: str, tmp_path: Path) -> None:
    source = PROGRAM + "\n" + "".join(f"value_{i} = {i}\n" for i in range(300))
    plain, short = tmp_path / "plain.py", tmp_path / "short.py"
    plain.write_text(source)
    short.write_bytes(wrap(source, codec))
    assert output_of_file(short) == output_of_file(plain)
    assert short.stat().st_size < plain.stat().st_size / 2


@pytest.mark.parametrize("codec", ["lzma", "brotli"])
def test_the_auditor_lays_a_wrapped_program_open(codec: str) -> None:
    layers, problems = unpack(wrap(PROGRAM, codec).decode("latin1"))
    assert [layer.text for layer in layers[1:]] == [PROGRAM] and problems == []


def test_equal_programs_are_equal_bytes() -> None:
    assert wrap(PROGRAM, "lzma") == wrap(PROGRAM, "lzma")


def test_all_bytes_come_back_from_a_file(tmp_path: Path) -> None:
    noise = random.Random(0).randbytes(100_000)
    hard = b"".join(b"\0" + bytes([i]) + b"\\\r\n'" + b"'" * (i % 5) for i in range(256))
    for data in (noise, hard, b"'", b"''''", b"\0", b"\\", b"7\0007"):
        text = b"#coding:latin1\nimport zlib\ns='''" + _quoted(data) + b"'''.encode('latin1')\n"
        path = tmp_path / "data.py"
        path.write_bytes(text + b"print(len(s), zlib.crc32(s))\n")
        assert output_of_file(path) == f"{len(data)} {zlib.crc32(data)}\n"
    assert len(_quoted(noise)) < 1.015 * len(noise)
