"""Reading documents: every format gives back the texts, every fault names file and place."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path

import pyarrow as pa
import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from pgolf.data.documents import find_files, read_documents
from pgolf.errors import UserError
from tests.data.samples import write_jsonl

TEXTS = ["plain", "", "häßlich\r\n\ttwo\u2028lines\x00", "😀 ▁ \ue001", "last\n"]


def write(path: Path, texts: list[str] = TEXTS) -> Path:
    lines = "".join(json.dumps({"text": text, "id": 1}) + "\n" for text in texts).encode()
    if path.name.endswith(".zst"):
        path.write_bytes(zstandard.compress(lines))
    elif path.suffix == ".parquet":
        parquet.write_table(pa.table({"id": [1] * len(texts), "text": texts}), path)
    else:
        path.write_bytes(lines)
    return path


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.zst", "a.parquet", "A.JSONL"])
def test_formats_give_back_the_texts(tmp_path: Path, name: str) -> None:
    path, read = write(tmp_path / name), []
    assert list(read_documents(path, read.append)) == TEXTS
    assert sum(read) == path.stat().st_size


def test_a_txt_file_is_one_document_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(TEXTS[2].encode())
    assert list(read_documents(path)) == [TEXTS[2]]


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
def test_cut_off_zstd_is_an_error_and_not_less_text(tmp_path: Path, kept: int) -> None:
    path = write(tmp_path / "a.jsonl.zst", [str(i) * 50 for i in range(2000)])
    path.write_bytes(path.read_bytes()[:-kept])
    with pytest.raises(UserError, match=r"a\.jsonl\.zst.*copy it again"):
        list(read_documents(path))


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.txt", b"", "the file is empty"),
        ("a.jsonl", b"", "the file is empty"),
        ("a.jsonl", b"\n\n", "holds no documents"),
        ("a.txt", b"good \xff bad", r"not UTF-8 at byte 5 \(0xff\)"),
        ("a.jsonl", b'{"text": "a"}\n{"text": "\xff"}', r"line 2: not UTF-8 at byte 24 \(0xff\)"),
        ("a.jsonl", b'{"text": "a"}\nnothing\n', "line 2: no JSON"),
        ("a.jsonl", b'{"text": "a"}\n["text"]\n', "line 2: has no string `text`"),
        ("a.jsonl", b'{"txt": "a"}\n', "line 1: has no string `text`"),
        ("a.jsonl", b'{"text": 3}\n', "line 1: has no string `text`"),
        ("a.jsonl", b'{"text": "ab\\ud800"}\n', "line 1.*half a surrogate pair at character 2"),
        ("a.jsonl.zst", b"no zstd", "not readable as zstd"),
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


def test_parquet_without_text(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    parquet.write_table(pa.table({"content": ["x"]}), path)
    with pytest.raises(UserError, match="no column `text` among content"):
        list(read_documents(path))
    parquet.write_table(pa.table({"text": ["x", None]}), path)
    with pytest.raises(UserError, match="row 2: has no string `text`"):
        list(read_documents(path))


def test_reading_keeps_little_in_memory(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", ["x" * 100_000] * 200)  # 20 MB
    tracemalloc.start()
    total = sum(len(text) for text in read_documents(path))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert total == 20_000_000
    assert peak < 8_000_000
