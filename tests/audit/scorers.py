"""Little scorers for the auditor: honest ones, and one for each way to break a rule."""

from __future__ import annotations

import numpy as np

from pgolf.audit.scorer import Fed

VOCAB = 23


def log_softmax(logits: np.ndarray) -> np.ndarray:
    shifted = logits - logits.max(-1, keepdims=True)
    normalised: np.ndarray = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    return normalised


class Bigram:
    """Honest: counts of pairs, updated after each token is scored."""

    vocab_size = VOCAB

    def __init__(self) -> None:
        self.begin(0)

    def begin(self, first_id: int) -> None:
        self.counts = np.ones((VOCAB, VOCAB))
        self.last = first_id

    def row(self) -> np.ndarray:
        counts = self.counts[self.last]
        return np.log(counts / counts.sum())

    def learn(self, token: int) -> None:
        self.counts[self.last, token] += 1.0
        self.last = token

    def feed(self, ids: np.ndarray) -> Fed:
        rows = []
        for token in ids.tolist():
            rows.append(self.row())
            self.learn(token)
        log_probs = np.array(rows)
        return Fed(log_probs, -log_probs[np.arange(len(ids)), ids])


class VectorsOnly(Bigram):
    """Honest: says nothing of what it books."""

    def feed(self, ids: np.ndarray) -> Fed:
        return Fed(super().feed(ids).log_probs)


class ByChunks(Bigram):
    """Honest: scores a chunk with what it knew before, then learns from it."""

    CHUNK = 10

    def feed(self, ids: np.ndarray) -> Fed:
        rows = []
        for start in range(0, len(ids), self.CHUNK):
            chunk = ids[start : start + self.CHUNK].tolist()
            last = self.last
            for token in chunk:
                rows.append(self.row())
                self.last = token
            self.last = last
            for token in chunk:
                self.learn(token)
        log_probs = np.array(rows)
        return Fed(log_probs, -log_probs[np.arange(len(ids)), ids])


class AdaptThenScore(ByChunks):
    """Learns from a chunk, then scores it."""

    def feed(self, ids: np.ndarray) -> Fed:
        rows = []
        for start in range(0, len(ids), self.CHUNK):
            chunk = ids[start : start + self.CHUNK].tolist()
            last = self.last
            for token in chunk:
                self.learn(token)
            self.last = last
            for token in chunk:
                rows.append(self.row())
                self.last = token
        log_probs = np.array(rows)
        return Fed(log_probs, -log_probs[np.arange(len(ids)), ids])


class TwoPasses(Bigram):
    """Scores the text a second time with what the first pass taught it."""

    def feed(self, ids: np.ndarray) -> Fed:
        last = self.last
        super().feed(ids)
        self.last = last
        return super().feed(ids)


class WarmedUp(Bigram):
    """Learns from the first tokens of the text before it scores them."""

    def feed(self, ids: np.ndarray) -> Fed:
        last = self.last
        for token in ids[:8].tolist():
            self.learn(token)
        self.last = last
        return super().feed(ids)


class BlockMean(Bigram):
    """Mixes the mean of a block of tokens into each prediction inside it."""

    BLOCK = 8

    def feed(self, ids: np.ndarray) -> Fed:
        honest = super().feed(ids).log_probs
        mixed = honest.copy()
        for start in range(0, len(ids), self.BLOCK):
            block = ids[start : start + self.BLOCK]
            mean = np.bincount(block, minlength=VOCAB) / len(block)
            mixed[start : start + self.BLOCK] += 0.1 * mean
        log_probs = log_softmax(mixed)
        return Fed(log_probs, -log_probs[np.arange(len(ids)), ids])


class Slot(Bigram):
    """A bias fitted on the very tokens that it scores."""

    def feed(self, ids: np.ndarray) -> Fed:
        honest = super().feed(ids).log_probs
        bias = np.log1p(np.bincount(ids, minlength=VOCAB))
        log_probs = log_softmax(honest + 0.5 * bias)
        return Fed(log_probs, -log_probs[np.arange(len(ids)), ids])


class Gate(Bigram):
    """Sharpens a prediction where the token that comes is the likeliest."""

    def feed(self, ids: np.ndarray) -> Fed:
        log_probs = super().feed(ids).log_probs
        hit = log_probs.argmax(1) == ids
        log_probs = log_softmax(np.where(hit[:, None], 2.0 * log_probs, log_probs))
        return Fed(log_probs, -log_probs[np.arange(len(ids)), ids])


class BestOfTwo(Bigram):
    """Books the better of two predictors for each token."""

    def feed(self, ids: np.ndarray) -> Fed:
        fed = super().feed(ids)
        assert fed.nats is not None
        return Fed(fed.log_probs, np.minimum(fed.nats, np.log(VOCAB)))


class LargerOfTwo(Bigram):
    """The larger probability of two predictors for every token: no distribution."""

    def feed(self, ids: np.ndarray) -> Fed:
        log_probs = np.maximum(super().feed(ids).log_probs, -np.log(VOCAB))
        return Fed(log_probs, -log_probs[np.arange(len(ids)), ids])


class HashBuckets(Bigram):
    """A ratio of counts in hash buckets, in which other tokens lie as well."""

    def feed(self, ids: np.ndarray) -> Fed:
        log_probs = np.array(super().feed(ids).log_probs)
        tokens = np.arange(VOCAB)
        shared = np.array([log_probs[:, tokens % 5 == t % 5].max(1) for t in tokens]).T
        return Fed(shared, -shared[np.arange(len(ids)), ids])


class ByteMixture(Bigram):
    """p^(1/n) over the n bytes of a token: not a distribution either."""

    def feed(self, ids: np.ndarray) -> Fed:
        log_probs = super().feed(ids).log_probs / (1.0 + np.arange(VOCAB) % 3)
        return Fed(log_probs, -log_probs[np.arange(len(ids)), ids])


class ShortAlphabet(Bigram):
    """A distribution over some of the tokens only."""

    def feed(self, ids: np.ndarray) -> Fed:
        log_probs = log_softmax(super().feed(ids).log_probs[:, : VOCAB - 3])
        return Fed(log_probs, -log_probs[np.arange(len(ids)), np.minimum(ids, VOCAB - 4)])
