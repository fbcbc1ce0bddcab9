"""Seconds of GPTQ of the whole model, beside a loop over matrices and columns in fp32.

python bench/quant_speed.py [--small] [--device cuda] [--rounds N] [--block N ...] [--json] [--save]

Random weights and Hessians of the sizes of model=recurrent3 at scale=full (--small: scale=nano).
Beside pgolf's engine runs GPTQ as it is mostly written, the structure of the published script: one
matrix after the other, in fp32, blocks of 128 columns. On the GPU both run there, though the
published script takes the CPU. Both start from Hessians on the device and end with codes on the
CPU. Both codes are compared with a third computation, matrix by matrix in float64.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import record
import torch
from hydra.utils import instantiate
from torch import Tensor

from pgolf.config import compose
from pgolf.distributed import World
from pgolf.quant.codes import Codes, IntTensor
from pgolf.quant.condition import condition
from pgolf.quant.engine import quantize_weights
from pgolf.quant.rules import Rule, rule_for

DAMPING, PLAIN_BLOCK, SAMPLES_PER_COLUMN, SHARED = 0.01, 128, 4, ("c_q", "c_k", "c_v")


def made_up(scale: str, device: torch.device) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Weights, and Hessians of inputs with a decaying spectrum; queries, keys and values share."""
    config = compose([f"scale={scale}", "model=recurrent3"])
    with torch.device("meta"):
        model = instantiate(config["model"], _convert_="all")
    generator = torch.Generator(device).manual_seed(0)
    weights: dict[str, Tensor] = {}
    hessians: dict[str, Tensor] = {}
    by_input: dict[str, Tensor] = {}
    for name, value in model.state_dict().items():
        if value.ndim != 2 or not name.endswith(".weight"):
            continue
        weights[name] = 0.03 * torch.randn(value.shape, generator=generator, device=device)
        reader = name
        for part in SHARED:
            reader = reader.replace(part, "c_qkv")
        if reader not in by_input:
            by_input[reader] = made_up_hessian(value.size(1), generator)
        hessians[name] = by_input[reader]
    return weights, hessians


def made_up_hessian(width: int, generator: torch.Generator) -> Tensor:
    device = generator.device
    mix_CC = torch.randn(width, width, generator=generator, device=device) / width**0.5
    mix_CC *= torch.arange(1, width + 1, device=device).rsqrt()[:, None]
    count = SAMPLES_PER_COLUMN * width
    x_NC = torch.randn(count, width, generator=generator, device=device) @ mix_CC
    x_NC += 0.01 * torch.randn(count, width, generator=generator, device=device)
    return x_NC.T @ x_NC


def rules_of(scale: str, block_size: int) -> list[Rule]:
    config = compose([f"scale={scale}", "quant=gptq_sdclip", f"quant.block_size={block_size}"])
    rules: list[Rule] = instantiate(config["quant"], _convert_="all").rules
    return rules


def plain_codes(
    weight_RC: Tensor, hessian_CC: Tensor, scale_R: Tensor, limit: int, block: int
) -> Tensor:
    """GPTQ of one matrix as it is mostly written; int8 [R, C]."""
    hessian_CC = hessian_CC.clone()
    dead_C = hessian_CC.diagonal() == 0
    hessian_CC.diagonal()[dead_C] = 1
    hessian_CC.diagonal().add_(DAMPING * hessian_CC.diagonal().mean())
    order_C = hessian_CC.diagonal().argsort(descending=True)
    weight_RC = weight_RC[:, order_C].clone()
    weight_RC[:, dead_C[order_C]] = 0
    hessian_CC = hessian_CC[order_C][:, order_C]
    inverse_CC = torch.cholesky_inverse(torch.linalg.cholesky(hessian_CC))
    factor_CC = torch.linalg.cholesky(inverse_CC, upper=True)
    codes_RC = torch.zeros_like(weight_RC, dtype=torch.int8)
    num_columns = weight_RC.size(1)
    for first in range(0, num_columns, block):
        end = min(first + block, num_columns)
        part_RB = weight_RC[:, first:end].clone()
        errors_RB = torch.zeros_like(part_RB)
        factor_BB = factor_CC[first:end, first:end]
        for at in range(end - first):
            column_R = part_RB[:, at]
            code_R = torch.clamp(torch.round(column_R / scale_R), -limit, limit)
            codes_RC[:, first + at] = code_R.to(torch.int8)
            error_R = (column_R - code_R * scale_R) / factor_BB[at, at]
            errors_RB[:, at] = error_R
            part_RB[:, at:] -= error_R[:, None] * factor_BB[at, at:][None]
        weight_RC[:, end:] -= errors_RB @ factor_CC[first:end, end:]
    return codes_RC[:, order_C.argsort()]


