"""Scorers of an artifact over a short text, made from a run's configuration; for the auditor."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from hydra.utils import instantiate

from pgolf.audit.subject import DataFolder, ScoredSlice
from pgolf.errors import RunFailed, UserError
from pgolf.protocols import DocumentTTT
from pgolf.shipped import adapts_while_scoring

# Of a method that adapts to documents: several rounds and two phases, in a few short documents.
NUM_DOCS, BATCH_DOCS, PHASE_TOKENS = 6, 2, 32
LATER = "the run's own chunk length: a short text was adapted to in chunks of {} tokens"
SHORTER = "the run's own documents: {} short ones were scored, {} side by side"


class Slices:
    """Scorers of an artifact over the first tokens of some documents.

    Args:
        artifact: folder of the shipped files.
        data: gives the text.
        config: of the run; None: plain windows of the model's training length.
    """

    def __init__(self, artifact: Path, data: DataFolder, config: dict[str, Any] | None) -> None:
        self.artifact, self.data, self.config = artifact, data, config
        self._read: Any = None

    def __call__(self, num_tokens: int) -> list[ScoredSlice]:
        """The fixed predictor, or the method that adapts while scoring."""
        ids = self.data.tokens("validation")[:num_tokens].astype(np.int64)
        evaluator, seq_len, stride = self._evaluator(num_tokens - 1)
        config = self.config
        if config is None or not adapts_while_scoring(config):
            from pgolf.auditing.window_scorer import ArtifactScorer

            model = self.build()
            edges = [*range(seq_len, len(ids), stride)] or [len(ids) // 2]
            return [
                ScoredSlice(
                    "artifact", lambda: ArtifactScorer(model, evaluator), ids, edges,
                    vocab_size=self.data.manifest.vocab_size,
                )
            ]  # fmt: skip
        return self._adaptive(config, evaluator, ids, seq_len)

    def state(self) -> float:
        """The norm of the artifact's weights and buffers."""
        from pgolf.state import state_of

        return float(state_of(self.build()))

    def times_scored(self, num_positions: int) -> np.ndarray:
        """How often the evaluator's windows score each position of a text, int64 [n]."""
        windows = self._evaluator(num_positions)[0].windows(num_positions)
        times = np.zeros(num_positions + windows.seq_len + 1, np.int64)
        np.add.at(times, windows.scored_from, 1)
        np.add.at(times, windows.starts + windows.seq_len, -1)
        return times.cumsum()[:num_positions]

    def _adaptive(
        self, config: dict[str, Any], evaluator: Any, ids: np.ndarray, seq_len: int
    ) -> list[ScoredSlice]:
        from pgolf.auditing.window_scorer import AdaptiveScorer, ArtifactScorer

        method, model = config["ttt"], self.build()
        fixed = ScoredSlice(
            "artifact without adapting", lambda: ArtifactScorer(model, evaluator), ids,
            [*range(seq_len, len(ids), seq_len)],
        )  # fmt: skip
        if isinstance(instantiate(method, _convert_="all"), DocumentTTT):
            return [fixed, self._by_document(method, evaluator, len(ids))]
        if "chunk_tokens" not in method:
            note = "the method that adapts: it has no chunk_tokens for a short text"
            return [ScoredSlice(fixed.name, fixed.open, ids, fixed.borders, [note])]
        chunk = min(int(method["chunk_tokens"]), max(seq_len, len(ids) // 3))
        settings = {**method, "chunk_tokens": chunk, "seq_len": min(method["seq_len"], chunk)}
        left = [] if chunk == method["chunk_tokens"] else [LATER.format(chunk)]

        def scorer() -> AdaptiveScorer:
            ttt = instantiate(settings, _convert_="all")
            return AdaptiveScorer(self.build, evaluator, ttt)

        name = str(method["_target_"]).rpartition(".")[2]
        borders = [*range(chunk, len(ids), chunk)]
        return [fixed, ScoredSlice(name, scorer, ids, borders, left)]

    def _by_document(self, method: dict[str, Any], evaluator: Any, num_tokens: int) -> ScoredSlice:
        """A few short documents, in the order in which the method's ledger has them scored."""
        from pgolf.auditing.document_scorer import DocumentScorer, scoring_order, short_documents

        ids = short_documents(self.data.tokens("validation"), num_tokens, NUM_DOCS)
        most = {
            "batch_docs": BATCH_DOCS, "prefix_docs": NUM_DOCS - 2, "chunk_tokens": 2 * PHASE_TOKENS,
            "seq_len": PHASE_TOKENS, "lora_chunk_tokens": max(2, num_tokens // (4 * NUM_DOCS)),
        }  # fmt: skip
        shorter = {key: min(int(method[key]), size) for key, size in most.items() if key in method}
        settings = {**method, **shorter}

        def scorer() -> DocumentScorer:
            ttt = instantiate(settings, _convert_="all")
            return DocumentScorer(self.build, evaluator, ttt)

        order = scoring_order(ids, instantiate(settings, _convert_="all"), evaluator)
        borders = (np.flatnonzero(np.diff(order.step)) + 2).tolist()
        left = [SHORTER.format(int((ids == ids[0]).sum()), shorter.get("batch_docs", "all"))]
        name = str(method["_target_"]).rpartition(".")[2]
        return ScoredSlice(name, scorer, ids, borders, left, order)

    def build(self) -> Any:
        """The model from the artifact's bytes, which are decoded once."""
        import torch

        from pgolf.artifact import build_model, read_artifact

        if self._read is None:
            # For a text this short; threads that wait for each other made it thirty times slower.
            torch.set_num_threads(1)
            try:
                self._read = read_artifact(self.artifact)
            except UserError as error:  # what is shipped is the run's own fault
                raise RunFailed(str(error)) from error
        return build_model(self._read)

    def _evaluator(self, num_positions: int) -> tuple[Any, int, int]:
        """The evaluator of a text so long, and the run's own seq_len and stride.

        A window that reaches beyond the text is cut to it where its length does not change the
        model: nothing but padding goes, which is most of a window of the full size.
        """
        if self.config is None:
            from pgolf.eval.standard import StandardEvaluator

            evaluator: Any = StandardEvaluator(seq_len=min(256, num_positions), batch_seqs=1)
            return evaluator, 256, 256
        settings = self.config["eval"]
        evaluator = instantiate(settings, _convert_="all")
        seq_len = int(evaluator.seq_len)
        stride = int(getattr(evaluator, "stride", seq_len))
        short = max(num_positions, stride if stride < seq_len else 1)
        if short < seq_len <= self.config["model"].get("train_seq_len", 0):
            evaluator = instantiate({**settings, "seq_len": short}, _convert_="all")
        return evaluator, seq_len, stride
