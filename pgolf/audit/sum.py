"""SUM: whether what is scored is one distribution over all tokens, and its entry of the token."""

from __future__ import annotations

import numpy as np

from pgolf.audit.finding import FAIL, Finding
from pgolf.audit.probe import failed, passed, undecided
from pgolf.audit.scorer import Fed, run_scorer
from pgolf.audit.subject import ScoredSlice, Subject


class Sum:
    """Sums the probabilities of all tokens at every place of a text.

    Args:
        slice_tokens: length of the text.
        tolerance: of the logarithm of the sum.
        score_tolerance: between what is booked and the distribution's entry, in nats.
    """

    name = "SUM"

    def __init__(self, *, slice_tokens: int, tolerance: float, score_tolerance: float) -> None:
        self.slice_tokens, self.tolerance = slice_tokens, tolerance
        self.score_tolerance = score_tolerance

    def check(self, subject: Subject) -> Finding:
        """All scorers of the subject, one after the other."""
        slices = [] if subject.slices is None else subject.slices(self.slice_tokens)
        if not slices:
            return undecided(self, "There is no scorer that could be run.", "normalisation")
        worst, left, done = 0.0, [], []
        for part in slices:
            found = self.probe(part)
            if found.verdict == FAIL:
                return found
            worst = max(worst, found.witness["largest_log_sum"])
            left += found.not_checked
            done.append(part.name)
        return passed(
            self, f"Every prediction is a distribution over all tokens: {', '.join(done)}.",
            left, largest_log_sum=worst, tokens=len(slices[0].ids) - 1,
        )  # fmt: skip

    def probe(self, part: ScoredSlice) -> Finding:
        """One scorer."""
        scorer = part.open()
        fed = run_scorer(scorer, part.ids)
        log_p = fed.log_probs.astype(np.float64)
        if part.vocab_size is not None and scorer.vocab_size < part.vocab_size:
            return failed(
                self,
                f"{part.name}: {scorer.vocab_size} of {part.vocab_size} tokens are predicted.",
                vocab_size=part.vocab_size, predicted=scorer.vocab_size,
            )  # fmt: skip
        if log_p.shape != (len(part.ids) - 1, scorer.vocab_size):
            return failed(
                self, f"{part.name}: predictions have the shape {log_p.shape}.",
                shape=list(log_p.shape), vocab_size=scorer.vocab_size,
            )  # fmt: skip
        largest = log_p.max(1)
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            log_sum = largest + np.log(np.exp(log_p - largest[:, None]).sum(1))
        off = np.abs(np.nan_to_num(log_sum, nan=np.inf))
        wrong = np.flatnonzero(off > self.tolerance)
        if len(wrong):
            row = int(wrong[0])
            return failed(
                self, f"{part.name}: the prediction at {row + 1} does not sum to 1.",
                scorer=part.name, position=row + 1, log_sum=float(log_sum[row]), expected=0.0,
                positions=len(wrong),
            )  # fmt: skip
        return self._booked(part, fed, log_p, float(off.max(initial=0.0)))

    def _booked(self, part: ScoredSlice, fed: Fed, log_p: np.ndarray, worst: float) -> Finding:
        """The scored value is the entry of the token."""
        if fed.nats is None:
            left = ["whether the booked score is the distribution's: the scorer gives none"]
            return passed(self, "", left, largest_log_sum=worst)
        entry = -log_p[np.arange(len(log_p)), part.ids[1:]]
        with np.errstate(invalid="ignore"):
            wrong = np.flatnonzero(~(np.abs(entry - fed.nats) <= self.score_tolerance))
        if len(wrong):
            row = int(wrong[0])
            return failed(
                self,
                f"{part.name}: what is booked at {row + 1} is not the prediction's entry of its "
                "token.",
                scorer=part.name, position=row + 1, booked_nats=float(fed.nats[row]),
                distribution_nats=float(entry[row]), positions=len(wrong),
            )  # fmt: skip
        return passed(self, "", largest_log_sum=worst)
