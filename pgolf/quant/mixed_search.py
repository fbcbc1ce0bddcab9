"""`quant=mixed_search`: the bytes of the limit go where they lower the loss most.

With an entropy coder behind it, the width of codes costs nothing: the distance of two codes decides
both bytes and error. At a given price of a byte the best step of a matrix follows from what an
error in it does to the loss (reverse water-filling); within a matrix the columns share by the
Hessian and the rows by Fisher's information. What errors do is measured, with the codes in place.
Legend: B batch, T time, R rows, C columns.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from glob import escape
from itertools import islice
from typing import Literal

from torch import Tensor, nn

from pgolf.distributed import World
from pgolf.errors import RunFailed, UserError
from pgolf.quant.allocation import Curve, allocate, next_budget
from pgolf.quant.codes import Codes, IntTensor
from pgolf.quant.corrections import worth_correcting
from pgolf.quant.curves import byte_curves
from pgolf.quant.engine import quantize_weights
from pgolf.quant.grids import largest_code
from pgolf.quant.hessian import needed_hessians
from pgolf.quant.rules import Rule
from pgolf.quant.sensitivity import Divergence, row_importance

REFERENCE_STEP = 0.5  # where errors are measured first, in root mean squares of a matrix
STATES: Literal[8] = 8  # of the trellis, and the penalty of a bit, unless others are given
PENALTY = 0.1
WIDEST = 8  # bits while searching; codes are narrowed afterwards
MEASUREMENTS = 2  # of errors: at the reference, and at what was chosen by it
TRIALS = 6  # sizes that are tried for real
MARGIN = 0.0004  # of the limit, that a size is aimed below it
CLOSE_ENOUGH = 0.001
LEAST = 0.1  # of what the first measurement foretells, if the second is lost in noise


@dataclass(frozen=True)
class Searched:
    """The matrices of a model and what the search knows about them.

    Args:
        weights: the state dict, apart from the model.
        hessians: X^T X by weight name.
        rows: importance of rows by weight name.
        world: of all ranks, which search alike.
    """

    weights: dict[str, Tensor]
    hessians: dict[str, Tensor]
    rows: dict[str, Tensor]
    world: World

    def quantize(self, rules: Mapping[str, Rule]) -> Codes:
        return quantize_weights(
            self.weights, self.hessians, list(rules.values()), self.world, self.rows
        )


class MixedSearchQuantizer:
    """Chooses the step, and so the bits, of every matrix for an artifact just under the limit.

    Args:
        limit_bytes: of the artifact's folder, code included.
        rounding: as in `pgolf.quant.rules.Rule`: to the codes with feedback ("gptq"), or along a
            trellis ("trellis").
        states: of the trellis.
        penalty: of a bit, in squared steps, for the trellis.
        rank: of a correction by a product of two small matrices, for matrices where it lowers the
            loss by more than its bytes cost; 0 for none.
        rank_candidates: so many matrices, those with the largest losses, are tried; 0 for none.
        damping: added to the Hessian's diagonal, as a part of its mean.
        min_elements: smaller tensors stay fp16.
        probe_seqs: of the first calibration batch, the sequences, on all ranks, on which errors
            are measured.
        weigh_batches: of the calibration batches, those whose text gives each row of a matrix a
            step by its importance; 0 for one step a matrix.
        calibration_batches: batches of training text, in all; what is left gives the Hessians.

    Raises:
        UserError: a value outside its range.
    """

    def __init__(
        self,
        *,
        limit_bytes: int,
        rounding: Literal["gptq", "trellis"] = "trellis",
        states: Literal[4, 8, 16, 32, 64, 128, 256] = STATES,
        penalty: float = PENALTY,
        rank: int = 4,
        rank_candidates: int = 3,
        damping: float = 0.01,
        min_elements: int,
        probe_seqs: int = 16,
        weigh_batches: int = 1,
        calibration_batches: int,
    ) -> None:
        if limit_bytes < 1:
            raise UserError(f"quant.limit_bytes={limit_bytes}: expected 1 or more")
        if calibration_batches < 2:
            raise UserError(
                f"quant.calibration_batches={calibration_batches}: expected 2 or more, one for "
                "errors and at least one for the Hessians (scale.calibration_batches=...)"
            )
        if not 0 <= weigh_batches < calibration_batches - 1:
            raise UserError(
                f"quant.weigh_batches={weigh_batches}: expected 0 to "
                f"{calibration_batches - 2}, since of quant.calibration_batches="
                f"{calibration_batches} one measures errors and at least one gives the Hessians"
            )
        if rounding == "gptq" and (states, penalty) != (STATES, PENALTY):
            raise UserError(
                f"quant.states={states}, quant.penalty={penalty}: have no effect on "
                "rounding=gptq; leave them out, or use quant.rounding=trellis"
            )
        if probe_seqs < 1:
            raise UserError(f"quant.probe_seqs={probe_seqs}: expected 1 or more")
        if rank < 0 or rank_candidates < 0:
            raise UserError(
                f"quant.rank={rank}, quant.rank_candidates={rank_candidates}: expected 0 or more"
            )
        self.limit_bytes = limit_bytes
        self.rank, self.rank_candidates = rank, rank_candidates
        self.probe_seqs = probe_seqs
        self.weigh_batches, self.calibration_batches = weigh_batches, calibration_batches
        try:
            self.rule = Rule(
                pattern="*.weight", bits=WIDEST, grid="uniform", columns="water", order="natural",
                rounding=rounding, states=states, damping=damping, min_elements=min_elements,
                penalty=penalty if rounding == "trellis" else 0.0,
            )  # fmt: skip
        except UserError as error:
            raise UserError(f"quant.{error}") from error

    def quantize(
        self,
        model: nn.Module,
        batches: Iterable[Tensor],
        world: World,
        size_of: Callable[[Codes], int],
    ) -> Codes:
        """Codes of all weights; see `pgolf.protocols.Quantizer`.

        Raises:
            RunFailed: a weight or a Hessian is not finite, or not even the coarsest steps fit.
        """
        # Each answers on text of its own: rows that one text has weighed do less harm on it than
        # on others, and what a batch measures there would starve them.
        batches = iter(batches)
        probes, weighing = [next(batches)], list(islice(batches, self.weigh_batches))
        rest = self.calibration_batches - 1 - self.weigh_batches
        hessians = needed_hessians(model, batches, rest, world, [self.rule])
        rows = row_importance(model, weighing, hessians, world) if weighing else {}
        weights = {name: value.detach().clone() for name, value in model.state_dict().items()}
        searched = Searched(weights, hessians, rows, world)
        divergence = Divergence(model, probes, world, self.probe_seqs)
        curves = self.measured(searched, divergence)
        corrected = self.corrected(searched, curves)
        codes = self.fitted(searched, curves, corrected, size_of)
        return replace(codes, losses=divergence.of_each(matrices_of(codes, hessians)))

    def rules(self, steps: Mapping[str, float], corrected: Collection[str] = ()) -> dict[str, Rule]:
        """A rule for each matrix, by its step."""
        widest = largest_code(WIDEST)
        return {
            name: replace(
                self.rule,
                pattern=escape(name),
                clip_sigmas=widest * step,
                rank=self.rank if name in corrected else 0,
            )
            for name, step in steps.items()
        }

    def measured(self, searched: Searched, divergence: Divergence) -> dict[str, Curve]:
        """Bytes and loss of every matrix over steps."""
        steps = {name: REFERENCE_STEP for name in searched.hessians}
        sizes = byte_curves(searched.weights, searched.hessians, searched.rows,
                            self.rules(steps), searched.world)  # fmt: skip
        curves: dict[str, Curve] = {}
        for _ in range(MEASUREMENTS):
            codes = searched.quantize(self.rules(steps))
            losses = divergence.of_each(matrices_of(codes, steps))
            for name, curve in curves.items():
                losses[name] = max(losses[name], LEAST * curve.at(steps[name])[1])
            curves = {
                # An error's power goes with the square of the step, and the loss with its power.
                name: Curve(at, size, losses[name] * (at / steps[name]) ** 2)
                for name, (at, size) in sizes.items()
            }
            steps = allocate(curves, self.limit_bytes).steps
        return curves

    def corrected(self, searched: Searched, curves: dict[str, Curve]) -> list[str]:
        """Names of matrices that get a low-rank correction, of those with the largest losses."""
        if not self.rank or not self.rank_candidates:
            return []
        choice = allocate(curves, self.limit_bytes)
        losses = {name: curves[name].at(step)[1] for name, step in choice.steps.items()}
        candidates = sorted(losses, key=lambda name: -losses[name])[: self.rank_candidates]
        rules = self.rules({name: choice.steps[name] for name in candidates})
        codes = quantize_weights(
            {name: searched.weights[name] for name in candidates}, searched.hessians,
            list(rules.values()), searched.world, searched.rows,
        )  # fmt: skip
        found = {n: value for n, value in codes.tensors.items() if isinstance(value, IntTensor)}
        return worth_correcting(
            searched.weights, searched.hessians, found, losses, choice.price,
            self.rank, self.rule.factor_bits, searched.world,
        )  # fmt: skip

    def fitted(
        self,
        searched: Searched,
        curves: dict[str, Curve],
        corrected: list[str],
        size_of: Callable[[Codes], int],
    ) -> Codes:
        """Codes whose artifact takes nearly as many bytes as there may be, and no more."""
        world, best, best_size, best_price = searched.world, None, 0, 0.0
        tried: list[tuple[float, int]] = []
        while len(tried) < TRIALS or (best is None and len(tried) < 2 * TRIALS):
            # What ends over the limit again and again is aimed lower and lower.
            margin = MARGIN * 2 ** max(0, len(tried) - TRIALS + 1)
            choice = allocate(curves, next_budget(self.limit_bytes * (1 - margin), tried))
            if choice.bytes in (size for size, _ in tried):
                break  # there is nothing coarser, or nothing in between
            codes = narrowed(searched.quantize(self.rules(choice.steps, corrected)))
            size = world.gather_objects(size_of(codes) if world.is_main else 0)[0]
            tried.append((choice.bytes, size))
            if best_size < size <= self.limit_bytes:
                best, best_size, best_price = codes, size, choice.price
            if best is codes and (choice.price == 0 or self._is_close(size)):
                break
        if best is None:
            raise RunFailed(
                f"quant.limit_bytes={self.limit_bytes:,}: the smallest artifact of {len(tried)} "
                f"that were tried has {min(size for _, size in tried):,} bytes: use a smaller "
                "model or a larger limit"
            )
        if world.is_main and not self._is_close(best_size):
            self._warn_of_unused(best_size, best_price, len(tried))
        return best

    def _warn_of_unused(self, size: int, price: float, trials: int) -> None:
        reason = f"nothing nearer was found in {trials} trials"
        if price == 0:
            reason = "the steps are the finest already, the model could be larger"
        warnings.warn(
            f"{self.limit_bytes - size:,} of quant.limit_bytes={self.limit_bytes:,} bytes stay "
            f"unused: {reason}",
            stacklevel=4,
        )

    def _is_close(self, size: int) -> bool:
        return size > self.limit_bytes * (1 - CLOSE_ENOUGH)


def matrices_of(codes: Codes, names: Iterable[str]) -> dict[str, Tensor]:
    """The weights that codes stand for, of those names that have codes."""
    found = {name: codes.tensors[name] for name in names}
    return {n: value.dequantize() for n, value in found.items() if isinstance(value, IntTensor)}


def narrowed(codes: Codes) -> Codes:
    """The same numbers, each matrix with no more bits than its codes need."""
    return Codes({name: _narrow(value) if isinstance(value, IntTensor) else value
                  for name, value in codes.tensors.items()})  # fmt: skip


def _narrow(value: IntTensor) -> IntTensor:
    largest = int(value.codes.abs().max()) if value.codes.numel() else 0
    return replace(value, bits=max(2, largest.bit_length() + 1))
