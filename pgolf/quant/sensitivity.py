"""How much a model's predictions suffer from changed weights: measured, not assumed.

Legend: B batch, T time, V vocab_size, R rows and C columns of a matrix.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from pgolf.distributed import World
from pgolf.progress import track
from pgolf.protocols import Model

RARE = 0.02  # added to the importance of each row, whose mean is 1
TOGETHER = 2**14  # tokens that go through the model together: a GPU waits for launches otherwise


class Divergence:
    """Mean KL divergence from the predictions that a model made at first, in nats a token.

    To second order it is what a change of the weights adds to the loss of a trained model. The
    difference of two losses has the same mean and, at these sizes, a hundred times its variance.

    Args:
        model: as it predicts at first, recurrence on.
        batches: ids_BT, int64, on its device; this rank's own.
        num_seqs: of all ranks' sequences, on how many to measure; None is all.
    """

    def __init__(
        self,
        model: nn.Module,
        batches: Sequence[Tensor],
        world: World,
        num_seqs: int | None = None,
    ) -> None:
        self.model, self.world = model, world
        own = None if num_seqs is None else -(-num_seqs // world.world_size)
        ids_NT = torch.cat(list(batches))[:own]
        self.parts = ids_NT.split(max(1, TOGETHER // ids_NT.size(1)))
        self.logits = [self._predict(ids_BT) for ids_BT in self.parts]

    @torch.no_grad()
    def _predict(self, ids_BT: Tensor) -> Tensor:
        with self.world.autocast():
            return cast(Model, self.model).logits(ids_BT)

    @torch.no_grad()
    def __call__(self) -> float:
        """Of the model as it is now, over all ranks' batches. Collective."""
        total = torch.zeros((), dtype=torch.float64, device=self.world.device)
        count = 0
        for ids_BT, first_BTV in zip(self.parts, self.logits, strict=True):
            count += ids_BT.numel()
            for before_TV, now_TV in zip(first_BTV, self._predict(ids_BT), strict=True):
                # Small divergences are differences of nearly equal numbers.
                log_p_TV = before_TV.double().log_softmax(dim=-1)
                log_q_TV = now_TV.double().log_softmax(dim=-1)
                total += (log_p_TV.exp() * (log_p_TV - log_q_TV)).sum()
        nats, tokens = self.world.sum_floats(float(total), count)
        return nats / tokens

    def of_each(self, changed: Mapping[str, Tensor]) -> dict[str, float]:
        """The divergence that each changed weight causes by itself. Collective.

        The model ends with the weights it had.
        """
        parameters = dict(self.model.named_parameters())
        found: dict[str, float] = {}
        with track("probe", len(changed), "tensor", self.world.is_main) as bar, torch.no_grad():
            for name, weight_RC in changed.items():
                parameter = parameters[name]
                before = parameter.detach().clone()
                parameter.copy_(weight_RC)
                found[name] = max(self(), 0.0)
                parameter.copy_(before)
                bar.advance(note=name)
        return found


def row_importance(
    model: nn.Module,
    batches: Sequence[Tensor],
    hessians: Mapping[str, Tensor],
    world: World,
    seed: int = 0,
) -> dict[str, Tensor]:
    """What an error in each row of a matrix costs, next to its other rows: float32 [R], mean 1.02.

    The diagonal of Fisher's information, from gradients for targets that the model draws itself:
    such gradients have no mean, so a sequence's squares estimate it. Columns count by the size of
    their inputs, which they share. An embedding has a row a token: most are too rare for a few
    batches to say anything, so its rows stay alike. Collective.

    Args:
        batches: ids_BT, int64, on the model's device; this rank's own.
        hessians: X^T X by weight name; rows are weighed of these matrices.
        seed: of the targets.
    """
    embeddings = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}
    weights = {
        name: p
        for name, p in model.named_parameters()
        if name in hessians and id(p) not in embeddings
    }
    inputs = {name: hessians[name].diagonal().clamp_min(1e-12) for name in weights}
    sums = {name: torch.zeros(len(p), device=p.device) for name, p in weights.items()}
    generator = torch.Generator(world.device)
    sequences = [ids_1T for batch_BT in batches for ids_1T in batch_BT.split(1)]
    with track("weigh rows", len(sequences), "sequence", world.is_main) as bar:
        for ids_1T in sequences:
            # By what it reads, so that nothing depends on the rank that reads it.
            generator.manual_seed(seed + zlib.crc32(ids_1T.cpu().numpy().tobytes()))
            targets_1T = _drawn(model, ids_1T, world, generator)
            with world.autocast():
                loss = cast(Model, model)(ids_1T, targets_1T)
            gradients = torch.autograd.grad(loss, list(weights.values()))
            for (name, sum_R), gradient_RC in zip(sums.items(), gradients, strict=True):
                sum_R += (gradient_RC.float().square() / inputs[name]).sum(dim=1)
            bar.advance()
    world.sum_all_(list(sums.values()))
    # A row that the drawn targets never reached is rare, not free.
    return {name: sum_R / sum_R.mean() + RARE for name, sum_R in sums.items() if sum_R.any()}


@torch.no_grad()
def _drawn(model: nn.Module, ids_1T: Tensor, world: World, generator: torch.Generator) -> Tensor:
    """Targets as likely as the model finds them, int64 [1, T]."""
    with world.autocast():
        logits_TV = cast(Model, model).logits(ids_1T)[0]
    return torch.multinomial(logits_TV.softmax(dim=-1), 1, generator=generator).T
