"""`codec=zstd`: quick, and on int6 codes within half a percent of brotli."""

from __future__ import annotations

import zstandard

from pgolf.errors import UserError


class ZstdCodec:
    """Zstandard (RFC 8878).

    Args:
        level: 1 (fast) to 22 (small).

    Raises:
        UserError: a value outside its range.
    """

    name = "zstd"

    def __init__(self, *, level: int = 19) -> None:
        if not 1 <= level <= 22:
            raise UserError(f"codec.level={level}: zstd takes 1 to 22")
        self.level = level

    def encode(self, data: bytes) -> bytes:
        return zstandard.ZstdCompressor(level=self.level, write_checksum=False).compress(data)

    def decode(self, data: bytes, num_bytes: int) -> bytes:
        return zstandard.ZstdDecompressor().stream_reader(data).read(num_bytes + 1)
