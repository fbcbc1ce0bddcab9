"""Decoders that packed code is wrapped in, none of which gives back more than a limit."""

from __future__ import annotations

import base64
import binascii
import bz2
import codecs
import lzma
import zlib
from collections.abc import Callable
from typing import Any

MAX_LAYER_BYTES = 8 << 20
# A raw LZMA stream says itself how large a dictionary it wants.
MAX_DICTIONARY_BYTES = 64 << 20


class NotStatic(Exception):  # noqa: N818
    """An expression whose value cannot be had without running the code."""


class TooLarge(Exception):  # noqa: N818
    """A decoder would give more than the limit."""


def _limited(data: bytes) -> bytes:
    if len(data) > MAX_LAYER_BYTES:
        raise TooLarge(f"{MAX_LAYER_BYTES:,}")
    return data


def _zlib(data: bytes, bits: int = zlib.MAX_WBITS) -> bytes:
    return _limited(zlib.decompressobj(bits).decompress(data, MAX_LAYER_BYTES + 1))


def _bz2(data: bytes) -> bytes:
    return _limited(bz2.BZ2Decompressor().decompress(data, MAX_LAYER_BYTES + 1))


def _lzma(data: bytes, form: int = lzma.FORMAT_AUTO, *rest: Any, **options: Any) -> bytes:
    form = options.get("format", form)
    filters = options.get("filters", rest[1] if len(rest) > 1 else None)
    if form != lzma.FORMAT_RAW:
        reader = lzma.LZMADecompressor(form, memlimit=4 * MAX_DICTIONARY_BYTES)
        return _limited(reader.decompress(data, MAX_LAYER_BYTES + 1))
    if not isinstance(filters, list) or not all(isinstance(f, dict) for f in filters):
        raise NotStatic("filters of a raw LZMA stream")
    if any(f.get("dict_size", 0) > MAX_DICTIONARY_BYTES for f in filters):
        raise TooLarge(f"{MAX_DICTIONARY_BYTES:,}")
    reader = lzma.LZMADecompressor(form, filters=filters)
    return _limited(reader.decompress(data, MAX_LAYER_BYTES + 1))


def _brotli(data: bytes) -> bytes:
    import brotli

    reader = brotli.Decompressor()
    found = reader.process(data, output_buffer_limit=MAX_LAYER_BYTES + 1)
    while not reader.is_finished() and len(found) <= MAX_LAYER_BYTES:
        more = reader.process(b"", output_buffer_limit=MAX_LAYER_BYTES + 1 - len(found))
        if not more:
            break
        found += more
    return _limited(found)


def _zstd(data: bytes, *_: Any) -> bytes:
    import zstandard

    with zstandard.ZstdDecompressor(max_window_size=MAX_DICTIONARY_BYTES).stream_reader(data) as r:
        return _limited(r.read(MAX_LAYER_BYTES + 1))


# By the last part of the name and, where that is no more than a verb, the module before it.
DECODERS: dict[str, Callable[..., Any]] = {
    "base64.b85decode": base64.b85decode,
    "base64.a85decode": base64.a85decode,
    "base64.b64decode": base64.b64decode,
    "base64.standard_b64decode": base64.standard_b64decode,
    "base64.urlsafe_b64decode": base64.urlsafe_b64decode,
    "base64.decodebytes": base64.decodebytes,
    "base64.b32decode": base64.b32decode,
    "base64.b16decode": base64.b16decode,
    "binascii.unhexlify": binascii.unhexlify,
    "binascii.a2b_hex": binascii.a2b_hex,
    "binascii.a2b_base64": binascii.a2b_base64,
    "bytes.fromhex": bytes.fromhex,
    "bytearray.fromhex": bytes.fromhex,
    "zlib.decompress": lambda data, wbits=zlib.MAX_WBITS, *_, **o: _zlib(
        data, o.get("wbits", wbits)
    ),
    "gzip.decompress": lambda data: _zlib(data, 31),
    "bz2.decompress": _bz2,
    "lzma.decompress": _lzma,
    "brotli.decompress": _brotli,
    "brotlicffi.decompress": _brotli,
    "zstandard.decompress": _zstd,
    "codecs.decode": lambda data, form="utf-8", *_: _codec(data, form),
    "compile": lambda source, *_, **__: source,
    "bytes": lambda data=b"", *_, **__: bytes(_small(data)),
    "str": lambda data="", *form: str(data, *form) if form else str(data),
    "reversed": lambda data: data[::-1],
}
CONSTANTS = {f"lzma.{name}": getattr(lzma, name) for name in dir(lzma) if name.isupper()}


def _small(value: Any) -> Any:
    """`bytes(n)` would make n zeros."""
    if isinstance(value, int):
        raise NotStatic("bytes of a length")
    return value


def _codec(data: Any, form: str) -> Any:
    if form not in (
        "utf-8",
        "utf8",
        "ascii",
        "latin-1",
        "latin1",
        "rot13",
        "rot_13",
        "hex",
        "base64",
    ):
        raise NotStatic(f"codec {form}")
    return codecs.decode(data, form)
