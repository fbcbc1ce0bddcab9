"""Probes somebody's scorer, `FILE.py:CLASS`, in a sandbox: causality and normalisation."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from pgolf.audit.auditor import Auditor
from pgolf.audit.finding import Verdict
from pgolf.audit.sandboxed_scorer import SandboxedScorer
from pgolf.audit.subject import DataFolder, ScoredSlice, Subject
from pgolf.auditing.runs import open_auditor, open_data
from pgolf.errors import UserError
from pgolf.sandbox.run import Limits

# Probes that need nothing but a scorer.
PROBES = {"FLIP", "SUM", "DOCS"}
# Seconds are those of one answer: a slow scorer may think for minutes about a thousand tokens.
LIMITS = Limits(seconds=300.0, cpu_s=3600)


def scorer_of(path: Path) -> tuple[Path, str] | None:
    """File and class of `FILE.py:CLASS`, None where the text has another form."""
    file, _, name = str(path).rpartition(":")
    return (Path(file), name) if file.endswith(".py") and name.isidentifier() else None


def audit_scorer(path: Path, name: str, mode: str, data: Path | None) -> Verdict:
    """Probe a scorer on the first validation tokens of prepared shards.

    Args:
        mode: option of conf/audit; its probes of scorers are asked.
        data: folder of the shards; the scorer itself cannot open it.

    Raises:
        UserError: there is no such file, or no text for it.
        RunFailed: the scorer cannot be started.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    if data is None:
        raise UserError(f"{path}:{name} needs a text: --data FOLDER, of prepared shards")
    if not (data / "manifest.json").is_file():
        raise UserError(f"--data {data}: no manifest.json; name a folder of prepared shards")
    folder = open_data(data)
    start = partial(SandboxedScorer, path, name, LIMITS, [data])
    first = start()
    first.close()
    held = f"files {first.layers['filesystem']}, network {first.layers['network']}"
    title = f"{path.name}:{name}, in a sandbox ({held})"

    def slices(num_tokens: int) -> list[ScoredSlice]:
        return [ScoredSlice(title, start, _text(folder, num_tokens, first.vocab_size))]

    every = open_auditor(mode)
    probes = [probe for probe in every.probes if probe.name in PROBES]
    if not probes:
        raise UserError(f"audit={mode} has no probe of scorers: use --quick or --full")
    subject = Subject("scorer", Path(f"{path}:{name}"), data=folder, slices=slices)
    return Auditor(mode=mode, probes=probes).audit(subject)


def _text(folder: DataFolder, num_tokens: int, vocab_size: int) -> np.ndarray:
    ids = folder.tokens("validation")[:num_tokens].astype(np.int64)
    if len(ids) and int(ids.max()) >= vocab_size:
        raise UserError(
            f"the text has the id {int(ids.max())}, the scorer says vocab_size = {vocab_size}: "
            "use shards of its tokenizer"
        )
    return ids
