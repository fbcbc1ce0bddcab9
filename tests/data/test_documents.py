"""Reading documents: every format gives back the texts, every fault names file and place."""

from __future__ import annotations

import gzip
import itertools
import json
import os
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from pgolf.data.documents import find_files, read_documents, read_records
from pgolf.errors import UserError
from tests.data.samples import write_jsonl

TEXTS = ["plain", "", "häßlich\r\n\ttwo\u2028lines\x00", "😀 ▁ \ue001", "last\n"]


def write(path: Path, texts: list[str] = TEXTS) -> Path:
    lines = "".join(json.dumps({"text": text, "id": 1}) + "\n" for text in texts).encode()
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(lines[:30]) + gzip.compress(lines[30:]))
    elif path.name.endswith(".zst"):
        path.write_bytes(zstandard.compress(lines))
    elif path.suffix == ".parquet":
        parquet.write_table(pa.table({"id": [1] * len(texts), "text": texts}), path)
    else:
        path.write_bytes(lines)
    return path


NAMES = ["a.jsonl", "a.jsonl.zst", "a.zst", "a.jsonl.gz", "a.parquet", "A.JSONL"]


@pytest.mark.parametrize("name", NAMES)
def test_formats_give_back_the_texts(tmp_path: Path, name: str) -> None:
    path, read = write(tmp_path / name), []
    assert list(read_documents(path, read.append)) == TEXTS
    assert sum(read) == path.stat().st_size


def test_a_txt_file_is_one_document_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(TEXTS[2].encode())
    assert list(read_documents(path)) == [TEXTS[2]]


@pytest.mark.parametrize(
    ("name", "pack"), [("a.txt.zst", zstandard.compress), ("a.txt.gz", gzip.compress)]
)
def test_compressed_txt_is_one_document(tmp_path: Path, name: str, pack: Callable) -> None:
    (tmp_path / name).write_bytes(pack(TEXTS[2].encode()))
    assert list(read_records(tmp_path)) == [(TEXTS[2], "a")]


def test_zeros_behind_a_gzip_frame_are_padding(tmp_path: Path) -> None:
    frames = gzip.compress(b'{"text": "a"}\n') + gzip.compress(b'{"text": "b"}\n')
    (tmp_path / "a.jsonl.gz").write_bytes(frames + bytes(100_000))
    assert list(read_documents(tmp_path)) == ["a", "b"]


@pytest.mark.parametrize("name", ["a.txt", "a.jsonl", "a.jsonl.gz"])
def test_a_byte_order_mark_is_no_text(tmp_path: Path, name: str) -> None:
    data = "\ufeff".encode() + (b"text" if name == "a.txt" else b'{"text": "text"}\n')
    (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    assert list(read_documents(tmp_path)) == ["text"]
    (tmp_path / name).unlink()
    (tmp_path / "b.jsonl").write_bytes(b'\xef\xbb\xbf\n{"text": "\xff"}')
    with pytest.raises(UserError, match=r"line 2: not UTF-8 at byte 14"):
        list(read_documents(tmp_path))


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.sampled_from(["\n\n", "\r\n", "\n", " ", "word", "\u65e5\U0001f642", "\xe9"])),
    st.integers(4, 30),
)
def test_a_long_txt_is_several_documents(tmp_path: Path, parts: list[str], most: int) -> None:
    """Together they are the file; each is bounded, and cut as late as the best border allows."""
    text = "".join(parts) + "."
    (tmp_path / "a.txt").write_bytes(text.encode())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pgolf.data.documents.TXT_BYTES", most)
        found = list(read_documents(tmp_path))
    assert "".join(found) == text
    assert all(most // 2 - 3 <= len(part.encode()) <= most for part in found[:-1])
    assert len(found[-1].encode()) <= most
    for part, rest in itertools.pairwise(found):
        both = (part.encode() + rest.encode())[:most]
        if b"\n\n" in both[most // 2 :] or b"\n\r\n" in both[most // 2 :]:
            assert part.endswith(("\n\n", "\n\r\n"))
        elif b"\n" in both[most // 2 :]:
            assert part.endswith("\n")


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=1))
def test_any_text_survives_json_lines(tmp_path: Path, texts: list[str]) -> None:
    for ensure_ascii in (True, False):
        path = tmp_path / "a.jsonl"
        lines = (json.dumps({"text": text}, ensure_ascii=ensure_ascii) for text in texts)
        path.write_bytes("\n".join(lines).encode())
        assert list(read_documents(path)) == texts


def test_last_line_needs_no_end_and_blank_lines_are_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'\n{"text": "a"}\r\n  \n{"text": "b"}')
    assert list(read_documents(path)) == ["a", "b"]


def test_a_folder_is_read_in_order_of_paths(tmp_path: Path) -> None:
    for name in ("b/a.txt", "a.txt", "b.jsonl", ".hidden/c.txt", "README.md", "c/d/e.parquet"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True, parents=True)
        if path.suffix in (".jsonl", ".parquet"):
            write(path, [name])
        else:
            path.write_text(name, encoding="utf-8")
    found = [path.relative_to(tmp_path).as_posix() for path in find_files(tmp_path)]
    assert found == ["a.txt", "b/a.txt", "b.jsonl", "c/d/e.parquet"]
    assert list(read_documents(tmp_path)) == found


def test_long_windows_and_several_frames_of_zstd(tmp_path: Path) -> None:
    lines = [json.dumps({"text": text}).encode() + b"\n" for text in ("a" * 300, "b")]
    long = zstandard.ZstdCompressionParameters.from_level(1, window_log=28, enable_ldm=True)
    stream = zstandard.ZstdCompressor(compression_params=long).compressobj()
    path = tmp_path / "a.jsonl.zst"
    first = stream.compress(lines[0]) + stream.flush()
    path.write_bytes(first + zstandard.compress(lines[1]))
    assert list(read_documents(path)) == ["a" * 300, "b"]


