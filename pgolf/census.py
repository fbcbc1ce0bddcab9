"""Where an artifact's bytes go, tensor by tensor: for `pgolf inspect` and the report."""

from __future__ import annotations

from typing import Any

import numpy as np

from pgolf.artifact import Artifact
from pgolf.layout import Entry
from pgolf.quant.codes import Codes, IntTensor
from pgolf.result import ARTIFACT_LIMIT_BYTES


def describe(artifact: Artifact) -> dict[str, Any]:
    """Tensors, streams and totals, as plain values.

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
        "tensors": tensor_rows(artifact),
        "streams": streams,
        "header_bytes": artifact.file_bytes - encoded_bytes,
        "total_bytes": artifact.file_bytes,
        "limit_bytes": ARTIFACT_LIMIT_BYTES,
        "parameters": parameters,
        "bits_per_parameter": 8 * artifact.file_bytes / max(parameters, 1),
    }


def tensor_rows(artifact: Artifact) -> list[dict[str, Any]]:
    """A row for each tensor; `entropy_bytes` is of its codes, order 0, None for fp16."""
    entropy = entropy_bytes(artifact.codes)
    taken = iter(artifact.array_bytes or shares(artifact, entropy))
    rows = []
    for entry in artifact.entries:
        encoded = sum(next(taken) for _ in entry.arrays())
        rows.append(
            {
                "name": entry.name,
                "kind": "fp16" if entry.bits is None else "codes",
                "shape": list(entry.shape),
                "bits": entry.bits or 16,
                "elements": entry.elements,
                "raw_bytes": raw_bytes(entry),
                "entropy_bytes": entropy.get(entry.name),
                "encoded_bytes": encoded,
                "share_of_limit": encoded / ARTIFACT_LIMIT_BYTES,
            }
        )
    return rows


def raw_bytes(entry: Entry) -> int:
    """Of codes packed to their width and scales, or of fp16 numbers."""
    if entry.bits is None:
        return 2 * entry.elements
    return -(-entry.elements * entry.bits // 8) + 2 * entry.shape[0]


def entropy_bytes(codes: Codes) -> dict[str, int]:
    """Order-0 entropy of each tensor's codes: what a memoryless coder needs at least."""
    found = {}
    for name, value in codes.tensors.items():
        if isinstance(value, IntTensor):
            counts = np.bincount(value.codes.numpy().view(np.uint8).ravel())
            share = counts[counts > 0] / max(value.codes.numel(), 1)
            found[name] = round(float(-(share * np.log2(share)).sum()) * value.codes.numel() / 8)
    return found


def shares(artifact: Artifact, entropy: dict[str, int]) -> list[int]:
    """Bytes of each array where arrays are mixed in streams."""
    encoded = {stream.name: sum(stream.chunk_bytes) for stream in artifact.streams}
    # Codes that are all alike have no entropy, and are there all the same.
    weights = [
        (
            stream,
            entropy[entry.name] + bool(entry.elements) if dtype is np.int8 else int(np.prod(shape)),
        )
        for entry in artifact.entries
        for stream, shape, dtype in entry.arrays()
    ]
    total: dict[str, int] = {}
    for stream, weight in weights:
        total[stream] = total.get(stream, 0) + weight
    return [encoded[stream] * weight // max(total[stream], 1) for stream, weight in weights]
