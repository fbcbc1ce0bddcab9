"""Opens what is to be audited and asks the probes: where the auditor meets the rest of pgolf."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
from hydra.utils import instantiate
from omegaconf import OmegaConf

from pgolf.audit.auditor import Auditor
from pgolf.audit.finding import FILE, Verdict
from pgolf.audit.subject import DataFolder, ScoredSlice, Subject
from pgolf.config import CONF, load_config
from pgolf.errors import UserError
from pgolf.events import read_events
from pgolf.files import sha256_file
from pgolf.shipped import CODE_FILE, adapts_while_scoring, write_code

MODEL_FILE = "model.pgolf"
# A chunk of a method that adapts, in windows: short, so that a short text has several.
CHUNK_WINDOWS = 1
LATER = "the run's own chunk length: a short text was adapted to in chunks of {} tokens"


def open_auditor(mode: str) -> Auditor:
    """The auditor of an option of conf/audit, e.g. "quick".

    Raises:
        UserError: there is no such option.
    """
    path = CONF / "audit" / f"{mode}.yaml"
    if not path.is_file():
        there = ", ".join(sorted(p.stem for p in path.parent.glob("*.yaml")))
        raise UserError(f"audit={mode}: no such option; there are {there}")
    auditor: Auditor = instantiate(OmegaConf.to_container(OmegaConf.load(path)), _convert_="all")
    return auditor


def open_subject(
    path: Path, data: Path | None = None, rescore: Callable[[], dict[str, Any]] | None = None
) -> Subject:
    """A run folder or an artifact folder.

    Args:
        data: a prepared folder, of shards with a manifest; a run knows its own.
        rescore: scores the run's artifact again; see `Subject`.

    Raises:
        UserError: it is neither, or a record in it cannot be read.
    """
    if (path / "result.json").is_file():
        return open_run(path, data, rescore)
    if (path / MODEL_FILE).is_file():
        folder = None if data is None else open_data(data)
        slices = None if folder is None else Slices(path, folder, None)
        return Subject("artifact", path, artifact=path, data=folder, slices=slices)
    raise UserError(
        f"{path}: neither a finished run (result.json) nor an artifact ({MODEL_FILE}): name a "
        "folder like outputs/NAME/ID, or its artifact/"
    )


def open_run(
    folder: Path, data: Path | None, rescore: Callable[[], dict[str, Any]] | None
) -> Subject:
    """All that a run folder has, and the data that it used if they are still there."""
    result, log = _json(folder / "result.json"), folder / "events.jsonl"
    assert result is not None
    config = load_config(folder) if (folder / "config.yaml").is_file() else None
    artifact = folder / "artifact" if (folder / "artifact").is_dir() else None
    used = ((result.get("provenance") or {}).get("data") or {}) if data is None else {}
    shards = data or (Path(used["folder"]) if used.get("folder") else None)
    there = shards is not None and (shards / "manifest.json").is_file()
    if data is not None and not there:
        raise UserError(f"--data {data}: no manifest.json; name a folder of prepared shards")
    documents = Path(used["documents"]) if used.get("documents") else None
    text = open_data(shards, documents) if shards is not None and there else None
    ready = artifact is not None and text is not None and config is not None
    return Subject(
        kind="run",
        folder=folder,
        result=result,
        events=list(read_events(log)) if log.is_file() else [],
        config=config,
        provenance=_json(folder / "provenance.json"),
        artifact=artifact,
        data=text,
        slices=Slices(artifact, text, config) if ready else None,  # type: ignore[arg-type]
        rescore=rescore,
        code_is_here=lambda: _same_code(artifact, config),
    )


def open_data(folder: Path, documents: Path | None = None) -> DataFolder:
    """Shards, and the raw documents if they are there."""
    for candidate in (documents, folder / "documents"):
        if candidate is not None and (candidate / "validation.jsonl.zst").is_file():
            return DataFolder(folder, candidate)
    return DataFolder(folder)


def data_record(folder: Path, documents: Path, fingerprint: str) -> dict[str, Any]:
    """What a run writes down of its data, so that the auditor finds them and sees changes."""
    return {
        "folder": str(folder),
        "documents": str(documents),
        "manifest_sha256": sha256_file(folder / "manifest.json"),
        "tokenizer_fingerprint": fingerprint,
    }


def artifact_record(folder: Path) -> dict[str, dict[str, Any]]:
    """Bytes and sha256 of each file that is about to be scored."""
    return {
        path.name: {"bytes": path.stat().st_size, "sha256": sha256_file(path)}
        for path in sorted(folder.iterdir())
    }


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
        evaluator, seq_len, stride = self._evaluator()
        config = self.config
        if config is None or not adapts_while_scoring(config):
            from pgolf.scorers import ArtifactScorer

            model = self.build()
            edges = [*range(seq_len, len(ids), stride)] or [len(ids) // 2]
            return [ScoredSlice("artifact", lambda: ArtifactScorer(model, evaluator), ids, edges)]
        return self._adaptive(config, evaluator, ids, seq_len)

    def _adaptive(
        self, config: dict[str, Any], evaluator: Any, ids: np.ndarray, seq_len: int
    ) -> list[ScoredSlice]:
        from pgolf.scorers import AdaptiveScorer, ArtifactScorer

        method, model = config["ttt"], self.build()
        fixed = ScoredSlice(
            "artifact without adapting", lambda: ArtifactScorer(model, evaluator), ids,
            [*range(seq_len, len(ids), seq_len)],
        )  # fmt: skip
        if "chunk_tokens" not in method or "batch_docs" in method:
            note = "the method that adapts to documents, in whose order of scoring FLIP is not run"
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

    def build(self) -> Any:
        """The model from the artifact's bytes, which are decoded once."""
        import torch

        from pgolf.artifact import build_model, read_artifact

        if self._read is None:
            # For a text this short; threads that wait for each other made it thirty times slower.
            torch.set_num_threads(1)
            self._read = read_artifact(self.artifact)
        return build_model(self._read)

    def _evaluator(self) -> tuple[Any, int, int]:
        if self.config is not None:
            evaluator = instantiate(self.config["eval"], _convert_="all")
        else:
            from pgolf.eval.standard import StandardEvaluator

            evaluator = StandardEvaluator(seq_len=256, batch_seqs=1)
        seq_len = int(evaluator.seq_len)
        return evaluator, seq_len, int(getattr(evaluator, "stride", seq_len))