def by_loop(
    weights: dict[str, Tensor], hessians: dict[str, Tensor], rules: list[Rule]
) -> dict[str, Tensor]:
    """Every matrix by `plain_codes`, one after the other."""
    found = {}
    for name, weight_RC in weights.items():
        rule = rule_for(name, weight_RC.shape, rules)
        if rule is not None:
            limit = 2 ** (rule.bits - 1) - 1
            scale_R = (rule.clip_sigmas * weight_RC.std(dim=1) / limit).clamp_min(1e-10)
            scale_R = scale_R.half().float()
            codes_RC = plain_codes(weight_RC, hessians[name], scale_R, limit, PLAIN_BLOCK)
            found[name] = codes_RC.cpu()
    return found


def reference(weight_RC: Tensor, hessian_CC: Tensor, found: IntTensor) -> Tensor:
    """GPTQ of one matrix on the grid that was found, in float64, column by column, no blocks."""
    device = weight_RC.device
    item = condition([hessian_CC], [""], DAMPING, by_activation=True)[0]
    rest_RC = weight_RC.double()[:, item.order]
    scale_R = found.scales.to(device).double()
    limit = 2 ** (found.bits - 1) - 1
    codes_RC = torch.empty_like(rest_RC)
    for column in range(rest_RC.size(1)):
        code_R = (rest_RC[:, column] / scale_R).round().clamp(-limit, limit)
        codes_RC[:, column] = code_R
        error_R = (rest_RC[:, column] - code_R * scale_R) / item.factor[column, column]
        rest_RC[:, column:].addr_(error_R, item.factor[column, column:], alpha=-1)
    return codes_RC[:, item.order.argsort()].to(torch.int8).cpu()


def seconds_of(work: Callable[[], Any], rounds: int, world: World) -> tuple[float, Any]:
    """Median seconds, after one round that does not count, and what the work gave."""
    taken = []
    for _ in range(rounds + 1):
        world.synchronize()
        start = time.perf_counter()
        result = work()
        world.synchronize()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken[1:]), result


def num_differing(found: dict[str, Tensor], expected: dict[str, Tensor]) -> int:
    return sum(int((found[name] != codes).sum()) for name, codes in expected.items())


def figures_of(scale: str, blocks: list[int], rounds: int, world: World) -> dict[str, Any]:
    weights, hessians = made_up(scale, world.device)
    figures: dict[str, Any] = {}
    for block in blocks:
        rules = rules_of(scale, block)
        work = partial(quantize_weights, weights, hessians, rules, world)
        seconds, codes = seconds_of(work, rounds, world)
        figures[f"engine, blocks of {block}, s"] = seconds
    assert isinstance(codes, Codes)
    own = {name: v for name, v in codes.tensors.items() if isinstance(v, IntTensor)}
    seconds, plain = seconds_of(partial(by_loop, weights, hessians, rules), 1, world)
    figures["loop in fp32, s"] = seconds
    for block in blocks:
        figures[f"ratio, blocks of {block}"] = seconds / figures[f"engine, blocks of {block}, s"]
    expected = {name: reference(weights[name], hessians[name], own[name]) for name in own}
    figures["matrices"] = len(own)
    figures["codes"] = sum(codes.numel() for codes in expected.values())
    own_codes = {name: value.codes for name, value in own.items()}
    figures["engine, codes unlike float64"] = num_differing(own_codes, expected)
    figures["loop, codes unlike float64"] = num_differing(plain, expected)
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", action="store_true", help="scale=nano, for a CPU")
    cuda = torch.cuda.is_available()
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda" if cuda else "cpu")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--block", type=int, nargs="+", default=[32])
    record.add_options(parser)
    options = parser.parse_args()
    device = torch.device(options.device)
    scale = "nano" if options.small else "full"
    figures = figures_of(scale, options.block, options.rounds, World(device=device))
    title = torch.cuda.get_device_name() if device.type == "cuda" else "CPU"
    record.finish("quant_speed", {f"{title}, scale={scale}": figures}, options)


if __name__ == "__main__":
    main()
