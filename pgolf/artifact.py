"""The artifact: one file from which the model is rebuilt, with nothing else but pgolf's code.

It holds the weights' codes, the model's configuration, the tokenizer's fingerprint and the name of
the class that decodes it. docs/artifact_format.md describes every byte.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from pgolf.container import FORMAT_VERSION, join, malformed, split
from pgolf.errors import UserError
from pgolf.files import atomic_writer
from pgolf.layout import (
    ARRAYS,
    Entry,
    arrays_in,
    arrays_of,
    codes_of,
    parse_entry,
    stream_sizes,
    streams_of,
)
from pgolf.progress import track
from pgolf.protocols import ArrayCodec, Codec
from pgolf.quant.codes import Codes

FILE = "model.pgolf"
CODECS, MODELS = "pgolf.codec", "pgolf.model"
# Encoded one by one: several at a time, with progress; brotli loses nothing by it.
CHUNK_BYTES = 2**21


@dataclass(frozen=True)
class Stream:
    """Bytes of a stream before the codec, and of each of its encoded chunks."""

    name: str
    raw_bytes: int
    chunk_bytes: list[int]


@dataclass(frozen=True)
class Artifact:
    """What an artifact file says.

    Args:
        file: where it lies.
        file_bytes: its size.
        format_version: of the container.
        model_config: arguments of the model's class, with `_target_`.
        tokenizer_fingerprint: of the tokenizer whose ids the model reads.
        codec: name of the codec.
        entries, streams: what lies where.
        codes: the weights.
        array_bytes: what each array took, in the order of the entries, of a codec of arrays.
    """

    file: Path
    file_bytes: int
    format_version: int
    model_config: dict[str, Any]
    tokenizer_fingerprint: str
    codec: str
    entries: list[Entry]
    streams: list[Stream]
    codes: Codes
    array_bytes: list[int] | None


def write_artifact(
    folder: Path,
    model_config: dict[str, Any],
    codes: Codes,
    codec: Codec | ArrayCodec,
    tokenizer_fingerprint: str,
) -> Artifact:
    """Write `model.pgolf` into the folder, atomically; returns what it says.

    Args:
        model_config: plain values, with `_target_`.
        codec: an instance of a class in pgolf.codec, where every reader finds it.

    Raises:
        UserError: a reader could not find the model's or the codec's class.
    """
    file = folder / FILE
    check_targets(model_config, file)
    codec_target = class_path(codec)
    find_class(CODECS, codec_target, file)()  # as every reader will build it
    entries, arrays = arrays_of(codes)
    array_bytes: list[int] | None = None
    if isinstance(codec, ArrayCodec):
        data, array_bytes = codec.encode_arrays(arrays)
        encoded = {ARRAYS: [data]}
    else:
        encoded = encode_streams(streams_of(entries, arrays), codec)
    sizes = {name: [len(chunk) for chunk in chunks] for name, chunks in encoded.items()}
    header = {
        "codec": codec_target,
        "tokenizer": tokenizer_fingerprint,
        "model": model_config,
        "streams": sizes,
        "tensors": [entry.as_json() for entry in entries],
    }
    with atomic_writer(file) as out:
        out.write(join(header, [chunk for chunks in encoded.values() for chunk in chunks]))
    raw_bytes = expected_streams(entries, array_bytes is not None)
    return Artifact(
        file=file,
        file_bytes=file.stat().st_size,
        format_version=FORMAT_VERSION,
        model_config=model_config,
        tokenizer_fingerprint=tokenizer_fingerprint,
        codec=codec.name,
        entries=entries,
        streams=[Stream(name, raw_bytes[name], chunks) for name, chunks in sizes.items()],
        codes=codes,
        array_bytes=array_bytes,
    )


def expected_streams(entries: list[Entry], as_arrays: bool) -> dict[str, int]:
    """Names and bytes before the codec of the streams that a file has to have, in their order.

    Raises:
        ValueError: as `stream_sizes`.
    """
    sizes = stream_sizes(entries)
    return {ARRAYS: sum(sizes.values())} if as_arrays else sizes


def encode_streams(data: dict[str, bytes], codec: Codec) -> dict[str, list[bytes]]:
    """Each stream's chunks, encoded on all cores."""
    chunks = [
        (name, stream[start : start + CHUNK_BYTES])
        for name, stream in data.items()
        for start in range(0, len(stream), CHUNK_BYTES)
    ]
    encoded: dict[str, list[bytes]] = {name: [] for name in data}
    total = sum(map(len, data.values())) / 1e6
    with ThreadPoolExecutor() as pool, track("encode", total, "MB") as bar:
        results = pool.map(codec.encode, [chunk for _, chunk in chunks])
        for (name, chunk), result in zip(chunks, results, strict=True):
            encoded[name].append(result)
            bar.advance(len(chunk) / 1e6)
    return encoded


