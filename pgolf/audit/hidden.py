"""Bytes inside bytes: what shipped files hold once they are unpacked from usual formats."""

from __future__ import annotations

import ast
import base64
import binascii
import bz2
import io
import lzma
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import brotli
import zstandard

MAX_BYTES = 1 << 26
# Strings in code that are too short for text worth hiding.
MIN_CONSTANT = 64
DEPTH = 5


def contents(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Name and bytes of each file, of what it unpacks to, and of long constants in its code."""
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            yield from unpacked(path.name, path.read_bytes(), DEPTH)


def unpacked(name: str, data: bytes, depth: int) -> Iterator[tuple[str, bytes]]:
    """The bytes themselves, then all that they turn into."""
    yield name, data
    if not depth:
        return
    if zipfile.is_zipfile(io.BytesIO(data)):
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            for member in archive.infolist():
                if member.file_size <= MAX_BYTES:
                    inside = archive.read(member)
                    yield from unpacked(f"{name}/{member.filename}", inside, depth - 1)
        return
    if name.endswith(".py"):
        for line, constant in _constants(data):
            yield from unpacked(f"{name}:{line}", constant, depth - 1)
        return
    for how, decode in DECODERS.items():
        try:
            inside = decode(data)
        except Exception:  # it is not of that format, which every library says in another way
            continue
        if inside and inside != data:
            yield from unpacked(f"{name} ({how})", inside, depth - 1)


def _constants(source: bytes) -> Iterator[tuple[int, bytes]]:
    """Long strings and bytes, and lists of numbers, of Python source."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str | bytes):
            value = node.value
            raw = value.encode("utf-8", "surrogatepass") if isinstance(value, str) else value
            if len(raw) >= MIN_CONSTANT:
                yield node.lineno, raw
        elif isinstance(node, ast.List | ast.Tuple) and len(node.elts) >= MIN_CONSTANT // 2:
            numbers = [e.value for e in node.elts if isinstance(e, ast.Constant)]
            whole = [n for n in numbers if isinstance(n, int) and 0 <= n < 1 << 16]
            yield node.lineno, b"".join(n.to_bytes(2, "little") for n in whole)


def _inflate(data: bytes) -> bytes:
    return zlib.decompressobj(47).decompress(data, MAX_BYTES)  # zlib's header or gzip's


def _zstd(data: bytes) -> bytes:
    return zstandard.ZstdDecompressor().decompressobj().decompress(data)


def _brotli(data: bytes) -> bytes:
    decoded: bytes = brotli.decompress(data)
    return decoded


def _hex(data: bytes) -> bytes:
    return binascii.unhexlify(data.strip())


DECODERS: dict[str, Callable[[bytes], bytes]] = {
    "zlib": _inflate,
    "bz2": lambda data: bz2.BZ2Decompressor().decompress(data, MAX_BYTES),
    "lzma": lambda data: lzma.LZMADecompressor().decompress(data, MAX_BYTES),
    "zstd": _zstd,
    "brotli": _brotli,
    "hex": _hex,
    "base64": lambda data: base64.b64decode(data.strip(), validate=True),
    "base85": lambda data: base64.b85decode(data.strip()),
    "ascii85": lambda data: base64.a85decode(data.strip()),
}
