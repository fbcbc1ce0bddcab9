"""Opening a saved tokenizer without knowing which it is."""

from __future__ import annotations

from pathlib import Path

from pgolf.errors import UserError
from pgolf.protocols import Tokenizer
from pgolf.tokenizer import saved
from pgolf.tokenizer.bytes import BytesTokenizer
from pgolf.tokenizer.caseops import CaseOpsTokenizer
from pgolf.tokenizer.caseops_lossless import LosslessCaseOpsTokenizer
from pgolf.tokenizer.sp import SentencePieceTokenizer

KINDS: dict[str, type[Tokenizer]] = {
    "bytes": BytesTokenizer,
    "caseops": CaseOpsTokenizer,
    "caseops_lossless": LosslessCaseOpsTokenizer,
    "sp": SentencePieceTokenizer,
}


def describe_saved(folder: Path) -> saved.Description:
    """Kind, settings and vocabulary size of a saved tokenizer, without opening its model."""
    return saved.read(folder)


def open_tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer that a `save(folder)` wrote, ready to encode; takes milliseconds.

    Raises:
        UserError: the folder holds none, one of an unknown kind, or a damaged one.
    """
    description = saved.read(folder)
    if description.kind not in KINDS:
        raise UserError(
            f"{folder / saved.DESCRIPTION}: unknown kind {description.kind!r}, this pgolf knows "
            f"{', '.join(KINDS)}: prepare the data again"
        )
    try:
        tokenizer = KINDS[description.kind](**description.settings)
    except TypeError as error:
        raise UserError(
            f"{folder / saved.DESCRIPTION} has unsuitable settings ({error}): remove the folder "
            "and run again"
        ) from error
    tokenizer.load(folder)
    return tokenizer