def read_artifact(path: Path) -> Artifact:
    """Read a `model.pgolf`, or the one in a folder.

    Raises:
        UserError: no such file, not an artifact, damaged, or written by a newer pgolf.
    """
    file = path / FILE if path.is_dir() else path
    try:
        data = file.read_bytes()
    except OSError as error:
        raise UserError(
            f"{file}: cannot be read ({error.strerror}): name a {FILE} or its folder, artifact/ "
            "in a run folder"
        ) from error
    version, header, payload = split(data, file)
    try:
        entries = [parse_entry(value) for value in header["tensors"]]
        codec = find_class(CODECS, header["codec"], file)()
        expected = expected_streams(entries, isinstance(codec, ArrayCodec))
        streams = _parse_streams(header["streams"], expected, len(payload))
        arrays, array_bytes = _decode(entries, streams, payload, codec)
        return Artifact(
            file=file,
            file_bytes=len(data),
            format_version=version,
            model_config=dict(header["model"]),
            tokenizer_fingerprint=str(header["tokenizer"]),
            codec=codec.name,
            entries=entries,
            streams=streams,
            codes=codes_of(entries, arrays),
            array_bytes=array_bytes,
        )
    except UserError:
        raise
    except (KeyError, TypeError, ValueError) as error:
        raise malformed(file, f"{type(error).__name__}: {error}") from error


def _parse_streams(chunks: Any, raw_bytes: dict[str, int], payload_bytes: int) -> list[Stream]:
    """Checks, before anything is decoded, that the chunks fill the file and fit the tensors."""
    if not isinstance(chunks, dict) or list(chunks) != list(raw_bytes):
        raise ValueError(f"streams {list(chunks)}, expected {list(raw_bytes)}")
    streams = [Stream(name, raw_bytes[name], list(sizes)) for name, sizes in chunks.items()]
    if not all(type(size) is int and size >= 0 for s in streams for size in s.chunk_bytes):
        raise ValueError("the size of a chunk is not a number of bytes")
    total = sum(sum(stream.chunk_bytes) for stream in streams)
    if total != payload_bytes:
        raise ValueError(f"{total:,} bytes of chunks, the file has {payload_bytes:,}")
    return streams


def _decode(
    entries: list[Entry], streams: list[Stream], payload: memoryview, codec: Codec | ArrayCodec
) -> tuple[list[np.ndarray], list[int] | None]:
    """All arrays, and what each took if the codec can tell."""
    if not isinstance(codec, ArrayCodec):
        return arrays_in(entries, dict(_decode_streams(streams, payload, codec))), None
    specs = [(shape, dtype) for entry in entries for _, shape, dtype in entry.arrays()]
    try:
        return codec.decode_arrays(bytes(payload), specs)
    except Exception as error:  # whatever damaged data lead to
        raise ValueError(f"{codec.name} cannot decode it: {error!r}") from error


