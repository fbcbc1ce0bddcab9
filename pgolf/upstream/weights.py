"""Published weights: `final_model.pt` (torch.save) and `final_model.int6.ptz` (compressed codes).

A .ptz is brotli or xz around byte-shuffled torch.save of {"w": tensors, "m": a word a tensor}: of a
matrix "NAME.q" int8 and "NAME.scale" fp16, of other tensors fp16. Nothing in a file is executed,
and nothing grows beyond `MAX_BYTES` before it is looked at.
"""

from __future__ import annotations

import io
import lzma
import pickle
import re
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import brotli
import numpy as np
import torch
from torch import Tensor

from pgolf.errors import UserError
from pgolf.quant.codes import Codes, IntTensor, to_fp16

MAX_BYTES = 2**30  # a model of 16 MB has 72 MB of fp16; published ones in fp32 have 144 MB
PIECE_BYTES = 64  # brotli may make 16 MB of a few bytes: a bomb is met after a few pieces
ZIP, XZ, SHUFFLED = b"PK\x03\x04", b"\xfd7zXZ\x00", b"BSHF"
# What torch.compile and DistributedDataParallel put before names.
WRAPPERS = ("_orig_mod.", "module.")


@dataclass(frozen=True)
class Published:
    """The content of a file.

    Args:
        codes: with pgolf's names, which are those of the published scripts.
        packing: "none" (torch.save as it is), "brotli" or "xz".
        rounded: tensors that were rounded to fp16; the others are bit by bit as they were.
    """

    codes: Codes
    packing: str
    rounded: int


def read_weights(path: Path) -> Published:
    """Read a published file of either kind.

    Raises:
        UserError: it is none, is damaged, holds what is no tensor, or is larger than any model.
    """
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise _wrong(path, f"{size:,} bytes, more than the {MAX_BYTES:,} that are read")
        data = path.read_bytes()
    except OSError as error:
        raise UserError(
            f"{path}: cannot be read ({error.strerror}): name a final_model.pt or "
            "final_model.int6.ptz"
        ) from error
    packing = "none" if data[:4] == ZIP else "xz" if data[:6] == XZ else "brotli"
    unpacked = data if packing == "none" else unshuffle(_decompress(data, packing, path), path)
    saved = _load(unpacked, path)
    if isinstance(saved, dict) and set(saved) == {"w", "m"}:
        tensors, rounded = _quantized(saved["w"], saved["m"], path)
    else:
        tensors, rounded = _plain(saved, path)
    if not tensors:
        raise _wrong(path, "no tensors")
    return Published(Codes(tensors), packing, rounded)


def _decompress(data: bytes, packing: str, path: Path) -> bytes:
    if packing == "xz":
        unxz = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=MAX_BYTES)
        try:
            found = unxz.decompress(data, MAX_BYTES)
        except lzma.LZMAError as error:
            raise _wrong(path, f"xz: {error}") from error
        if not unxz.eof:
            raise _wrong(path, f"xz: cut short, or more than {MAX_BYTES:,} bytes")
        return found
    decoder = brotli.Decompressor()
    pieces: list[bytes] = []
    total = 0
    try:
        for start in range(0, len(data), PIECE_BYTES):
            pieces.append(decoder.process(data[start : start + PIECE_BYTES]))
            total += len(pieces[-1])
            if total > MAX_BYTES:
                raise _wrong(path, f"unpacks to more than {MAX_BYTES:,} bytes")
    except brotli.error as error:
        raise _wrong(path, f"neither torch.save nor xz, and as brotli: {error}") from error
    if not decoder.is_finished():
        raise _wrong(path, "cut short")
    return b"".join(pieces)


def unshuffle(data: bytes, path: Path) -> bytes:
    """Bytes in their order again: every stride-th one lies together; without the mark, as it is.

    Raises:
        UserError: a stride of 0.
    """
    if data[:4] != SHUFFLED or len(data) < 5:
        return data
    stride = data[4]
    if stride == 0:
        raise _wrong(path, "byte shuffle of stride 0")
    shuffled = np.frombuffer(data, np.uint8)[5:]
    ordered = np.empty_like(shuffled)
    start = 0
    for offset in range(stride):
        count = len(ordered[offset::stride])
        ordered[offset::stride] = shuffled[start : start + count]
        start += count
    return ordered.tobytes()


