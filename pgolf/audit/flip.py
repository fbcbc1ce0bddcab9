"""FLIP: whether a prediction depends on anything but the tokens before it."""

from __future__ import annotations

import numpy as np

from pgolf.audit.finding import FAIL, Finding
from pgolf.audit.probe import failed, passed, undecided
from pgolf.audit.scorer import Fed, run_scorer
from pgolf.audit.subject import ScoredSlice, Subject


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
        """One scorer: everything after a place is changed, and the token at the place alone."""
        ids, worst = part.ids, 0.0
        base = run_scorer(part.open(), ids)
        for place in self.places(part):
            for what, last in (("later tokens", len(ids)), ("this token alone", place + 1)):
                changed = self._changed(ids, place, last)
                other = run_scorer(part.open(), changed)
                row, difference = _first_difference(base, other, place, self.tolerance)
                if row is not None:
                    return self._refuse(part, what, place, row, base, other)
                worst = max(worst, difference)
        return passed(self, "", largest_difference=worst)

    def places(self, part: ScoredSlice) -> list[int]:
        """Places to change: beside borders, then anywhere; at least one token comes before."""
        random = np.random.default_rng(self.seed)
        size = len(part.ids)
        inside = [at for at in part.borders if 2 <= at < size - 1]
        # Some borders, spread evenly: on the border, and one before it.
        half = max(1, self.offsets // 2)
        picked = inside[:: max(1, -(-2 * len(inside) // half))] if inside else []
        places = [at - shift for at in picked for shift in (0, 1)][:half]
        while len(places) < min(self.offsets, size - 2):
            place = int(random.integers(2, size))
            if place not in places:
                places.append(place)
        return sorted(set(places))

    def _changed(self, ids: np.ndarray, first: int, last: int) -> np.ndarray:
        """Other tokens of the same text from first to last; beginnings of documents stay."""
        random = np.random.default_rng(self.seed + first)
        pool = np.setdiff1d(np.unique(ids), ids[:1])
        changed = ids.copy()
        at = np.arange(first, last)
        at = at[ids[at] != ids[0]] if last - first > 1 else at
        new = random.choice(pool, len(at))
        same = new == ids[at]
        new[same] = pool[(np.searchsorted(pool, new[same]) + 1) % len(pool)]
        changed[at] = new
        return changed

    def _refuse(
        self, part: ScoredSlice, what: str, place: int, row: int, base: Fed, other: Fed
    ) -> Finding:
        token = int(part.ids[row + 1])
        column = int(np.argmax(np.abs(base.log_probs[row] - other.log_probs[row])))
        booked = {}
        if base.nats is not None and other.nats is not None and row < place - 1:
            booked = {
                "booked_nats": float(base.nats[row]),
                "booked_nats_after_change": float(other.nats[row]),
            }
        return failed(
            self,
            f"{part.name}: the prediction at {row + 1} changes with {what} at {place}: it is not "
            "causal.",
            part.not_checked, scorer=part.name, position=row + 1, changed_from=place,
            changed=what, token=token, of_token=column,
            log_prob=float(base.log_probs[row, column]),
            log_prob_after_change=float(other.log_probs[row, column]),
            **booked,
        )  # fmt: skip


def _first_difference(
    base: Fed, other: Fed, place: int, tolerance: float
) -> tuple[int | None, float]:
    """First row about a token up to `place` that differs; and the largest difference of all."""
    # Row i is about token i + 1, so row place - 1 is that of the changed token itself.
    a, b = base.log_probs[:place], other.log_probs[:place]
    with np.errstate(invalid="ignore"):
        off = np.abs(a - b)
    off = np.where(np.isnan(off), np.where(a == b, 0.0, np.inf), off).max(1)
    if base.nats is not None and other.nats is not None:
        booked = np.abs(base.nats[: place - 1] - other.nats[: place - 1])
        off[: place - 1] = np.maximum(off[: place - 1], np.nan_to_num(booked, nan=np.inf))
    wrong = np.flatnonzero(off > tolerance)
    return (int(wrong[0]) if len(wrong) else None), float(off.max(initial=0.0))
