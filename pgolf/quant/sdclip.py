"""The rules of V15 (PR #1738): a grid for matrices, one for the tied embedding, the rest fp16."""

from __future__ import annotations

from typing import Any

from pgolf.errors import UserError
from pgolf.quant.rules import Rule

EMBEDDING = "tok_emb.weight"
MATRICES = "*.weight"


def sdclip_rules(
    bits: int,
    embed_bits: int,
    clip_sigmas: float,
    embed_clip_sigmas: float,
    min_elements: int,
    **keys: Any,
) -> list[Rule]:
    """Rules for the embedding and for all other matrices of layers.

    Args:
        bits, embed_bits: 2 to 8, of matrices and of the tied embedding.
        clip_sigmas, embed_clip_sigmas: where the grid ends, in standard deviations of the row.
        min_elements: smaller tensors stay fp16.
        keys: of both rules.

    Raises:
        UserError: a value outside its range.
    """
    for key, value in (("bits", bits), ("embed_bits", embed_bits)):
        if not 2 <= value <= 8:
            raise UserError(f"quant.{key}={value}: expected 2 to 8")
    for key, number in (
        ("clip_sigmas", clip_sigmas),
        ("embed_clip_sigmas", embed_clip_sigmas),
        ("min_elements", min_elements),
    ):
        if not number > 0:
            raise UserError(f"quant.{key}={number}: expected a number above 0")
    both = {"min_elements": min_elements, "grid": "sdclip", **keys}
    return [
        Rule(pattern=EMBEDDING, bits=embed_bits, clip_sigmas=embed_clip_sigmas, **both),
        Rule(pattern=MATRICES, bits=bits, clip_sigmas=clip_sigmas, **both),
    ]
