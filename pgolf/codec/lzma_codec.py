"""`codec=lzma`: of the standard library, to compare with; on int6 codes 4% larger than brotli."""

from __future__ import annotations

import lzma

from pgolf.errors import UserError

MEMORY_BYTES = 1 << 27  # the dictionary of preset 9 is half of it


class LzmaCodec:
    """LZMA in the old container, whose header is the smallest; the artifact has its own checksum.

    Args:
        preset: 0 (fast) to 9 (small).
        extreme: search longer.

    Raises:
        UserError: a value outside its range.
    """

    name = "lzma"

    def __init__(self, *, preset: int = 9, extreme: bool = True) -> None:
        if not 0 <= preset <= 9:
            raise UserError(f"codec.preset={preset}: lzma takes 0 to 9")
        self.preset = preset | (lzma.PRESET_EXTREME if extreme else 0)

    def encode(self, data: bytes) -> bytes:
        return lzma.compress(data, lzma.FORMAT_ALONE, preset=self.preset)

    def decode(self, data: bytes, num_bytes: int) -> bytes:
        reader = lzma.LZMADecompressor(lzma.FORMAT_ALONE, memlimit=MEMORY_BYTES)
        decoded = reader.decompress(data, num_bytes + 1)
        if not reader.eof:
            raise ValueError(f"cut off, or more than {num_bytes:,} bytes")
        return decoded
