"""On how many texts some results were scored: bits per byte of two texts are not to be compared."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pgolf.result import BYTES_WITHIN


def scored_bytes(result: dict[str, Any]) -> tuple[int, int] | None:
    """Bytes of the final score's text, and how far off they may be; None without a final score."""
    final = result["bpb"]["final"]
    if final is None:
        return None
    imported = result["provenance"].get("imported") or {}
    return final["bytes"], int(imported.get(BYTES_WITHIN, 0))


def distinct_texts(results: Iterable[dict[str, Any]]) -> list[int]:
    """Bytes of each text, ascending; what may be the same as the one before it counts as that."""
    texts: list[int] = []
    reached = -1
    for size, within in sorted(filter(None, map(scored_bytes, results))):
        if size - within > reached:
            texts.append(size)
        reached = max(reached, size + within)
    return texts
