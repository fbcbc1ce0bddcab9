"""FLIP: whether a prediction depends on anything but the tokens before it."""

from __future__ import annotations

import numpy as np

from pgolf.audit.finding import FAIL, Finding
from pgolf.audit.order import Order
from pgolf.audit.probe import failed, passed, undecided
from pgolf.audit.scorer import Fed, run_scorer
from pgolf.audit.subject import ScoredSlice, Subject

# Where scorers like to begin a block, if nobody says where this one does.
USUAL_BORDERS = (16, 32, 64, 128, 256, 512)
EARLY = 3
LATER, ALONE = "later tokens", "this token alone"
FEW_TOKENS = 8  # of a text that repeats so few, others are drawn from the whole alphabet


class Flip:
    """Runs the whole scorer on a text and on changed ones, and compares what comes before.

    Args:
        slice_tokens: length of the text; divisible by nothing, if possible.
        offsets: places at which tokens are changed, borders of blocks and chunks first.
        tolerance: of a log-probability; what kernels round on the same shapes.
        seed: of the places and of the new tokens.
    """

    name = "FLIP"

    def __init__(self, *, slice_tokens: int, offsets: int, tolerance: float, seed: int) -> None:
        self.slice_tokens, self.offsets = slice_tokens, offsets
        self.tolerance, self.seed = tolerance, seed

    def check(self, subject: Subject) -> Finding:
        """All scorers of the subject, one after the other."""
        slices = [] if subject.slices is None else subject.slices(self.slice_tokens)
        if not slices:
            return undecided(self, "There is no scorer that could be run.", "causality")
        worst, left, done = 0.0, [], []
        for part in slices:
            found = self.probe(part)
            if found.verdict == FAIL:
                return found
            worst = max(worst, found.witness["largest_difference"])
            left += part.not_checked
            done.append(part.name)
        return passed(
            self, f"No prediction changes with later tokens or its own: {', '.join(done)}.",
            left, largest_difference=worst, tokens=len(slices[0].ids), offsets=self.offsets,
        )  # fmt: skip

    def probe(self, part: ScoredSlice) -> Finding:
        """One scorer: the same text again, then other tokens after a place, and one at the place.

        The new tokens are drawn at random, or at every other place one and the same: what chooses
        by the text that comes, e.g. the better of two predictors, is drawn to both sides.
        """
        ids = part.ids
        order = Order.of_text(len(ids) - 1) if part.order is None else part.order
        scorer = part.open()
        base = run_scorer(scorer, ids)
        if (found := self._again(part, base)) is not None:
            return found
        worst = 0.0
        for number, place in enumerate(self.places(part)):
            may = order.may_know(place - 1)
            for what in (LATER, ALONE):
                at = np.flatnonzero(may) + 1 if what == LATER else np.zeros(0, np.int64)
                at = np.append(place, at[ids[at] != ids[0]])
                changed = self._changed(ids, at, scorer.vocab_size, number % 2 == 0)
                other = run_scorer(part.open(), changed)
                row, difference = _first_difference(base, other, may, place - 1, self.tolerance)
                if row is not None:
                    return self._refuse(part, what, place, row, base, other)
                worst = max(worst, difference)
        return passed(self, "", largest_difference=worst)

    def _again(self, part: ScoredSlice, base: Fed) -> Finding | None:
        """A scorer that says other things the second time keeps something from the first."""
        nothing = np.zeros(len(part.ids) - 1, bool)
        other = run_scorer(part.open(), part.ids)
        row, _ = _first_difference(base, other, nothing, len(nothing), self.tolerance)
        if row is None:
            return None
        column = int(np.argmax(_apart(base.log_probs[row], other.log_probs[row])))
        return failed(
            self,
            f"{part.name}: the same text gets another prediction at {row + 1} the second time: it "
            "depends on more than the tokens before.",
            part.not_checked, scorer=part.name, position=row + 1, of_token=column,
            log_prob=float(base.log_probs[row, column]),
            log_prob_again=float(other.log_probs[row, column]),
        )  # fmt: skip

    def places(self, part: ScoredSlice) -> list[int]:
        """Places to change: beside borders, then anywhere; at least one token comes before."""
        random = np.random.default_rng(self.seed)
        size = len(part.ids)
        inside = [at for at in part.borders or USUAL_BORDERS if 2 <= at < size - 1]
        # Some borders, spread evenly: on the border, and one before it.
        half = max(1, self.offsets // 2)
        picked = inside[:: max(1, -(-2 * len(inside) // half))] if inside else []
        places = [at - shift for at in picked for shift in (0, 1)][:half]
        if part.order is not None:  # beginnings of documents stay: they decide the order
            places = [at for at in places if part.ids[at] != part.ids[0]]
        free = [at for at in range(2, size) if part.order is None or part.ids[at] != part.ids[0]]
        wanted = min(self.offsets, len(free))
        # Among the first tokens, too, which a warm-up would learn from.
        places = [*dict.fromkeys([*places, *[at for at in free if at > EARLY][:1]])][:wanted]
        drawn = random.permutation(np.setdiff1d(free, places))[: wanted - len(places)]
        return [*places, *sorted(drawn.tolist())]

    def _changed(self, ids: np.ndarray, at: np.ndarray, vocab_size: int, drawn: bool) -> np.ndarray:
        """Other tokens at some places, the first of them changed for certain; no new documents."""
        random = np.random.default_rng(self.seed + int(at[0]))
        pool = np.setdiff1d(np.unique(ids), ids[:1])
        if len(pool) < FEW_TOKENS:
            pool = np.setdiff1d(np.arange(vocab_size), ids[:1])
        changed = ids.copy()
        new = random.choice(pool, len(at)) if drawn else np.full(len(at), random.choice(pool))
        same = new == ids[at]
        if not drawn:
            same[1:] = False
        new[same] = pool[(np.searchsorted(pool, new[same]) + 1) % len(pool)]
        changed[at] = new
        return changed

    def _refuse(
        self, part: ScoredSlice, what: str, place: int, row: int, base: Fed, other: Fed
    ) -> Finding:
        column = int(np.argmax(_apart(base.log_probs[row], other.log_probs[row])))
        booked = {}
        if base.nats is not None and other.nats is not None and row != place - 1:
            booked = {
                "booked_nats": float(base.nats[row]),
                "booked_nats_after_change": float(other.nats[row]),
            }
        return failed(
            self,
            f"{part.name}: the prediction at {row + 1} changes with {what} at {place}: it is not "
            "causal.",
            part.not_checked, scorer=part.name, position=row + 1, changed_from=place,
            changed=what, token=int(part.ids[row + 1]), of_token=column,
            log_prob=float(base.log_probs[row, column]),
            log_prob_after_change=float(other.log_probs[row, column]),
            **booked,
        )  # fmt: skip


def _apart(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Distances of log-probabilities; two that are minus infinity are equal, NaN equals nothing."""
    with np.errstate(invalid="ignore"):
        off = np.abs(a - b)
    return np.where(np.isnan(off), np.where(a == b, 0.0, np.inf), off)


def _first_difference(
    base: Fed, other: Fed, may: np.ndarray, own: int, tolerance: float
) -> tuple[int | None, float]:
    """First row that differs and must not; and the largest difference of all that must not.

    Args:
        may: rows that may differ, bool [N].
        own: the row whose token is changed: its prediction stays, what is booked does not.
    """
    off = _apart(base.log_probs, other.log_probs).max(1)
    if base.nats is not None and other.nats is not None:
        booked = _apart(base.nats, other.nats)
        booked[own : own + 1] = 0.0
        off = np.maximum(off, booked)
    off[may] = 0.0
    wrong = np.flatnonzero(off > tolerance)
    return (int(wrong[0]) if len(wrong) else None), float(off.max(initial=0.0))
