"""Second moments of the inputs of matrices over calibration text, summed over the ranks.

Legend: B batch, T time, N positions, C columns of a matrix (width of its input).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import ExitStack
from typing import Any, cast

import torch
from torch import Tensor, nn

from pgolf.distributed import World
from pgolf.progress import track
from pgolf.protocols import Model
from pgolf.quant.sdclip import EMBEDDING

OUTPUT_NORM = "final_norm"


def input_hessians(
    model: nn.Module,
    batches: Iterable[Tensor],
    num_batches: int,
    world: World,
    wanted: Callable[[str, Tensor], bool],
) -> dict[str, Tensor]:
    """X^T X of every nn.Linear's input, and of the final norm's output for the tied embedding.

    Recurrence is on, so a looped layer counts as often as it runs. Ends with the sum over all
    ranks on each of them.

    Args:
        batches: ids_BT, int64, on the model's device; this rank's share.
        num_batches: how many there are, for the progress.
        wanted: whether a weight, given its name and itself, needs statistics.

    Returns:
        fp32 [C, C] by weight name; 0 for a matrix that no input has reached.
    """
    modules = dict(model.named_modules())
    widths = {
        f"{name}.weight": module.in_features
        for name, module in modules.items()
        if isinstance(module, nn.Linear) and wanted(f"{name}.weight", module.weight)
    }
    embedding = dict(model.named_parameters()).get(EMBEDDING)
    if embedding is not None and OUTPUT_NORM in modules and wanted(EMBEDDING, embedding):
        widths[EMBEDDING] = embedding.size(1)
    # One buffer, so that one reduction joins the ranks.
    flat = torch.zeros(sum(width**2 for width in widths.values()), device=world.device)
    parts = flat.split([width**2 for width in widths.values()])
    hessians = {
        name: part.view(width, width)
        for (name, width), part in zip(widths.items(), parts, strict=True)
    }
    with ExitStack() as hooks:
        for name, hessian_CC in hessians.items():
            of_input = name != EMBEDDING
            module = modules[name.removesuffix(".weight") if of_input else OUTPUT_NORM]
            handle = module.register_forward_hook(_accumulate_into(hessian_CC, of_input))
            hooks.callback(handle.remove)
        _run(model, batches, num_batches, world)
    world.sum_(flat)
    return hessians


def _accumulate_into(hessian_CC: Tensor, of_input: bool) -> Callable[..., None]:
    def hook(module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
        x: Tensor = inputs[0] if of_input else output
        x_NC = x.detach().reshape(-1, hessian_CC.size(0)).float()
        # Autocast would round the sum to bf16.
        with torch.autocast(x.device.type, enabled=False):
            hessian_CC.addmm_(x_NC.T, x_NC)

    return hook


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
