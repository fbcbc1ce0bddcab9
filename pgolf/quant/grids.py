"""Grids: where each row's codes lie, by a rule: its step, and for asymmetric grids its offset.

SDClip (PR #1394) takes a row's step from its standard deviation: a grid that ends at k of them
gives no weight to rare outliers, and k sets how well the codes compress: a row's codes have the
standard deviation (2^(bits-1) - 1) / k.
Legend: R rows, C columns, G groups of columns.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pgolf.quant.codes import FP16_MAX, SMALLEST_FP16, IntTensor
from pgolf.quant.rules import Rule

# Ends of the grid that a search tries, as parts of the row's largest weight.
SEARCHED = tuple(part / 20 for part in range(20, 5, -1))


def largest_code(bits: int) -> int:
    return 2 ** (bits - 1) - 1


def round_to_codes(weight: Tensor, scale: Tensor, bits: int) -> Tensor:
    """Nearest point of the grid, as a float; weights beyond its end become its last point."""
    limit = largest_code(bits)
    return (weight / scale).round().clamp(-limit, limit)


def row_scales(
    weight_RC: Tensor,
    rule: Rule,
    importance_C: Tensor | None = None,
    importance_R: Tensor | None = None,
) -> Tensor:
    """Step of the grid of each row, fp16 [R], always above 0 and finite.

    Args:
        importance_C: what a squared error in each column costs, for `search`; None is 1 for all.
        importance_R: likewise of each row, for `uniform`, which makes an error of a code equally
            harmful in all of them.
    """
    weight_RC = weight_RC.float()
    if rule.grid == "search":
        return _searched(weight_RC, rule.bits, importance_C)
    if rule.grid == "absmax":
        end_R = weight_RC.abs().amax(dim=1)
    elif rule.grid == "sdclip":
        end_R = _deviations(weight_RC, rule.clip_sigmas)
    else:
        # In float64: the squares of large weights are beyond fp32.
        root_R = torch.ones(len(weight_RC), dtype=torch.float64, device=weight_RC.device)
        if importance_R is not None:
            root_R = importance_R.double().sqrt()
        size = (weight_RC.double() * root_R[:, None]).square().mean().sqrt()
        end_R = (rule.clip_sigmas * size / root_R).float()
        if importance_R is not None:
            # The steps of an important row are only so fine that its largest weight has a code.
            end_R = torch.maximum(end_R, weight_RC.abs().amax(dim=1))
    return _scales(end_R, rule.bits)


def group_scales(
    weight_RC: Tensor, rule: Rule, group_columns: int, importance_C: Tensor | None = None
) -> Tensor:
    """Step of the grid of each group of columns of each row, as if it were a row, fp16 [R, G]."""
    parts = weight_RC.split(group_columns, dim=1)
    weights = [None] * len(parts) if importance_C is None else importance_C.split(group_columns)
    found = [row_scales(part, rule, weight) for part, weight in zip(parts, weights, strict=True)]
    return torch.stack(found, dim=1)


def _scales(end_R: Tensor, bits: int) -> Tensor:
    return (end_R / largest_code(bits)).clamp(SMALLEST_FP16, FP16_MAX).half()


def _deviations(weight_RC: Tensor, sigmas: float) -> Tensor:
    end_R = sigmas * weight_RC.std(dim=1, correction=min(1, weight_RC.size(1) - 1))
    # A (nearly) constant row lies beyond a few of its own standard deviations: there the largest
    # weight ends the grid.
    within_R = weight_RC.mean(dim=1).abs() <= end_R
    return torch.where(within_R, end_R, weight_RC.abs().amax(dim=1))


def _searched(weight_RC: Tensor, bits: int, importance_C: Tensor | None) -> Tensor:
    """Of the ends that are tried, each row's with the least error by rounding to nearest."""
    largest_R = weight_RC.abs().amax(dim=1)
    best_R = _scales(largest_R, bits)
    least_R = torch.full_like(largest_R, torch.inf, dtype=torch.float64)
    weights_C = 1.0 if importance_C is None else importance_C.double()
    for part in SEARCHED:
        scale_R = _scales(part * largest_R, bits)
        scale_R1 = scale_R.float()[:, None]
        error_RC = weight_RC - round_to_codes(weight_RC, scale_R1, bits) * scale_R1
        error_R = (error_RC.double().square() * weights_C).sum(dim=1)
        better_R = error_R < least_R
        best_R = torch.where(better_R, scale_R, best_R)
        least_R = torch.where(better_R, error_R, least_R)
    return best_R


def row_offsets(weight_RC: Tensor, rule: Rule) -> Tensor:
    """Centre of each row's asymmetric grid, fp16 [R]: the mean, or the middle between its ends."""
    weight_RC = weight_RC.float()
    if rule.grid in ("absmax", "search"):
        # Halved first: their sum may be infinite.
        centre_R = weight_RC.amin(dim=1) / 2 + weight_RC.amax(dim=1) / 2
    else:
        centre_R = weight_RC.mean(dim=1)
    return centre_R.clamp(-FP16_MAX, FP16_MAX).half()


def offset_correction(offset_R: Tensor, num_columns: int) -> tuple[IntTensor, IntTensor]:
    """Offsets as a correction of rank 1, [R, 1] times a row of ones: exact, and no new format."""
    signs_R1 = offset_R.sign().to(torch.int8)[:, None]
    sizes_R = offset_R.abs().clamp_min(SMALLEST_FP16)
    ones_1C = torch.ones(1, num_columns, dtype=torch.int8, device=offset_R.device)
    one_1 = torch.ones(1, dtype=torch.float16, device=offset_R.device)
    return IntTensor(signs_R1, sizes_R, 2), IntTensor(ones_1C, one_1, 2)