@pytest.mark.parametrize("kept", [1, 10, 200])
@pytest.mark.parametrize("name", ["a.jsonl.zst", "a.jsonl.gz"])
def test_cut_off_files_are_errors_and_not_less_text(tmp_path: Path, kept: int, name: str) -> None:
    path = write(tmp_path / name, [str(i) * 50 for i in range(2000)])
    path.write_bytes(path.read_bytes()[:-kept])
    with pytest.raises(UserError, match=rf"{name}.*copy it again"):
        list(read_documents(path))


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.txt", b"", "the file is empty"),
        ("a.jsonl", b"", "the file is empty"),
        ("a.txt.gz", gzip.compress(b"", mtime=0), "the file is empty"),
        ("a.txt", "\ufeff".encode(), "the file is empty"),
        ("a.jsonl", b"\n\n", "holds no documents"),
        ("a.txt", b"good \xff bad", r"not UTF-8 at byte 5 \(0xff\)"),
        ("a.jsonl", b'{"text": "a"}\n{"text": "\xff"}', r"line 2: not UTF-8 at byte 24 \(0xff\)"),
        ("a.jsonl", b'{"text": "a"}\nnothing\n', "line 2: no JSON"),
        ("a.jsonl", b'{"text": "a"}\n["text"]\n', "line 2: has no string `text`"),
        ("a.jsonl", b'{"txt": "a"}\n', "line 1: has no string `text`"),
        ("a.jsonl", b'{"text": 3}\n', "line 1: has no string `text`"),
        ("a.jsonl", b'{"text": "ab\\ud800"}\n', "line 1.*half a surrogate pair at character 2"),
        ("a.jsonl.zst", b"no zstd", "not readable as zstd"),
        ("a.jsonl.gz", b"no gzip", "not readable as gzip"),
        ("a.gz", b"no gzip", "unknown ending; expected .txt"),
        ("a.parquet", b"no parquet", "not readable as Parquet"),
        ("a.docx", b"what", "unknown ending; expected .txt"),
    ],
)
def test_faults_name_file_and_place(tmp_path: Path, name: str, content: bytes, words: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=f"{name}.*{words}|{words}"):
        list(read_documents(tmp_path / name))


def test_missing_paths_and_empty_folders(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nowhere: no such file or folder"):
        list(read_documents(tmp_path / "nowhere"))
    with pytest.raises(UserError, match="no document files in this folder"):
        list(read_documents(tmp_path))


def test_links_are_followed_and_none_leads_into_a_circle(tmp_path: Path) -> None:
    (tmp_path / "text" / "sub").mkdir(parents=True)
    (tmp_path / "other").mkdir()
    (tmp_path / "text" / "sub" / "a.txt").write_text("a")
    (tmp_path / "other" / "b.txt").write_text("b")
    (tmp_path / "text" / "linked").symlink_to(tmp_path / "other")
    (tmp_path / "text" / "sub" / "up").symlink_to(tmp_path / "text")
    assert list(read_documents(tmp_path / "text")) == ["b", "a"]
    (tmp_path / "text" / "zz.jsonl").symlink_to(tmp_path / "nowhere.jsonl")
    with pytest.raises(UserError, match=r"zz\.jsonl: a link to nothing"):
        find_files(tmp_path / "text")


def test_a_part_that_cannot_be_read_is_no_part_that_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "closed").mkdir()
    (tmp_path / "a.txt").write_text("a")
    scan = os.scandir

    def closed(path: str) -> object:
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", closed)
    with pytest.raises(UserError, match="closed: this folder cannot be read"):
        find_files(tmp_path)


def test_parquet_without_text(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    parquet.write_table(pa.table({"content": ["x"]}), path)
    with pytest.raises(UserError, match="no column `text` among content"):
        list(read_documents(path))
    parquet.write_table(pa.table({"text": ["x", None]}), path)
    with pytest.raises(UserError, match="row 2: has no string `text`"):
        list(read_documents(path))


def test_a_damaged_page_of_parquet(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    texts = [str(i) * 40 for i in range(3000)]
    parquet.write_table(pa.table({"text": texts}), path, compression="zstd")
    data = bytearray(path.read_bytes())
    half = len(data) // 2
    data[half : half + 400] = bytes(400)
    path.write_bytes(data)
    with pytest.raises(UserError, match=r"a.parquet: not readable as Parquet .* copy it again"):
        list(read_documents(path))


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.zst", "a.parquet"])
def test_documents_beyond_memory_are_refused(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pgolf.data.documents.MOST_BYTES", 3_000_000)
    path = write(tmp_path / name, ["a", "b" * 5_000_000, "c"])
    place = "row" if name == "a.parquet" else "line"
    with pytest.raises(UserError, match=f"{name}, {place} 2: a document of 5.0 MB.*at most 3 MB"):
        list(read_documents(path))


@pytest.mark.parametrize("name", ["a.jsonl", "a.txt"])
def test_reading_keeps_little_in_memory(tmp_path: Path, name: str) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", ["x" * 100_000] * 200)  # 20 MB
    if name == "a.txt":
        path.rename(path := tmp_path / name)
        path.write_text("x" * 20_000_000)
    tracemalloc.start()
    total = sum(len(text) for text in read_documents(path))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert total == 20_000_000
    assert peak < (20_000_000 if name == "a.txt" else 8_000_000)
