"""The order in which a text is scored, and what a prediction may know by it.

A scorer of a text as it comes knows all tokens before. One that scores documents side by side knows
the text of its own document before, and what was scored in earlier steps.
Legend: N predictions, row i is about token i + 1 of the text.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Order:
    """When each prediction is made.

    Args:
        step: number of the step, int64 [N]; predictions of one step are made together.
        document: number of the document that each prediction belongs to, int64 [N].
    """

    step: np.ndarray
    document: np.ndarray

    @classmethod
    def of_text(cls, count: int) -> Order:
        """One document, from its first token to its last."""
        return cls(np.arange(count), np.zeros(count, np.int64))

    def may_know(self, row: int) -> np.ndarray:
        """Predictions that may depend on the token of a row, bool [N]; the row is none of them."""
        rows = np.arange(len(self.step))
        own = (self.document == self.document[row]) & (self.step == self.step[row])
        return (self.step > self.step[row]) | (own & (rows > row))

    def runs_back(self) -> int | None:
        """The first row whose document is not scored from its beginning on, None where all are."""
        last: dict[int, int] = {}
        for row, (document, step) in enumerate(zip(self.document, self.step, strict=True)):
            if step < last.get(int(document), -1):
                return row
            last[int(document)] = int(step)
        return None
