"""A program as a short one that holds it compressed, unpacks it and runs it."""

from __future__ import annotations

import lzma
import re

import brotli

# Of this kind of data these settings give the fewest bytes; to decode, LZMA2 needs none of them.
FILTERS = [{"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "lc": 3, "pb": 0}]
OPTIONS = {
    "brotli": "",
    "lzma": f",format={int(lzma.FORMAT_RAW)},filters=[{{'id':{lzma.FILTER_LZMA2}}}]",
}

# Functions keep their source, which compilers read.
_PROGRAM = """#coding:latin1
import linecache,{codec} as c
s=c.decompress('''{text}'''.encode('latin1'){options})
f='train_gpt_unpacked.py'
linecache.cache[f]=len(s),None,s.decode().splitlines(True),f
exec(compile(s,f,'exec'))
"""


def wrap(source: str, codec: str) -> bytes:
    """A program that does as its source does, as the bytes of its file.

    The data stand in it as they are, each byte a letter of Latin-1.

    Args:
        codec: "lzma" or "brotli".
    """
    data = source.encode()
    if codec == "lzma":
        packed = lzma.compress(data, lzma.FORMAT_RAW, filters=FILTERS)
    else:
        packed = brotli.compress(data, quality=11, lgwin=24)
    text = _quoted(packed).decode("latin1")
    return _PROGRAM.format(codec=codec, text=text, options=OPTIONS[codec]).encode("latin1")


def _quoted(data: bytes) -> bytes:
    """What gives these bytes between three quotes: what Python would read otherwise is changed."""
    data = data.replace(b"\\", b"\\\\").replace(b"\r", b"\\r")
    data = re.sub(rb"\0(?=[0-7])", rb"\\x00", data).replace(b"\0", rb"\0")
    return re.sub(rb"'(?='')|'$", rb"\\'", data)
