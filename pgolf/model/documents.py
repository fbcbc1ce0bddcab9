"""Whether attention stays within documents, in training and in scoring alike."""

from __future__ import annotations

from torch import Tensor

from pgolf.kernel.documents import document_borders


def bos_of_scope(scope: str, bos_id: int) -> int | None:
    """The id at whose positions attention is cut, or None where it sees the whole window."""
    return bos_id if scope == "document" else None


def borders_of(ids_BT: Tensor, document_bos: int | None, given: Tensor | None) -> Tensor | None:
    """The borders that attention needs: those given, else found in the ids, None for windows."""
    if document_bos is None:
        return None
    return document_borders(ids_BT, document_bos) if given is None else given
