"""DOCS: whether a prediction sees the document before; a policy, which no rule forbids."""

from __future__ import annotations

import numpy as np

from pgolf.audit.finding import Finding
from pgolf.audit.probe import passed, undecided
from pgolf.audit.scorer import run_scorer
from pgolf.audit.subject import Subject


class Docs:
    """Changes the document before a border and looks at the predictions behind it.

    Args:
        slice_tokens: length of the text, of which the first half becomes one document.
        tolerance: of a log-probability.
    """

    name = "DOCS"

    def __init__(self, *, slice_tokens: int, tolerance: float) -> None:
        self.slice_tokens, self.tolerance = slice_tokens, tolerance

    def check(self, subject: Subject) -> Finding:
        """Reported as it is."""
        slices = [] if subject.slices is None else subject.slices(self.slice_tokens)
        if not slices:
            return undecided(self, "There is no scorer that could be run.", "borders of documents")
        part = slices[0]
        ids = part.ids.copy()
        # A border close enough to its past to be seen by any window.
        border = min(len(ids) // 2, 48)
        ids[border] = ids[0]
        other = ids.copy()
        other[1:border] = np.roll(ids[1:border], 1)
        a, b = (run_scorer(part.open(), text).log_probs[border:] for text in (ids, other))
        with np.errstate(invalid="ignore"):
            off = np.nan_to_num(np.abs(a - b)).max(1)
        crosses = bool(off.max(initial=0.0) > self.tolerance)
        what = (
            "Predictions see the document before (packed documents)."
            if crosses
            else "Each document is predicted by itself alone (isolated documents)."
        )
        return passed(
            self, what, crosses=crosses, position=border + 1 + int(off.argmax()),
            difference=float(off.max(initial=0.0)),
        )  # fmt: skip
