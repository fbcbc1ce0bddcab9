"""Rules: which tensors are quantized, and how, by patterns of their names. Imports no torch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Any, Literal

from pgolf.errors import UserError
from pgolf.signature import check_arguments

TARGET = "pgolf.quant.rules.Rule"


@dataclass(frozen=True, kw_only=True)
class Rule:
    """How the matrices are quantized whose names fit a pattern.

    Args:
        pattern: of names, with `*`, `?` and `[...]`, e.g. `blocks.*.mlp.*.weight`.
        bits: 2 to 8, of the codes; 16 leaves the tensors in fp16.
        symmetric: whether the grid lies around 0, or around an offset of each row: its mean, or
            for grids that end at weights the middle between smallest and largest.
        grid: where a row's step comes from: `sdclip` standard deviations, `absmax` its largest
            weight, `search` the end of the grid with the smallest weighted error, `uniform` one
            step for the whole matrix, from its root mean square.
        clip_sigmas: where the grids `sdclip` and `uniform` end.
        group_columns: so many neighbouring columns share a scale of a row, taken from their own
            weights; the last group may have fewer. 0: the whole row has one.
        columns: `water` gives every column a factor, in steps of 2^(1/8), that makes an error of
            a code equally harmful in all of them: reverse water-filling, for an entropy coder.
        rounding: to the `nearest` code; column by column with feedback (`gptq`), also counting
            bits (`entropy`); or along a trellis (`trellis`).
        penalty: of a bit, in squared steps: for `entropy` of a column of average importance, for
            `trellis` of each column; at high rates a bit is worth 0.116 of them.
        states: of the trellis.
        order: of the columns while they are rounded: `activation` by descending size of their
            inputs, `natural` as they are.
        damping: added to the Hessian's diagonal, as a part of its mean.
        rank: of a correction by a product of two small matrices (LQER); 0 for none.
        factor_bits: of these two matrices.
        worst: corrects only so many matrices, those with the largest error of their outputs, of all
            rules with the same rank, factor_bits and worst; null for all.
        min_elements: smaller tensors stay fp16.
        block_size: columns after which errors are passed on to all later ones; changes speed alone.

    Raises:
        UserError: a value outside its range, or one without effect.
    """

    pattern: str
    bits: int = 6
    symmetric: bool = True
    grid: Literal["sdclip", "absmax", "search", "uniform"] = "sdclip"
    clip_sigmas: float = 12.85
    group_columns: int = 0
    columns: Literal["none", "water"] = "none"
    rounding: Literal["nearest", "gptq", "entropy", "trellis"] = "gptq"
    penalty: float = 0.0
    states: Literal[4, 8, 16, 32, 64, 128, 256] = 8
    order: Literal["activation", "natural"] = "activation"
    damping: float = 0.01
    rank: int = 0
    factor_bits: int = 4
    worst: int | None = None
    min_elements: int = 1
    block_size: int = 32

    def __post_init__(self) -> None:
        ranges = {
            "bits": (2 <= self.bits <= 8 or self.bits == 16, "2 to 8, or 16 for fp16"),
            "factor_bits": (2 <= self.factor_bits <= 8, "2 to 8"),
            "clip_sigmas": (0 < self.clip_sigmas < math.inf, "a number above 0"),
            "group_columns": (self.group_columns >= 0, "0 for whole rows, or more"),
            "penalty": (0 <= self.penalty < math.inf, "0 or more"),
            "damping": (0 <= self.damping < math.inf, "0 or more"),
            "rank": (self.rank >= 0, "0 or more"),
            "worst": (self.worst is None or self.worst >= 1, "1 or more, or null for all"),
            "min_elements": (self.min_elements >= 1, "a number above 0"),
            "block_size": (self.block_size >= 1, "1 or more"),
        }
        for key, (holds, expected) in ranges.items():
            if not holds:
                raise UserError(f"{key}={getattr(self, key)}: expected {expected}")
        if self.rank and not self.symmetric:
            raise UserError(
                f"rank={self.rank} with symmetric=false: a matrix has a place for one of both; use "
                "symmetric=true or rank=0"
            )
        if self.worst is not None and not self.rank:
            raise UserError(f"worst={self.worst} has no effect without rank=...")
        if self.rounding == "trellis" and self.order != "natural":
            raise UserError("rounding=trellis decodes columns as they stand: use order=natural")
        if self.group_columns and (self.grid == "uniform" or self.rounding == "trellis"):
            part = "grid=uniform" if self.grid == "uniform" else "rounding=trellis"
            raise UserError(
                f"group_columns={self.group_columns} with {part}, which needs one step for a whole "
                "row: use group_columns=0, or grid=absmax, sdclip or search with rounding=nearest, "
                "gptq or entropy"
            )
        if self.penalty and self.rounding not in ("entropy", "trellis"):
            raise UserError(
                f"penalty={self.penalty} has no effect on rounding={self.rounding}: use entropy or "
                "trellis"
            )

    @property
    def needs_hessian(self) -> bool:
        """Whether anything of it depends on the inputs of a matrix."""
        asks = self.rounding != "nearest" or self.grid == "search" or self.columns == "water"
        return self.bits < 16 and (asks or self.rank > 0)

    @property
    def pool(self) -> tuple[int, int, int | None]:
        """Equal for rules whose matrices compete for corrections."""
        return self.rank, self.factor_bits, self.worst

    def without_hessian(self) -> Rule:
        """What remains of it for a matrix of whose inputs nothing is known."""
        return replace(self, rounding="nearest", penalty=0.0, columns="none", rank=0, worst=None)

    def fits(self, name: str) -> bool:
        return fnmatchcase(name, self.pattern)

    def covers(self, shape: Sequence[int]) -> bool:
        """Whether a tensor of that shape that fits the pattern is quantized."""
        return self.bits < 16 and len(shape) == 2 and math.prod(shape) >= self.min_elements


def rule_for(name: str, shape: Sequence[int], rules: Sequence[Rule]) -> Rule | None:
    """The first rule whose pattern fits, if it quantizes such a tensor; None for fp16."""
    for rule in rules:
        if rule.fits(name):
            return rule if rule.covers(shape) else None
    return None


def parse_rules(where: str, values: list[dict[str, Any]]) -> list[Rule]:
    """Rules from a configuration's mappings.

    Raises:
        UserError: no rule at all, an unknown, missing or wrongly typed key, or a wrong value.
    """
    if not values:
        raise UserError(f"{where}: expected at least one rule; quant=none quantizes nothing")
    rules = []
    for index, value in enumerate(values):
        check_arguments(f"{where}[{index}]", TARGET, value)
        try:
            rules.append(Rule(**value))
        except UserError as error:
            raise UserError(f"{where}[{index}].{error}") from error
    return rules