def _load(data: bytes, path: Path) -> Any:
    """torch.load of a zip that does not grow, with tensors and plain values alone."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            total = sum(entry.file_size for entry in archive.infolist())
        if total > MAX_BYTES:
            raise _wrong(path, f"its parts unpack to {total:,} bytes")
        return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except UserError:
        raise
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, LookupError) as error:
        raise _wrong(path, _first_line(error)) from error
    except (zipfile.BadZipFile, TypeError, AttributeError, OverflowError) as error:
        raise _wrong(path, _first_line(error)) from error


def _plain(saved: Any, path: Path) -> tuple[dict[str, IntTensor | Tensor], int]:
    """A state dict, rounded to fp16."""
    if isinstance(saved, dict) and isinstance(saved.get("model"), dict):
        saved = saved["model"]
    values = _tensors(saved, path)
    tensors = {name: _fp16(name, value, path) for name, value in values.items()}
    rounded = sum(not torch.equal(v.float(), tensors[k].float()) for k, v in values.items())
    return {_own_name(name): value for name, value in tensors.items()}, rounded


def _quantized(weights: Any, kinds: Any, path: Path) -> tuple[dict[str, IntTensor | Tensor], int]:
    """Codes and scales as they are; what else is there must be fp16 or exact in it."""
    found = _tensors(weights, path)
    if not isinstance(kinds, dict) or not all(isinstance(k, str) for k in kinds.values()):
        raise _wrong(path, "no word for each tensor")
    tensors: dict[str, IntTensor | Tensor] = {}
    rounded = 0
    used: set[str] = set()
    for name, kind in kinds.items():
        if name in found:
            value = _fp16(name, found[name], path)
            rounded += not torch.equal(value.float(), found[name].float())
            tensors[_own_name(name)] = value
            used.add(name)
            continue
        parts = f"{name}.q", f"{name}.scale"
        if not set(parts) <= set(found):
            raise _wrong(path, f"{name}: neither the tensor nor its codes and scales")
        tensors[_own_name(name)] = _codes(name, kind, found[parts[0]], found[parts[1]], path)
        used |= set(parts)
    if strange := sorted(set(found) - used):
        raise _wrong(path, f"tensors that nothing describes: {', '.join(strange[:5])}")
    return tensors, rounded


def _codes(name: str, kind: str, codes: Tensor, scales: Tensor, path: Path) -> IntTensor:
    width = re.search(r"\bint([2-8])\b", kind)
    if width is None:
        raise _wrong(path, f"{name}: unknown representation {kind[:40]!r}")
    bits = int(width[1])
    if codes.dtype != torch.int8 or codes.ndim != 2:
        raise _wrong(path, f"{name}: codes are {codes.dtype} of {codes.ndim} dimensions")
    if scales.dtype != torch.float16 or scales.shape != codes.shape[:1]:
        raise _wrong(path, f"{name}: scales are no fp16 number a row")
    limit = 2 ** (bits - 1) - 1
    if codes.numel() and max(int(codes.max()), -int(codes.min())) > limit:
        raise _wrong(path, f"{name}: codes beyond the {limit} of {bits} bits")
    if not bool((scales > 0).all() & scales.isfinite().all()):
        raise _wrong(path, f"{name}: a scale is not above 0")
    return IntTensor(codes.contiguous(), scales.contiguous(), bits)


def _tensors(saved: Any, path: Path) -> dict[str, Tensor]:
    """Checked: names, dense tensors, and together no more than memory takes."""
    if not isinstance(saved, dict):
        raise _wrong(path, f"holds a {type(saved).__name__}, not tensors by name")
    total = 0
    for name, value in saved.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise _wrong(path, f"{name!r} is a {type(value).__name__}, not a tensor with a name")
        if value.layout != torch.strided or value.is_quantized or value.is_meta:
            raise _wrong(path, f"{name}: no plain tensor")
        # A view may repeat one number without end.
        total += value.numel() * value.element_size()
    if total > MAX_BYTES:
        raise _wrong(path, f"tensors of {total:,} bytes")
    return {name: value.detach() for name, value in saved.items()}


def _fp16(name: str, value: Tensor, path: Path) -> Tensor:
    if not value.is_floating_point() or not bool(value.isfinite().all()):
        raise _wrong(path, f"{name}: {value.dtype} with values that are no finite weights")
    return to_fp16(value).contiguous()


def _own_name(name: str) -> str:
    for wrapper in WRAPPERS:
        name = name.removeprefix(wrapper)
    return name


def _first_line(error: Exception) -> str:
    lines = str(error).splitlines() or [type(error).__name__]
    return lines[0][:160]


def _wrong(path: Path, what: str) -> UserError:
    return UserError(
        f"{path}: no published weights ({what}): name a final_model.pt or final_model.int6.ptz as "
        "the published scripts write them"
    )
