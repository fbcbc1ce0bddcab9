"""The quantizers' engine: weights, Hessians and rules to codes, the work dealt over the ranks.

Legend: R rows, C columns.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from pgolf.distributed import World
from pgolf.errors import RunFailed
from pgolf.progress import track
from pgolf.quant.codes import Codes, IntTensor, to_fp16
from pgolf.quant.lowrank import low_rank_correction
from pgolf.quant.matrices import Job, codes_of_jobs
from pgolf.quant.rules import Rule, rule_for

REMEDY = "training has diverged; lower the learning rates (optim, ttt.lr)"


def quantize_weights(
    weights: dict[str, Tensor],
    hessians: dict[str, Tensor],
    rules: Sequence[Rule],
    world: World,
    rows: Mapping[str, Tensor] | None = None,
) -> Codes:
    """Every tensor as codes or fp16, on the CPU, the same on each rank. Collective.

    Neither the number of ranks nor what is swept together changes a result. A matrix whose rule
    wants a Hessian, but whose input nobody has seen, is rounded to nearest, with a warning.

    Args:
        weights: a model's state dict, on the rank's device, the same on each rank.
        hessians: X^T X by weight name, [C, C], the same on each rank.
        rules: the first one whose pattern fits a name counts.
        rows: what a squared error in each row costs, [R] above 0, by weight name, for the grid
            `uniform`; 1 for all rows of matrices without.

    Raises:
        RunFailed: a weight or a Hessian is not finite.
    """
    check_finite(weights, hessians)
    jobs = plan(weights, hessians, rules, world, rows or {})
    own = [job for job, rank in zip(jobs, deal(jobs, world.world_size), strict=True)
           if rank == world.rank]  # fmt: skip
    total = sum(job.weight.numel() for job in own)
    with track("quantize", total, "weight", world.is_main) as bar:
        done = codes_of_jobs(own, bar.advance)
    found = _gather(done, world)
    found |= correct(jobs, found, world)
    return Codes({name: found[name] if name in found else to_fp16(weight)
                  for name, weight in weights.items()})  # fmt: skip


def check_finite(weights: dict[str, Tensor], hessians: dict[str, Tensor]) -> None:
    """Raises RunFailed when a weight or a Hessian is not finite, naming it."""
    for tensors, message in (
        (weights, "holds NaN or infinity, there is nothing to quantize"),
        (hessians, "has inputs on the calibration text that are NaN or infinite"),
    ):
        if not tensors:
            continue
        # One answer for all is waited for, not one for each.
        finite = torch.stack([torch.isfinite(tensor).all() for tensor in tensors.values()])
        for name, is_finite in zip(tensors, finite.tolist(), strict=True):
            if not is_finite:
                raise RunFailed(f"{name} {message}: {REMEDY}")


def plan(
    weights: dict[str, Tensor],
    hessians: dict[str, Tensor],
    rules: Sequence[Rule],
    world: World,
    rows: Mapping[str, Tensor],
) -> list[Job]:
    """The matrices that are quantized, each with what is known of its inputs."""
    jobs = []
    for name, weight in weights.items():
        rule = rule_for(name, weight.shape, rules)
        if rule is None:
            continue
        hessian_CC = hessians.get(name) if rule.needs_hessian else None
        jobs.append(Job(name, weight.detach(), rule, hessian_CC, rows.get(name)))
    seen = _have_inputs(jobs)
    for index, job in enumerate(jobs):
        if not seen[index]:
            if job.rule.needs_hessian and world.is_main:
                warnings.warn(
                    f"{job.name}: calibration has seen no input of it (it looks at inputs of "
                    "nn.Linear and at the tied embedding), so it is rounded to nearest",
                    stacklevel=3,
                )
            jobs[index] = replace(job, hessian=None, rule=job.rule.without_hessian())
    return jobs


def _have_inputs(jobs: list[Job]) -> list[bool]:
    """Whether each job has a Hessian that is not all 0."""
    known = [job.hessian.any() for job in jobs if job.hessian is not None]
    answers = iter(torch.stack(known).tolist() if known else [])
    return [job.hessian is not None and next(answers) for job in jobs]


def deal(jobs: Sequence[Job], num_ranks: int) -> list[int]:
    """The rank of each job. Matrices with one Hessian stay together: it is factored once.

    The largest go first, each to the rank with the least to do.
    """
    costs: dict[int, float] = {}
    keys = [id(job.hessian) if job.hessian is not None else -index - 1
            for index, job in enumerate(jobs)]  # fmt: skip
    for key, job in zip(keys, jobs, strict=True):
        rows, columns = job.weight.shape
        own = rows * columns if job.hessian is None else rows * columns**2
        shared = 0 if key in costs or key < 0 else columns**3
        costs[key] = costs.get(key, 0.0) + own + shared
    loads, rank_of = [0.0] * num_ranks, {}
    for key in sorted(costs, key=lambda key: (-costs[key], keys.index(key))):
        rank_of[key] = loads.index(min(loads))
        loads[rank_of[key]] += costs[key]
    return [rank_of[key] for key in keys]


def _gather(found: dict[str, IntTensor], world: World) -> dict[str, IntTensor]:
    """What all ranks have found."""
    return {name: value for part in world.gather_objects(found) for name, value in part.items()}


def weighted_error(weight_RC: Tensor, found: IntTensor, hessian_CC: Tensor | None) -> float:
    """Squared error of the matrix's outputs over the calibration text, or of its weights."""
    error_RC = weight_RC.double() - found.dequantize().to(weight_RC.device).double()
    if hessian_CC is None:
        return float(error_RC.square().sum())
    return float((error_RC @ hessian_CC.double() * error_RC).sum())


def correct(jobs: list[Job], found: dict[str, IntTensor], world: World) -> dict[str, IntTensor]:
    """Matrices whose rule asks for it, with their low-rank correction. Collective."""
    asking = [job for job in jobs if job.rule.rank]
    if not asking:
        return {}
    errors: dict[str, float] = {}
    for job in asking[world.rank :: world.world_size]:
        errors[job.name] = weighted_error(job.weight, found[job.name], job.hessian)
    for part in world.gather_objects(errors):
        errors |= part
    chosen = []
    for pool in dict.fromkeys(job.rule.pool for job in asking):
        rivals = [job for job in asking if job.rule.pool == pool]
        rivals.sort(key=lambda job: -errors[job.name])
        chosen += rivals[: rivals[0].rule.worst]
    corrected = {}
    for job in chosen[world.rank :: world.world_size]:
        value = found[job.name]
        error_RC = job.weight.float() - value.dequantize().to(job.weight.device)
        factors = low_rank_correction(error_RC, job.hessian, job.rule.rank, job.rule.factor_bits)
        corrected[job.name] = replace(value, correction=factors)
    return _gather(corrected, world)
