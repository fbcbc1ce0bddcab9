"""Reading documents from files: text, JSON lines, both also compressed, Parquet, or a folder."""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import zstandard

from pgolf.errors import UserError

Report = Callable[[int], object]
BLOCK_BYTES = 1 << 20
PACKED_BYTES = 1 << 16  # of a compressed file at a time, as a little may become much
# Everything behind the text of a document takes several times its memory, so a long text is read as
# several. A book is rarely longer; where it is, its chapters stay in order.
TXT_BYTES = 4_000_000
# A document cannot be cut for its user where it has a place of its own: in a line, or a row.
MOST_BYTES = 64_000_000
# Where a text is cut: behind a blank line, else a line, else a word.
BORDERS = ((b"\n\n", b"\n\r\n"), (b"\n",), (b" ",))
BOM = "\ufeff"  # some editors begin a file with it
FORMATS = (
    ".txt (one document a file, or one for each 4 MB), .jsonl, these as .gz or .zst (.zst alone is "
    ".jsonl.zst), or .parquet (field `text`)"
)


class Document(NamedTuple):
    """A text, and where it comes from: its field `source`, or else the name of its file."""

    text: str
    source: str


def _ignore(num_bytes: int) -> None:
    """Nobody wants to know the progress."""


def find_files(path: Path) -> list[Path]:
    """The files that `read_documents` reads of a path, in its order.

    Of a folder these are the files at any depth that have a known ending, sorted by path; hidden
    ones are left out, links are followed.

    Raises:
        UserError: nothing is there, an ending is unknown, a folder has no such file, or a part of
            it cannot be read.
    """
    if path.is_dir():
        files = sorted(_files_inside(path))
        if not files:
            raise UserError(f"{path}: no document files in this folder; expected {FORMATS}")
        return files
    if not path.exists():
        raise UserError(f"{path}: no such file or folder; give an existing one (data.path=...)")
    if _reader(path) is None:
        raise UserError(f"{path}: unknown ending; expected {FORMATS}, or a folder of these")
    return [path]


def _files_inside(folder: Path) -> Iterator[Path]:
    """Files with a known ending; no folder is entered twice, whatever links there are."""
    seen: set[tuple[int, int]] = set()
    for name, folders, files in os.walk(folder, followlinks=True, onerror=_unreadable):
        found = Path(name)
        status = found.stat()
        if (status.st_dev, status.st_ino) in seen:
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        folders[:] = sorted(part for part in folders if not part.startswith("."))
        for part in files:
            path = found / part
            if part.startswith(".") or _reader(path) is None:
                continue
            if not path.exists():
                raise UserError(f"{path}: a link to nothing; mend it or remove it")
            yield path


def _unreadable(error: OSError) -> None:
    raise UserError(
        f"{error.filename}: this folder cannot be read ({error.strerror}); make it readable"
    ) from error


def read_documents(path: Path, on_read: Report = _ignore) -> Iterator[str]:
    """The texts of `read_records`."""
    return (document.text for document in read_records(path, on_read))


def read_records(path: Path, on_read: Report = _ignore) -> Iterator[Document]:
    """The documents of a file or folder, one after the other, never all in memory.

    Args:
        on_read: told the bytes of the files as they are read, for a progress bar.

    Raises:
        UserError: a path is missing or unreadable, a file is empty, damaged or not UTF-8, a line
            is no JSON object with a text, a document is longer than MOST_BYTES, or there is none
            at all. Names file and place.
    """
    found = False
    for file in find_files(path):
        if file.stat().st_size == 0:
            raise UserError(f"{file}: the file is empty; take it away or fill it")
        reader = _reader(file)
        assert reader is not None
        try:
            for document in reader(file, on_read):
                found = True
                yield document
        except OSError as error:
            raise UserError(
                f"{file}: cannot be read ({error.strerror}); make it readable"
            ) from error
    if not found:
        raise UserError(f"{path}: holds no documents; give a file with at least one")


def _reader(path: Path) -> Callable[[Path, Report], Iterator[Document]] | None:
    name = path.name.lower()
    if name.endswith(".parquet"):
        return _read_parquet
    stem, _, ending = name.rpartition(".")
    blocks = {"zst": _unzstd, "gz": _gunzip}.get(ending, _blocks)
    plain = name if blocks is _blocks else stem
    if plain.endswith(".txt"):
        return lambda file, on_read: _read_txt(file, blocks(file, on_read))
    if plain.endswith(".jsonl") or ending == "zst":
        return lambda file, on_read: _read_json_lines(file, blocks(file, on_read))
    return None


def _name(path: Path) -> str:
    """The source of documents that name none: `news.jsonl.zst` is `news`."""
    return path.name.split(".")[0]


def _read_txt(path: Path, blocks: Iterator[bytes]) -> Iterator[Document]:
    offset, data = 0, bytearray()
    for block in blocks:
        data += block
        while len(data) > TXT_BYTES:
            cut = _place_to_cut(data)
            yield _part_of_txt(data[:cut], path, offset)
            del data[:cut]
            offset += cut
    last = _part_of_txt(data, path, offset)
    if not (last.text or offset):
        raise UserError(f"{path}: the file is empty; take it away or fill it")
    yield last


