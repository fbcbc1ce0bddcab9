"""Second moments of the inputs of matrices over calibration text, summed over the ranks.

Legend: B batch, T time, N positions, C columns of a matrix (width of its input).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from pgolf.distributed import World
from pgolf.kernel.linear import observed_by
from pgolf.progress import track
from pgolf.protocols import Model
from pgolf.quant.rules import Rule, rule_for
from pgolf.quant.sdclip import EMBEDDING


def needed_hessians(
    model: nn.Module,
    batches: Iterable[Tensor],
    num_batches: int,
    world: World,
    rules: Sequence[Rule],
) -> dict[str, Tensor]:
    """Hessians of the matrices whose rules need them; without any, no batch is looked at."""

    def wanted(name: str, weight: Tensor) -> bool:
        rule = rule_for(name, weight.shape, rules)
        return rule is not None and rule.needs_hessian

    if not any(rule.needs_hessian for rule in rules):
        return {}
    return input_hessians(model, batches, num_batches, world, wanted)


def input_hessians(
    model: nn.Module,
    batches: Iterable[Tensor],
    num_batches: int,
    world: World,
    wanted: Callable[[str, Tensor], bool],
) -> dict[str, Tensor]:
    """X^T X of every matrix's input, and of what the tied embedding reads as the head.

    Recurrence is on, so a looped layer counts as often as it runs. Ends with the sum over all
    ranks on each of them. Matrices that always read the same input share one result.

    Args:
        batches: ids_BT, int64, on the model's device; this rank's share, equally many on each.
        num_batches: how many there are, for the progress.
        wanted: whether a weight, given its name and itself, needs statistics.

    Returns:
        fp32 [C, C] by weight name; 0 for a matrix that no input has reached.
    """
    linears = {f"{n}.weight" for n, m in model.named_modules() if isinstance(m, nn.Linear)}
    names: dict[Tensor, str] = {
        parameter: name
        for name, parameter in model.named_parameters()
        if name in linears | {EMBEDDING} and wanted(name, parameter)
    }
    sums: dict[tuple[str, ...], Tensor] = {}

    def accumulate(x: Tensor, weights: tuple[Tensor, ...]) -> None:
        readers = tuple(names[w] for w in weights if w in names)
        if readers:
            gram_CC = _gram(x.detach().flatten(0, -2))
            sums[readers] = sums[readers].add_(gram_CC) if readers in sums else gram_CC

    with observed_by(accumulate):
        _run(model, batches, num_batches, world)
    world.sum_all_(list(sums.values()))
    hessians: dict[str, Tensor] = {}
    for weight, name in names.items():
        own = [total for readers, total in sums.items() if name in readers]
        hessians[name] = own[0] if len(own) == 1 else sum(own, start=_zeros(weight))
    return hessians


def _zeros(weight_RC: Tensor) -> Tensor:
    width = weight_RC.size(1)
    return torch.zeros(width, width, device=weight_RC.device)


def _gram(x_NC: Tensor) -> Tensor:
    """X^T X in fp32. Products of bf16 numbers are exact in fp32, where the GPU sums them."""
    # Autocast would round the sum to bf16.
    with torch.autocast(x_NC.device.type, enabled=False):
        if x_NC.is_cuda and x_NC.dtype == torch.bfloat16:
            return torch.mm(x_NC.T, x_NC, out_dtype=torch.float32)
        return x_NC.float().T @ x_NC.float()


@torch.no_grad()
def _run(model: nn.Module, batches: Iterable[Tensor], num_batches: int, world: World) -> None:
    model.eval()
    runnable = cast(Model, model)
    runnable.recurrence(True)
    with track("calibrate", num_batches, "batch", world.is_main) as bar:
        for ids_BT in batches:
            with world.autocast():
                runnable.logits(ids_BT)
            bar.advance()
