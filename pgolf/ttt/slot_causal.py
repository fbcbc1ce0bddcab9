"""`ttt=slot_causal`: a bias on the logits, fitted between parts to text already scored (PR #1350).

SLOT as first published fits it to the positions that it then scores (#1240, #1336); this is the
legal reading alone. The weights never change, and the score is eligible on the adaptive track.
Legend: B batch, T time, N scored positions, V vocab_size.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pgolf.clock import Clock
from pgolf.distributed import World
from pgolf.protocols import Model
from pgolf.ttt.adapted import Adapted, one_chunk_note
from pgolf.ttt.ledger import vocab_size
from pgolf.ttt.pace import Pace

if TYPE_CHECKING:
    from pgolf.ttt.ledger import Ledger

REASON = "fits a bias on the logits to validation text only after that text is scored"


class SlotCausalTTT:
    """L-BFGS on the bias after each part, from the bias before; not after the last.

    It minimises the mean nats of the last `fit_tokens` scored tokens plus l2 / 2 times the bias's
    squared norm. Every rank fits, and all take the bias of rank 0.

    It learns which words a text repeats, so it gains most where the model's context and the chunks
    are short. The pull makes the difference between a gain and a loss: each fit of V numbers to few
    tokens is mostly noise.

    Args:
        chunk_tokens: tokens that are scored between two fits.
        fit_tokens: scored tokens of a fit, in windows of seq_len; fewer at the beginning.
        l2: pull towards no bias. Without it, tokens that the fitted text happens not to have are
            pushed down to the bound.
        iterations: of L-BFGS, with strong Wolfe line search.
        history: pairs that L-BFGS keeps.
        bound: each number of the bias is clamped to +-bound after a fit.
        seq_len: tokens that the model sees at once in a fit.
        reserve_s, compare: as in `pgolf.ttt.score_first`.
    """

    def __init__(
        self,
        *,
        chunk_tokens: int,
        fit_tokens: int,
        l2: float,
        iterations: int = 25,
        history: int = 20,
        bound: float = 5.0,
        seq_len: int,
        reserve_s: float,
        compare: bool = True,
    ) -> None:
        self.chunk_tokens, self.fit_tokens, self.seq_len = chunk_tokens, fit_tokens, seq_len
        self.l2, self.bound = l2, bound
        self.iterations, self.history = iterations, history
        self.reserve_s, self.compare = reserve_s, compare

    def score(self, model: nn.Module, ledger: Ledger, world: World, clock: Clock) -> Adapted:
        """Score all parts of the ledger with the bias of then, and fit it in between.

        Args:
            model: the ledger's.
            clock: when the evaluation budget runs short, the rest is scored with the last bias.
        """
        cast(Model, model).recurrence(True)
        if world.device.type == "cuda":
            ledger.warm_up()
        pace = Pace(clock, world, ledger.num_positions, self.reserve_s)
        biased = BiasedModel(model).to(world.device)
        kept = -(-self.fit_tokens // self.seq_len) * self.seq_len
        scored = torch.empty(0, dtype=torch.int64)
        last, num_fits = ledger.num_parts - 1, 0
        for part in range(ledger.num_parts):
            # The last token of a part is the first input of the next one.
            scored = torch.cat((scored[:-1], ledger.score_next(biased)))[-kept - 1 :]
            if pace.after_scoring(ledger.total.tokens) and part < last:
                self.fit(biased, scored, world)
                pace.after_adapting()
                num_fits += 1
        notes = self.notes(num_fits, last)
        return Adapted(True, REASON, adaptive=num_fits > 0, notes=notes)

    def fit(self, biased: BiasedModel, scored: Tensor, world: World) -> None:
        """Move the bias to the minimum on the last tokens of `scored`, int64 [n+1] on the CPU."""
        bias_V = biased.bias_V
        logits_NV, targets_N = self.scored_logits(biased.model, scored, world)
        optimizer = torch.optim.LBFGS(
            [bias_V],
            max_iter=self.iterations,
            history_size=self.history,
            line_search_fn="strong_wolfe",
        )

        def closure() -> float:
            optimizer.zero_grad()
            nats = F.cross_entropy(logits_NV + bias_V, targets_N)
            loss = nats + 0.5 * self.l2 * bias_V.square().sum()
            loss.backward()
            return float(loss.detach())

        optimizer.step(closure)
        optimizer.zero_grad()
        with torch.no_grad():
            world.broadcast_(bias_V.clamp_(-self.bound, self.bound))

    @torch.no_grad()
    def scored_logits(
        self, model: nn.Module, scored: Tensor, world: World
    ) -> tuple[Tensor, Tensor]:
        """The model's logits of the last fit_tokens targets, fp32 [N, V], and these, int64 [N].

        The windows are whole and do not overlap, so that text shorter than one gives none.
        """
        num_windows = (len(scored) - 1) // self.seq_len
        text = scored[len(scored) - 1 - num_windows * self.seq_len :].to(world.device)
        with world.autocast():
            logits_BTV = cast(Model, model).logits(text[:-1].view(num_windows, -1))
        first = -min(self.fit_tokens, num_windows * self.seq_len)
        return logits_BTV.flatten(0, 1)[first:].float(), text[1:][first:]

    def notes(self, num_fits: int, last: int) -> list[str]:
        """Why there was less adaptation than one would think, if so."""
        if last == 0:
            return [one_chunk_note(self.chunk_tokens)]
        if num_fits < last:
            return [
                f"The bias was fitted after {num_fits:,} of {last:,} chunks, because the "
                "evaluation budget ran short: the rest was scored with the bias of then."
            ]
        return []


class BiasedModel(nn.Module):
    """A model whose logits get a bias: fp32, one number a token of the vocabulary, at first 0."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.bias_V = nn.Parameter(torch.zeros(vocab_size(model)))

    def logits(self, ids_BT: Tensor, last_n: int | None = None) -> Tensor:
        """[B, N, V] of the last_n positions, in fp32."""
        return cast(Model, self.model).logits(ids_BT, last_n) + self.bias_V