def audit(
    path: Path, mode: str, data: Path | None = None, show: bool = True,
    rescore: Callable[[], dict[str, Any]] | None = None,
) -> Verdict:  # fmt: skip
    """Audit a folder; a run's gets audit.json and audit.html.

    Args:
        mode: option of conf/audit; "": the probes of the run's own configuration.

    Raises:
        UserError: the folder is none that can be audited.
    """
    from pgolf.report.audit import write_audit_page

    subject = open_subject(path, data, rescore)
    configured = (subject.config or {}).get("audit")
    if not mode and configured is None:
        raise UserError(f"{path}: its configuration has no audit; use --quick or --full")
    auditor = open_auditor(mode) if mode else instantiate(configured, _convert_="all")
    verdict: Verdict = auditor.audit(subject, show)
    if verdict.kind == "run":  # an artifact folder is what is shipped: nothing is added to it
        verdict.save(path)
        write_audit_page(path / "audit.html", verdict.as_dict())
    return verdict


def read_audit(folder: Path) -> dict[str, Any] | None:
    """The content of a run folder's audit.json, None where there is none."""
    return _json(folder / FILE)


def _same_code(artifact: Path | None, config: dict[str, Any] | None) -> bool | None:
    if artifact is None or config is None or not (artifact / CODE_FILE).is_file():
        return None
    with tempfile.TemporaryDirectory() as temporary:
        write_code(Path(temporary), config)
        return sha256_file(Path(temporary) / CODE_FILE) == sha256_file(artifact / CODE_FILE)


def _json(path: Path) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    try:
        return cast(dict[str, Any], json.loads(path.read_text(encoding="utf-8")))
    except ValueError as error:
        raise UserError(f"{path} is not JSON ({error}): it cannot be audited") from error
