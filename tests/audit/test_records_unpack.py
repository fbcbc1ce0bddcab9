"""Packed code is laid open layer by layer, never run, and never grows without limit."""

from __future__ import annotations

import base64
import bz2
import gzip
import lzma
import resource
import zlib
from collections.abc import Callable
from pathlib import Path

import brotli
import pytest
import zstandard

from pgolf.audit.records.unpack import MAX_LAYERS, unpack

SOURCE = "import os\nvalue = 41 + 1\nprint('ä', value)\n"
RAW = [{"id": lzma.FILTER_LZMA2}]


def raw_lzma(data: bytes) -> bytes:
    return lzma.compress(data, format=lzma.FORMAT_RAW, filters=RAW)


def packed(data: bytes, template: str, encode: Callable[[bytes], bytes] = base64.b85encode) -> str:
    return template.replace("DATA", repr(encode(data).decode()))


WRAPPERS = {
    "raw lzma in base85": (
        raw_lzma,
        "import lzma as L,base64 as B\n"
        'exec(L.decompress(B.b85decode(DATA),format=L.FORMAT_RAW,filters=[{"id":L.FILTER_LZMA2}]))',
        base64.b85encode,
    ),
    "lzma with an alias": (
        lzma.compress,
        "from base64 import b64decode as d\nimport lzma\nu = lzma.decompress\nx = DATA\n"
        "run = exec\nrun(u(d(x)))",
        base64.b64encode,
    ),
    "zlib by __import__": (
        zlib.compress,
        "exec(__import__('zlib').decompress(__import__('base64').b85decode(DATA.encode())).decode())",
        base64.b85encode,
    ),
    "gzip, compiled": (
        gzip.compress,
        "import gzip, base64\nexec(compile(gzip.decompress(base64.b64decode(DATA)), 'f', 'exec'))",
        base64.b64encode,
    ),
    "bz2 and hex": (
        bz2.compress,
        "import bz2\nexec(bz2.decompress(bytes.fromhex(DATA)), globals())",
        lambda data: data.hex().encode(),
    ),
    "brotli": (
        brotli.compress,
        "import brotli as b, base64\nexec(b.decompress(base64.a85decode(DATA)))",
        base64.a85encode,
    ),
    "zstandard": (
        zstandard.compress,
        "import zstandard, base64\nexec(zstandard.decompress(base64.b85decode(DATA)))",
        base64.b85encode,
    ),
    "backwards and in pieces": (
        lambda data: zlib.compress(data)[::-1],
        "import zlib, base64\na, b = '', DATA\n"
        "exec(zlib.decompress(base64.b85decode(a + ''.join([b]))[::-1]))",
        base64.b85encode,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", WRAPPERS)
def test_every_wrapping_is_opened(name: str) -> None:
    compress, template, encode = WRAPPERS[name]
    layers, problems = unpack(packed(compress(SOURCE.encode()), template, encode))
    assert problems == []
    assert [layer.text for layer in layers[1:]] == [SOURCE]


def test_nested_layers_are_all_opened_and_endless_ones_are_not() -> None:
    compress, template, encode = WRAPPERS["zlib by __import__"]
    text = SOURCE
    for _ in range(3):
        text = packed(compress(text.encode()), template, encode)
    layers, problems = unpack(text)
    assert len(layers) == 4 and layers[-1].text == SOURCE and problems == []
    for _ in range(MAX_LAYERS):
        text = packed(compress(text.encode()), template, encode)
    layers, problems = unpack(text)
    assert len(layers) == 1 + MAX_LAYERS and "more than" in problems[0]


def test_plain_code_is_one_layer() -> None:
    layers, problems = unpack(SOURCE)
    assert [layer.text for layer in layers] == [SOURCE] and problems == []
    layers, problems = unpack("this is no Python")
    assert layers[0].tree is None and problems == []


@pytest.mark.parametrize(
    ("compress", "template", "encode"),
    [WRAPPERS[name] for name in WRAPPERS if "back" not in name],
    ids=[name for name in WRAPPERS if "back" not in name],
)
def test_a_bomb_is_named_and_stays_small(
    compress: Callable[[bytes], bytes], template: str, encode: Callable[[bytes], bytes]
) -> None:
    bomb = packed(compress(b"#" * (64 << 20)), template, encode)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    layers, problems = unpack(bomb)
    assert len(layers) == 1 and "bomb" in problems[0], problems
    # Making the bomb took more than opening it may.
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 40_000


@pytest.mark.parametrize(
    "huge", ["bytes(10**10)", "'a' * 10**10", "'ab'.replace('a', 'b' * 10**9)", "[] | {}"]
)
def test_expressions_that_would_fill_memory_are_not_evaluated(huge: str) -> None:
    _, problems = unpack(f"x = 1\nexec('x = 2')\ngetattr(__builtins__, 'exec')({huge})")
    assert "cannot be read" in problems[0]


def test_code_is_never_run(tmp_path: Path) -> None:
    target = tmp_path / "precious"
    target.write_text("here")
    evil = f"import os\nos.remove({str(target)!r})\n"
    compress, template, encode = WRAPPERS["zlib by __import__"]
    for text in (
        packed(compress(evil.encode()), template, encode),
        f"exec(__import__('os').system('rm {target}'))",
        f"exec((lambda: __import__('os').remove({str(target)!r}))())",
        f"import os\nx = os.remove({str(target)!r})\nexec(x)",
        f"exec(str(open({str(target)!r}, 'w')))",
    ):
        unpack(text)
        assert target.read_text() == "here"


@pytest.mark.parametrize(
    "text",
    [
        "import sys\nexec(sys.argv[1])",
        "exec(open('other.py').read())",
        "x = 'a'\nx = 'b'\nexec(x)",
        "import zlib\nexec(zlib.decompress(b'broken'))",
        "exec(b'\\xff\\xfe(')",
    ],
)
def test_what_cannot_be_read_is_said(text: str) -> None:
    layers, problems = unpack(text)
    assert len(layers) == 1 and "cannot be read without running" in problems[0]


def test_deep_nesting_does_no_harm() -> None:
    assert unpack("(" * 100_000)[0][0].tree is None
    _, problems = unpack("exec(" + "str(" * 80 + "'1'" + ")" * 80 + ")")
    assert "nested too deeply" in problems[0]
