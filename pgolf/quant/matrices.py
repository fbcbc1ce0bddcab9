"""Codes of matrices on one rank: each prepared by its rule, then many swept together.

Legend: R rows, C columns.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from pgolf.quant.codes import IntTensor, column_scales, steps_of
from pgolf.quant.columns import Sheet, sweep
from pgolf.quant.condition import Conditioned, condition
from pgolf.quant.grids import (
    group_scales,
    offset_correction,
    round_to_codes,
    row_offsets,
    row_scales,
)
from pgolf.quant.rules import Rule
from pgolf.quant.trellis import trellis_sweep

# Weights that are swept together, in float64. A GPU waits for launches, so the more the better;
# on a CPU a block of columns should stay in the cache.
TOGETHER = {"cuda": 2**26, "cpu": 2**20}
Advance = Callable[[int], None]


@dataclass(frozen=True, eq=False)
class Job:
    """A matrix to quantize, on the rank's device.

    Args:
        name: of the weight.
        weight: the weight.
        rule: how.
        hessian: X^T X of its inputs; None where there is none.
        rows: what a squared error in each row costs, [R]; None is 1 for all.
    """

    name: str
    weight: Tensor
    rule: Rule
    hessian: Tensor | None
    rows: Tensor | None = None

    @property
    def group_columns(self) -> int:
        """As of its rule, but 0 where one group would hold the whole row."""
        wanted = self.rule.group_columns
        return wanted if wanted < self.weight.size(1) else 0


@dataclass(frozen=True, eq=False)
class Prepared:
    """A matrix on its grid, before rounding.

    Args:
        job: where it comes from.
        target: what the codes times the scales should be, columns in their own order.
        scales: fp16, of rows, [R], or of their groups of columns, [R, G].
        exponents: of the columns' factors, int8, or None.
        offsets: of the rows, fp16, or None.
        conditioned: its Hessian, without the columns' factors; None for rounding to nearest.
    """

    job: Job
    target: Tensor
    scales: Tensor
    exponents: Tensor | None
    offsets: Tensor | None
    conditioned: Conditioned | None

    def result(self, codes_RC: Tensor) -> IntTensor:
        """The codes with all that belongs to them, on the CPU."""
        rule, correction = self.job.rule, None
        if self.offsets is not None:
            correction = offset_correction(self.offsets.cpu(), codes_RC.size(1))
        exponent_C = None if self.exponents is None else self.exponents.cpu()
        return IntTensor(
            codes_RC.contiguous().cpu(), self.scales.cpu(), rule.bits,
            exponent_C, rule.states if rule.rounding == "trellis" else 0, correction,
            self.job.group_columns,
        )  # fmt: skip

    @property
    def steps(self) -> Tensor:
        """Its scales where their weights stand, [R, 1] or [R, C]."""
        return steps_of(self.scales, self.job.group_columns, self.target.size(1))

    @property
    def order(self) -> Tensor:
        assert self.conditioned is not None, "only a matrix with a Hessian is swept"
        return self.conditioned.order

    def sheet(self) -> Sheet:
        """It in the order of its sweep."""
        order_C = self.order
        assert self.conditioned is not None
        factor_CC = self.conditioned.factor
        if self.exponents is not None:
            factor_CC = factor_CC / column_scales(self.exponents)[order_C]
        rule, scales = self.job.rule, self.scales
        if self.job.group_columns:
            scales = self.steps[:, order_C]
        return Sheet(self.target[:, order_C], factor_CC, scales, rule.bits, rule.penalty)


def codes_of_jobs(jobs: list[Job], advance: Advance) -> dict[str, IntTensor]:
    """Codes of each matrix by name, on the CPU.

    Args:
        advance: told how many weights have been rounded.
    """
    found: dict[str, IntTensor] = {}
    for batch in batches_of(jobs):
        prepared = prepare(batch)
        for item, codes_RC in zip(prepared, _codes(prepared, advance), strict=True):
            found[item.job.name] = item.result(codes_RC)
    return found


def batches_of(jobs: list[Job]) -> Iterator[list[Job]]:
    """Jobs that are swept together, in their order, as many as memory takes."""
    groups: dict[object, list[Job]] = defaultdict(list)
    for job in jobs:
        groups[_group(job)].append(job)
    for group in groups.values():
        limit = TOGETHER[group[0].weight.device.type]
        batch: list[Job] = []
        for job in group:
            count = job.weight.numel()
            if batch and sum(other.weight.numel() for other in batch) + count > limit:
                yield batch
                batch = []
            batch.append(job)
        yield batch


def _group(job: Job) -> object:
    """Equal for jobs that may be swept together."""
    rule, (rows, columns) = job.rule, job.weight.shape
    if job.hessian is None:
        return None
    shared = columns, rule.rounding, rule.damping, rule.order
    if rule.rounding == "trellis":
        return *shared, rows, rule.bits, rule.states, rule.penalty
    return *shared, rule.block_size, job.group_columns > 0


def prepare(jobs: list[Job]) -> list[Prepared]:
    """Each matrix on its grid; a Hessian that several share is factored once."""
    first_of: dict[int, Job] = {}
    for job in jobs:
        if job.hessian is not None:
            first_of.setdefault(id(job.hessian), job)
    firsts = list(first_of.values())
    hessians = [j.hessian.to(j.weight.device) for j in firsts if j.hessian is not None]
    conditioned: list[Conditioned] = []
    if firsts:
        rule = firsts[0].rule
        names = [job.name for job in firsts]
        by_activation = rule.order == "activation"
        conditioned = condition(hessians, names, rule.damping, by_activation)
    by_hessian = dict(zip(first_of, conditioned, strict=True))
    return [_prepared(job, by_hessian.get(id(job.hessian))) for job in jobs]


def _prepared(job: Job, conditioned: Conditioned | None) -> Prepared:
    rule, target_RC = job.rule, job.weight
    offset_R = exponent_C = importance_C = None
    if not rule.symmetric:
        offset_R = row_offsets(target_RC, rule)
        target_RC = target_RC.float() - offset_R.float()[:, None]
    if conditioned is not None:
        importance_C = conditioned.importance
        if rule.columns == "water":
            exponent_C = conditioned.column_exponents()
            scale_C = column_scales(exponent_C)
            target_RC = target_RC.float() / scale_C
            importance_C = importance_C * scale_C.double().square()
        importance_C = importance_C.masked_fill(conditioned.is_dead, 0.0)
    if job.group_columns:
        scales = group_scales(target_RC, rule, job.group_columns, importance_C)
    else:
        scales = row_scales(target_RC, rule, importance_C, job.rows)
    if conditioned is not None:
        # Without input a weight has no effect, and codes of 0 cost nothing.
        target_RC = target_RC.masked_fill(conditioned.is_dead, 0.0)
    return Prepared(job, target_RC, scales, exponent_C, offset_R, conditioned)


def _codes(prepared: list[Prepared], advance: Advance) -> Iterable[Tensor]:
    """int8 [R, C] of each, columns in their own order."""
    rule = prepared[0].job.rule
    if rule.rounding == "nearest":
        return _nearest(prepared, advance)
    sheets = [item.sheet() for item in prepared]
    if rule.rounding == "trellis":
        # The columns' own order: that in which a decoder walks the trellis.
        weight_BRC = torch.stack([sheet.weight for sheet in sheets])
        factor_BCC = torch.stack([sheet.factor for sheet in sheets])
        scale_BR = torch.stack([sheet.scales for sheet in sheets])
        codes_BRC = trellis_sweep(
            weight_BRC, factor_BCC, scale_BR, rule.bits, rule.states, rule.penalty
        )
        advance(codes_BRC.numel())
        return list(codes_BRC)
    swept = sweep(sheets, rule.block_size, rule.rounding == "entropy", advance)
    return [
        codes_RC[:, item.order.argsort()] for item, codes_RC in zip(prepared, swept, strict=True)
    ]


def _nearest(prepared: list[Prepared], advance: Advance) -> Iterator[Tensor]:
    for item in prepared:
        advance(item.target.numel())
        steps, bits = item.steps.float(), item.job.rule.bits
        yield round_to_codes(item.target.float(), steps, bits).to(torch.int8)
