"""Scorers that break a rule here and there only, or where nobody looks at first."""

from __future__ import annotations

import numpy as np

from pgolf.audit.scorer import Fed
from tests.audit.scorers import VOCAB, Bigram, ByChunks, log_softmax


def booked(log_probs: np.ndarray, ids: np.ndarray) -> Fed:
    return Fed(log_probs, -log_probs[np.arange(len(ids)), ids])


class BorderPeek(Bigram):
    """Knows the token after the one it predicts, at the end of each chunk of 16 alone."""

    def feed(self, ids: np.ndarray) -> Fed:
        log_probs = np.array(super().feed(ids).log_probs)
        for row in range(14, len(ids) - 1, 16):
            log_probs[row, ids[row + 1]] += 1.0
        return booked(log_softmax(log_probs), ids)


class Cached(Bigram):
    """A table of the module keeps what other scorers saw: honest the first time alone."""

    TABLE = np.zeros((VOCAB, VOCAB))

    def feed(self, ids: np.ndarray) -> Fed:
        fed = super().feed(ids)
        log_probs = log_softmax(fed.log_probs + np.log1p(self.TABLE[self.last]))
        np.add.at(self.TABLE, (ids[:-1], ids[1:]), 1.0)
        return booked(log_probs, ids)


class Noisy(Bigram):
    """Draws from a global source of random numbers in each prediction."""

    SOURCE = np.random.default_rng(0)

    def feed(self, ids: np.ndarray) -> Fed:
        log_probs = super().feed(ids).log_probs
        return booked(log_softmax(log_probs + self.SOURCE.normal(0, 0.1, log_probs.shape)), ids)


class ChosenTemperature(ByChunks):
    """For each chunk the temperature that suits it best."""

    def feed(self, ids: np.ndarray) -> Fed:
        log_probs = np.array(super().feed(ids).log_probs)
        for start in range(0, len(ids), self.CHUNK):
            rows, chunk = log_probs[start : start + self.CHUNK], ids[start : start + self.CHUNK]
            tried = [log_softmax(heat * rows) for heat in (0.25, 0.5, 1.0, 2.0, 4.0)]
            best = max(tried, key=lambda found: found[np.arange(len(chunk)), chunk].sum())
            log_probs[start : start + self.CHUNK] = best
        return booked(log_probs, ids)


class SecondLook(ByChunks):
    """Scores each chunk twice and reports the second score."""

    def feed(self, ids: np.ndarray) -> Fed:
        rows = []
        for start in range(0, len(ids), self.CHUNK):
            chunk = ids[start : start + self.CHUNK]
            last = self.last
            super().feed(chunk)
            self.last = last
            rows.append(super().feed(chunk).log_probs)
        return booked(np.concatenate(rows), ids)


class BetterForChunk(ByChunks):
    """Of two predictors, for each chunk the one that had the lower loss on it."""

    def feed(self, ids: np.ndarray) -> Fed:
        log_probs = np.array(super().feed(ids).log_probs)
        even = np.full(VOCAB, -np.log(VOCAB))
        for start in range(0, len(ids), self.CHUNK):
            chunk = ids[start : start + self.CHUNK]
            rows = log_probs[start : start + self.CHUNK]
            if rows[np.arange(len(chunk)), chunk].mean() < even[0]:
                log_probs[start : start + self.CHUNK] = even
        return booked(log_probs, ids)


class OneTokenMore(Bigram):
    """Normalised over all tokens but the last one, which gets its share on top."""

    def feed(self, ids: np.ndarray) -> Fed:
        log_probs = np.array(super().feed(ids).log_probs)
        log_probs[:, :-1] = log_softmax(log_probs[:, :-1])
        return booked(log_probs, ids)


class Rounded(Bigram):
    """What is booked is rounded down to tenths of a nat."""

    def feed(self, ids: np.ndarray) -> Fed:
        fed = super().feed(ids)
        assert fed.nats is not None
        return Fed(fed.log_probs, np.floor(10.0 * fed.nats) / 10.0)


class Shifted(Bigram):
    """Books for each token the nats of the one before."""

    def feed(self, ids: np.ndarray) -> Fed:
        fed = super().feed(ids)
        assert fed.nats is not None
        return Fed(fed.log_probs, np.roll(fed.nats, 1))


class RareWords(Bigram):
    """Knows of each text which tokens never come in it."""

    def feed(self, ids: np.ndarray) -> Fed:
        log_probs = np.array(super().feed(ids).log_probs)
        log_probs[:, np.setdiff1d(np.arange(VOCAB), ids)] -= 3.0
        return booked(log_softmax(log_probs), ids)


class NotANumber(Bigram):
    """One prediction is NaN, which compares with nothing."""

    def feed(self, ids: np.ndarray) -> Fed:
        log_probs = np.array(super().feed(ids).log_probs)
        log_probs[len(ids) // 2] = np.nan
        return booked(log_probs, ids)


class Overwrites(Bigram):
    """Changes the text that it was given, so that it is easier."""

    def feed(self, ids: np.ndarray) -> Fed:
        ids[len(ids) // 2 :] = ids[0]
        return super().feed(ids)
