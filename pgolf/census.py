"""Where an artifact's bytes go, tensor by tensor: for `pgolf inspect` and the report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from pgolf.artifact import Artifact
from pgolf.layout import CODES, FP16, SCALES, Entry, arrays_of
from pgolf.quant.codes import Codes
from pgolf.result import ARTIFACT_LIMIT_BYTES


def describe(
    artifact: Artifact,
    losses: Mapping[str, float] | None = None,
    limit_bytes: int = ARTIFACT_LIMIT_BYTES,
) -> dict[str, Any]:
    """Tensors, streams and totals, as plain values; losses and limit as in `tensor_rows`.

    `encoded_bytes` of a tensor is its share where a codec of bytes mixes it with others: codes
    share a stream by their entropy, fp16 numbers by their count.
    """
    parameters = sum(entry.elements for entry in artifact.entries)
    streams = [
        {"name": s.name, "raw_bytes": s.raw_bytes, "encoded_bytes": sum(s.chunk_bytes)}
        for s in artifact.streams
    ]
    encoded_bytes = sum(sum(stream.chunk_bytes) for stream in artifact.streams)
    return {
        "file": str(artifact.file),
        "format_version": artifact.format_version,
        "codec": artifact.codec,
        "model": artifact.model_config,
        "tokenizer_fingerprint": artifact.tokenizer_fingerprint,
        "tensors": tensor_rows(artifact, losses, limit_bytes),
        "streams": streams,
        "header_bytes": artifact.file_bytes - encoded_bytes,
        "total_bytes": artifact.file_bytes,
        "limit_bytes": limit_bytes,
        "parameters": parameters,
        "bits_per_parameter": 8 * artifact.file_bytes / max(parameters, 1),
    }


def tensor_rows(
    artifact: Artifact,
    losses: Mapping[str, float] | None = None,
    limit_bytes: int = ARTIFACT_LIMIT_BYTES,
) -> list[dict[str, Any]]:
    """A row for each tensor; `entropy_bytes` is of its small integers, None for fp16.

    Args:
        losses: nats a token that a tensor's codes add, where they were measured; `loss` of a row.
        limit_bytes: of the folder that is shipped, code included.
    """
    entropy = entropy_bytes(artifact.codes)
    taken = iter(artifact.array_bytes or shares(artifact))
    rows = []
    for entry in artifact.entries:
        encoded = sum(next(taken) for _ in entry.arrays())
        rows.append(
            {
                "name": entry.name,
                "kind": kind(entry),
                "shape": list(entry.shape),
                "bits": entry.bits or 16,
                "elements": entry.elements,
                "raw_bytes": raw_bytes(entry),
                "entropy_bytes": entropy.get(entry.name),
                "encoded_bytes": encoded,
                "share_of_limit": encoded / limit_bytes,
                "loss": (losses or {}).get(entry.name),
            }
        )
    return rows


def kind(entry: Entry) -> str:
    """How a tensor is represented, in words."""
    if entry.bits is None:
        return FP16
    parts = [f"{entry.states} states"] if entry.states else [CODES]
    parts += [f"groups of {entry.group_columns}"] if entry.group_columns else []
    parts += ["columns"] if entry.columns else []
    parts += [f"rank {entry.rank} of {entry.factor_bits} bits"] if entry.rank else []
    return ", ".join(parts)


def raw_bytes(entry: Entry) -> int:
    """Of codes packed to their width and scales, or of fp16 numbers."""
    total = 0
    for stream, shape, dtype in entry.arrays():
        bits = stream.removeprefix(CODES)
        width = int(bits) if bits.isdigit() else 8 * np.dtype(dtype).itemsize
        total += -(-int(np.prod(shape)) * width // 8)
    return total


def entropy_bytes(codes: Codes) -> dict[str, int]:
    """Order-0 entropy of each tensor's small integers: what a memoryless coder needs at least."""
    entries, arrays = arrays_of(codes)
    found: dict[str, float] = {}
    remaining = iter(arrays)
    for entry in entries:
        for _ in entry.arrays():
            array = next(remaining)
            if array.dtype == np.int8:
                found[entry.name] = found.get(entry.name, 0.0) + _order0(array)
    return {name: round(size) for name, size in found.items()}


def _order0(array: np.ndarray) -> float:
    """Bytes."""
    counts = np.bincount(array.view(np.uint8).ravel())
    share = counts[counts > 0] / max(array.size, 1)
    return float(-(share * np.log2(share)).sum()) * array.size / 8


def shares(artifact: Artifact) -> list[int]:
    """Bytes of each array where arrays are mixed in streams."""
    encoded = {stream.name: sum(stream.chunk_bytes) for stream in artifact.streams}
    names = [stream for entry in artifact.entries for stream, _, _ in entry.arrays()]
    # Codes that are all alike have no entropy, and are there all the same.
    weights = [
        array.size if stream in (SCALES, FP16) else round(_order0(array)) + bool(array.size)
        for stream, array in zip(names, arrays_of(artifact.codes)[1], strict=True)
    ]
    total: dict[str, int] = {}
    for stream, weight in zip(names, weights, strict=True):
        total[stream] = total.get(stream, 0) + weight
    return [
        encoded[stream] * weight // max(total[stream], 1)
        for stream, weight in zip(names, weights, strict=True)
    ]