def _part_of_txt(data: bytearray, path: Path, offset: int) -> Document:
    text = _decode(data, path, offset, "")
    return Document(text if offset else text.removeprefix(BOM), _name(path))


def _place_to_cut(data: bytearray) -> int:
    """Bytes of a long text that become a document: at most TXT_BYTES, about half or more."""
    least = TXT_BYTES // 2
    for borders in BORDERS:
        place = max(data.rfind(border, least, TXT_BYTES) + len(border) for border in borders)
        if place > least:
            return place
    place = TXT_BYTES
    while place > least and data[place] & 0xC0 == 0x80:  # not inside a character
        place -= 1
    return place


def _decode(data: bytes | bytearray, path: Path, offset: int, place: str) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path}{place}: not UTF-8 at byte {offset + error.start} "
            f"(0x{data[error.start]:02x}); convert the file, e.g. with iconv -t UTF-8"
        ) from error


def _blocks(path: Path, on_read: Report, size: int = BLOCK_BYTES) -> Iterator[bytes]:
    with open(path, "rb") as file:
        while block := file.read(size):
            on_read(len(block))
            yield block


def _unzstd(path: Path, on_read: Report) -> Iterator[bytes]:
    # Files made with `zstd --long=31` need a window of 2 GiB, the default allows 128 MiB.
    decompressor = zstandard.ZstdDecompressor(max_window_size=2**31)
    return _decompressed(path, on_read, decompressor.decompressobj, "zstd")


def _gunzip(path: Path, on_read: Report) -> Iterator[bytes]:
    return _decompressed(path, on_read, lambda: zlib.decompressobj(16 + zlib.MAX_WBITS), "gzip")


def _decompressed(
    path: Path, on_read: Report, new_frame: Callable[[], Any], kind: str
) -> Iterator[bytes]:
    # A stream reader would take a cut-off file for a short one, so frames are followed by hand.
    frame, padding = None, b""
    try:
        for block in _blocks(path, on_read, PACKED_BYTES):
            while block := block if frame else block.lstrip(padding):
                frame = frame or new_frame()
                yield frame.decompress(block)
                block, frame = (frame.unused_data, None) if frame.eof else (b"", frame)
                padding = b"\0" if kind == "gzip" else b""  # zeros up to the end of a tape's block
    except (zstandard.ZstdError, zlib.error) as error:
        raise UserError(f"{path}: not readable as {kind} ({error}); copy it again") from error
    if frame is not None:
        raise UserError(f"{path}: cut off, its last {kind} frame does not end; copy it again")


def _read_json_lines(path: Path, blocks: Iterator[bytes]) -> Iterator[Document]:
    offset = 0
    for number, line in enumerate(_lines(blocks), start=1):
        text = _decode(line, path, offset, f", line {number}") if line.strip() else ""
        text = text.removeprefix(BOM) if number == 1 else text
        if text:
            yield _document_of(text, path, number)
        offset += len(line) + 1


def _lines(blocks: Iterator[bytes]) -> Iterator[bytes]:
    pieces: list[bytes] = []
    for block in blocks:
        first, *rest = block.split(b"\n")
        pieces.append(first)
        for line in rest:
            yield b"".join(pieces)
            pieces = [line]
    yield b"".join(pieces)


def _document_of(line: str, path: Path, number: int) -> Document:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise UserError(
            f"{path}, line {number}: no JSON ({error}); each line has to be one object such as "
            '{"text": "..."}'
        ) from error
    record = record if isinstance(record, dict) else {}
    text = _checked(record.get("text"), path, f"line {number}")
    return Document(text, str(record.get("source") or _name(path)))


def _checked(text: Any, path: Path, place: str) -> str:
    """A document's text, which is there, not too long, and can be written as UTF-8."""
    if not isinstance(text, str):
        raise UserError(
            f"{path}, {place}: has no string `text`; each document needs one, e.g. "
            '{"text": "..."}'
        )
    try:
        size = len(text.encode("utf-8"))
    except UnicodeEncodeError as error:
        raise UserError(
            f"{path}, {place}: the text has half a surrogate pair at character {error.start}, "
            "which no UTF-8 can hold; remove or repair it"
        ) from error
    if size > MOST_BYTES:
        raise UserError(
            f"{path}, {place}: a document of {size / 1e6:.1f} MB, which would take gigabytes of "
            f"memory; divide it into several of at most {MOST_BYTES / 1e6:.0f} MB"
        )
    return text


def _read_parquet(path: Path, on_read: Report) -> Iterator[Document]:
    import pyarrow
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path) as file:
            names = file.schema_arrow.names
            if "text" not in names:
                raise UserError(
                    f"{path}: no column `text` among {', '.join(names)}; rename the text's column"
                )
            columns = [name for name in ("text", "source") if name in names]
            num_rows, size, row = file.metadata.num_rows, path.stat().st_size, 0
            for batch in file.iter_batches(batch_size=256, columns=columns):
                for record in batch.to_pylist():
                    row += 1
                    text = _checked(record["text"], path, f"row {row}")
                    yield Document(text, str(record.get("source") or _name(path)))
                on_read(size * len(batch) // num_rows)
    except (pyarrow.ArrowException, UnicodeDecodeError, OSError) as error:
        if isinstance(error, OSError) and error.errno:  # not of the file's content
            raise
        raise UserError(f"{path}: not readable as Parquet ({error}); copy it again") from error
