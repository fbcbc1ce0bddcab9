"""GPTQ's pass over the columns (arXiv 2210.17323), of many matrices at once.

A column's errors are passed on to later columns, so columns come one after the other, and a GPU
waits for the launch of small kernels. Rows are independent given the factor: here the rows of all
matrices of equal width stand side by side, whatever their number, bits and grids, and one kernel
serves them all. Products that pass errors on to later blocks are done matrix by matrix: then
nothing in a result depends on what else is in the batch.

Legend: R rows of a matrix, C columns, M matrices, N rows of all of them, T tiles of rows of one
matrix, H rows of a tile, B columns of a block.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from pgolf.quant.grids import largest_code
from pgolf.quant.rounding import Entropy, Nearest, Rounding


@dataclass(frozen=True)
class Sheet:
    """A matrix in the order of its sweep.

    Args:
        weight: what to round.
        factor: U with U^T U = H^-1, float64.
        scales: step of each row's grid, [R], or of each weight's, [R, C].
        bits: of the codes.
        penalty: of a bit, in squared steps of a column of average importance.
    """

    weight: Tensor
    factor: Tensor
    scales: Tensor
    bits: int
    penalty: float = 0.0


def sweep(
    sheets: list[Sheet],
    block_size: int,
    counts_bits: bool = False,
    advance: Callable[[int], None] = lambda weights: None,
) -> list[Tensor]:
    """Codes of each matrix, int8 [R, C], in the order of its sweep.

    Args:
        sheets: of equal width, on one device, all with steps of rows or all with steps of weights.
        block_size: columns after which the errors are passed on to all later ones.
        counts_bits: whether codes are chosen by their bits, too.
        advance: told how many weights have been rounded, block by block.
    """
    rows = [len(sheet.weight) for sheet in sheets]
    ends = torch.tensor(rows).cumsum(0).tolist()
    step = torch.cat([sheet.scales.t() for sheet in sheets], dim=-1).double()
    # Columns as contiguous rows: one is read and the rest of its block updated at each step.
    weight_CN = torch.cat([sheet.weight.T for sheet in sheets], dim=1).double()
    step_CN = step if step.dim() == 2 else None
    if step_CN is None:
        # In steps of the grid from the start: nothing is left to convert on the way.
        weight_CN.div_(step)
    num_columns = len(weight_CN)
    # With ones on the diagonal an error is passed on as it is.
    by_factor = {id(sheet.factor): _unit(sheet.factor) for sheet in sheets}
    units = [by_factor[id(sheet.factor)] for sheet in sheets]
    height = math.gcd(*rows)
    tiles = [index for index, count in enumerate(rows) for _ in range(count // height)]
    owner_T = torch.tensor(tiles, device=weight_CN.device)
    limit_N = _of_rows([float(largest_code(sheet.bits)) for sheet in sheets], rows, weight_CN)
    rounding: Rounding = Nearest(limit_N)
    if counts_bits:
        unit_CN = weight_CN if step_CN is None else weight_CN / step_CN
        rounding = _entropy(sheets, rows, unit_CN, limit_N)
    codes_CN = torch.empty_like(weight_CN, dtype=torch.int8)
    for first in range(0, num_columns, block_size):
        end = min(first + block_size, num_columns)
        block = slice(first, end)
        unit_MBB = torch.stack([unit_CC[block, block] for unit_CC in units])
        unit_BBT = unit_MBB[owner_T].permute(1, 2, 0).contiguous()
        step_BN = None if step_CN is None else step_CN[block]
        codes_BN, errors_BN = _block(weight_CN[block], unit_BBT, rounding, first, step_BN)
        codes_CN[block] = codes_BN
        for unit_CC, count, last in zip(units, rows, ends, strict=True):
            own = slice(last - count, last)
            weight_CN[end:, own].addmm_(unit_CC[block, end:].T, errors_BN[:, own], alpha=-1)
        advance(codes_BN.numel())
    return [part.T for part in codes_CN.split(rows, dim=1)]


def _unit(factor_CC: Tensor) -> Tensor:
    return factor_CC / factor_CC.diagonal()[:, None]


def _block(
    weight_BN: Tensor, unit_BBT: Tensor, rounding: Rounding, first: int, step_BN: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Codes and errors of a block's columns; errors are passed on within it at once, in place.

    Args:
        step_BN: where steps differ along a row, and weights are not in steps yet.
    """
    codes_BN, errors_BN = torch.empty_like(weight_BN), torch.empty_like(weight_BN)
    num_tiles = unit_BBT.size(2)
    weight_BTH = weight_BN.unflatten(1, (num_tiles, -1))
    errors_BTH = errors_BN.unflatten(1, (num_tiles, -1))
    unit_BBT1 = unit_BBT[..., None]
    for at in range(len(weight_BN)):
        # Few kernels, since each waits to be launched.
        if step_BN is not None:
            weight_BN[at].div_(step_BN[at])
        code_N = rounding(weight_BN[at], first + at, codes_BN[at])
        torch.sub(weight_BN[at], code_N, out=errors_BN[at])
        if step_BN is not None:
            errors_BN[at].mul_(step_BN[at])
        weight_BTH[at + 1 :].addcmul_(unit_BBT1[at, at + 1 :], errors_BTH[at], value=-1)
    return codes_BN, errors_BN


def _of_rows(values: list[float], rows: list[int], like: Tensor) -> Tensor:
    """One value of each matrix for all of its rows."""
    values_M = torch.tensor(values, dtype=like.dtype, device=like.device)
    return values_M.repeat_interleave(torch.tensor(rows, device=like.device), output_size=sum(rows))


def _entropy(sheets: list[Sheet], rows: list[int], unit_CN: Tensor, limit_N: Tensor) -> Entropy:
    """Args: unit_CN: the weights in steps."""
    importances = []
    for sheet in sheets:
        # Squared step over squared pivot, its geometric mean over the matrix 1.
        log_C = -2 * sheet.factor.diagonal().log()
        log_CR = log_C[:, None] + 2 * sheet.scales.t().double().log()
        importances.append((log_CR - log_CR.mean()).exp())
    penalty_N = _of_rows([sheet.penalty for sheet in sheets], rows, limit_N)
    deviation_N = unit_CN.square().mean(dim=0).sqrt()
    return Entropy(limit_N, deviation_N, penalty_N, torch.cat(importances, dim=1))