def _decode_streams(
    streams: list[Stream], payload: memoryview, codec: Codec
) -> Iterator[tuple[str, bytes]]:
    start = 0
    for stream in streams:
        parts, left = list[bytes](), stream.raw_bytes
        for size in stream.chunk_bytes:
            try:
                parts.append(codec.decode(bytes(payload[start : start + size]), left))
                left = max(0, left - len(parts[-1]))
            except Exception as error:  # each codec's library has its own
                raise ValueError(f"{codec.name} cannot decode {stream.name}: {error}") from error
            start += size
        data = b"".join(parts)
        if len(data) != stream.raw_bytes:
            raise ValueError(
                f"{len(data):,} bytes of {stream.name}, its tensors take {stream.raw_bytes:,}"
            )
        yield stream.name, data


def class_path(instance: object) -> str:
    """Dotted path of an instance's class."""
    return f"{type(instance).__module__}.{type(instance).__qualname__}"


def find_class(package: str, target: Any, file: Path) -> Any:
    """The class at a dotted path, which has to be defined in a module of the package.

    The path comes from a file: nothing that a module merely imports can be named by it.

    Raises:
        UserError: it is defined nowhere in the package.
    """
    module_name, _, name = str(target).rpartition(".")
    if re.fullmatch(rf"{re.escape(package)}(\.\w+)+", module_name):
        try:
            found = getattr(importlib.import_module(module_name), name, None)
        except ImportError:
            found = None
        if isinstance(found, type) and found.__module__ == module_name:
            return found
    raise UserError(
        f"{file}: {target} is no class of {package}: put the file that defines it there, or "
        "upgrade pgolf if a newer one has it"
    )


def check_targets(config: Any, file: Path) -> None:
    """Raises UserError when building a model from this could call more than classes of pgolf.model.

    Hydra also follows interpolations (`${...}` makes nodes with targets of their own, and reads the
    environment) and keys like `_partial_`: plain values have neither.
    """
    if isinstance(config, dict):
        if "_target_" in config:
            find_class(MODELS, config["_target_"], file)
        special = [key for key in config if str(key).startswith("_") and key != "_target_"]
        if special:
            raise malformed(file, f"the model's configuration has {special[0]}")
        config = [*config, *config.values()]
    if isinstance(config, str) and "${" in config:
        raise malformed(file, f"the model's configuration has an interpolation, {config[:80]}")
    if isinstance(config, list):
        for value in config:
            check_targets(value, file)


class Undrawn(TorchFunctionMode):
    """Modules made in it, on the "meta" device, are given no initial values.

    There is nothing to fill there, yet torch would import its compiler for it: a second.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in (Tensor.normal_, Tensor.uniform_):
            return args[0]
        if getattr(func, "__module__", None) == nn.init.__name__:
            return kwargs["tensor"]
        return func(*args, **kwargs)


def build_model(artifact: Artifact) -> nn.Module:
    """The model with the dequantized weights, on the CPU, ready for evaluation.

    Raises:
        UserError: the configuration's class is not pgolf's, or the weights do not fit it.
    """
    file, weights = artifact.file, artifact.codes.weights()
    if "_target_" not in artifact.model_config:
        raise malformed(file, "the model's configuration has no _target_")
    check_targets(artifact.model_config, file)
    try:
        with torch.device("meta"), Undrawn():
            model: nn.Module = instantiate(artifact.model_config, _convert_="all")
        dtypes = {name: value.dtype for name, value in model.state_dict().items()}
        cast = {name: value.to(dtypes.get(name, value.dtype)) for name, value in weights.items()}
        model.load_state_dict(cast, strict=True, assign=True)
    except (InstantiationException, RuntimeError) as error:
        raise UserError(
            f"{file}: its weights or model configuration do not fit this pgolf's "
            f"{artifact.model_config['_target_']}: use the pgolf that wrote it. {error}"
        ) from error
    model.recurrence(True)  # type: ignore[operator]
    return model.eval()
