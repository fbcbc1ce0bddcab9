"""Reading documents from files: .txt, .jsonl, .jsonl.zst, .parquet, or a folder of these."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import zstandard

from pgolf.errors import UserError

Report = Callable[[int], object]
BLOCK_BYTES = 1 << 20
FORMATS = ".txt (one document a file), .jsonl, .jsonl.zst or .parquet (field `text`)"


class Document(NamedTuple):
    """A text, and where it comes from: its field `source`, or else the name of its file."""

    text: str
    source: str


def _ignore(num_bytes: int) -> None:
    """Nobody wants to know the progress."""


def find_files(path: Path) -> list[Path]:
    """The files that `read_documents` reads of a path, in its order.

    Of a folder these are the files at any depth that have a known ending, sorted by path; hidden
    ones are left out.

    Raises:
        UserError: nothing is there, an ending is unknown, or a folder has no readable file.
    """
    if path.is_dir():
        inside = (p for p in sorted(path.rglob("*")) if p.is_file() and _reader(p) is not None)
        files = [p for p in inside if not any(s.startswith(".") for s in p.relative_to(path).parts)]
        if not files:
            raise UserError(f"{path}: no document files in this folder; expected {FORMATS}")
        return files
    if not path.exists():
        raise UserError(f"{path}: no such file or folder; give an existing one (data.path=...)")
    if _reader(path) is None:
        raise UserError(f"{path}: unknown ending; expected {FORMATS}, or a folder of these")
    return [path]


def read_documents(path: Path, on_read: Report = _ignore) -> Iterator[str]:
    """The texts of `read_records`."""
    return (document.text for document in read_records(path, on_read))


def read_records(path: Path, on_read: Report = _ignore) -> Iterator[Document]:
    """The documents of a file or folder, one after the other, never all in memory.

    Args:
        on_read: told the bytes of the files as they are read, for a progress bar.

    Raises:
        UserError: a path is missing or unreadable, a file is empty, damaged or not UTF-8, a line
            is no JSON object with a text, or there is no document at all. Names file and place.
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
                f"{file}: cannot be read ({error.strerror or error}); make it readable"
            ) from error
    if not found:
        raise UserError(f"{path}: holds no documents; give a file with at least one")


def _reader(path: Path) -> Callable[[Path, Report], Iterator[Document]] | None:
    name = path.name.lower()
    if name.endswith(".txt"):
        return _read_txt
    if name.endswith(".jsonl"):
        return lambda file, on_read: _read_json_lines(file, _blocks(file, on_read))
    if name.endswith(".jsonl.zst"):
        return lambda file, on_read: _read_json_lines(file, _decompressed(file, on_read))
    return _read_parquet if name.endswith(".parquet") else None


def _name(path: Path) -> str:
    """The source of documents that name none: `news.jsonl.zst` is `news`."""
    return path.name.split(".")[0]


def _read_txt(path: Path, on_read: Report) -> Iterator[Document]:
    data = path.read_bytes()
    on_read(len(data))
    yield Document(_decode(data, path, 0, ""), _name(path))


def _decode(data: bytes, path: Path, offset: int, place: str) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path}{place}: not UTF-8 at byte {offset + error.start} "
            f"(0x{data[error.start]:02x}); convert the file, e.g. with iconv -t UTF-8"
        ) from error


def _blocks(path: Path, on_read: Report) -> Iterator[bytes]:
    with open(path, "rb") as file:
        while block := file.read(BLOCK_BYTES):
            on_read(len(block))
            yield block


def _decompressed(path: Path, on_read: Report) -> Iterator[bytes]:
    # Files made with `zstd --long=31` need a window of 2 GiB, the default allows 128 MiB. A stream
    # reader would take a cut-off file for a short one, so frames are followed by hand.
    decompressor = zstandard.ZstdDecompressor(max_window_size=2**31)
    frame = None
    try:
        for block in _blocks(path, on_read):
            while block:
                frame = frame or decompressor.decompressobj()
                yield frame.decompress(block)
                block, frame = (frame.unused_data, None) if frame.eof else (b"", frame)
    except zstandard.ZstdError as error:
        raise UserError(f"{path}: not readable as zstd ({error}); copy it again") from error
    if frame is not None:
        raise UserError(f"{path}: cut off, its last zstd frame does not end; copy it again")


def _read_json_lines(path: Path, blocks: Iterator[bytes]) -> Iterator[Document]:
    offset = 0
    for number, line in enumerate(_lines(blocks), start=1):
        if line.strip():
            yield _document_of(_decode(line, path, offset, f", line {number}"), path, number)
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
    """A document's text, which is there and can be written as UTF-8."""
    if not isinstance(text, str):
        raise UserError(
            f"{path}, {place}: has no string `text`; each document needs one, e.g. "
            '{"text": "..."}'
        )
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise UserError(
            f"{path}, {place}: the text has half a surrogate pair at character {error.start}, "
            "which no UTF-8 can hold; remove or repair it"
        ) from error
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
    except (pyarrow.ArrowException, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not readable as Parquet ({error}); copy it again") from error
