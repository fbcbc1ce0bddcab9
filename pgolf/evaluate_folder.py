"""A stranger's check: an artifact scored on named shards, with nothing else of its run.

Neither training text nor the cache of the run is needed; the workers are held as those of a run.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from hydra.utils import instantiate

from pgolf.artifact import read_artifact
from pgolf.config import changed, compose
from pgolf.data.manifest import MANIFEST, Manifest
from pgolf.data.shards import find_published
from pgolf.data.view import validation_view
from pgolf.errors import UserError
from pgolf.files import write_json
from pgolf.jobs import evaluate_job
from pgolf.launchers import Alone
from pgolf.opened import Opened, find_tokenizer, open_folder
from pgolf.outcome import read_scores
from pgolf.prepare import check_windows
from pgolf.sandbox.evaluation import hidden_of
from pgolf.shipped import CODE_FILE, check_code, later_groups
from pgolf.tokenizer.store import open_tokenizer

STRIDE = 64  # of an artifact that comes without a configuration, as published


def evaluate_on(
    path: Path, data: Path, overrides: list[str], cache: Path, tokenizer: Path | None = None
) -> dict[str, Any]:
    """The final score, and under `standard` that of non-overlapping windows.

    Args:
        path: a run, an imported folder or an artifact alone.
        data: prepared shards (manifest.json), or published ones with their byte sidecar; the
            validation files suffice.
        overrides: other values of hardware and eval, and of ttt where it adapts while scoring.
        tokenizer: to compare with, where neither folder has one.

    Raises:
        UserError: no artifact, no validation shards, or they are of another tokenizer.
    """
    opened = open_folder(path)
    artifact = read_artifact(opened.artifact)
    config = opened.config() or _plain(opened.artifact, artifact.model_config)
    config = changed(config, overrides, later_groups(config))
    code = opened.artifact / CODE_FILE
    shipped = str(code.resolve()) if code.is_file() else None  # an imported artifact has none
    if shipped is not None:
        check_code(code)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        view, work = folder / "validation", folder / "work"
        work.mkdir()
        made_by = _view(data, view)
        if made_by is not None:
            check_windows("validation", made_by.validation.num_tokens, config, "eval")
        bos_id = _check(opened, data, artifact.tokenizer_fingerprint, made_by, tokenizer)
        devices = instantiate(config["hardware"]).settle()  # seconds, so all else is checked before
        hidden = None
        if config.get("sandbox") != "off":
            hidden = {**hidden_of(config, cache, data, data), "canary": str(_canary(data))}
        job = evaluate_job(
            config,
            devices,
            run_folder=folder,
            cache=cache,
            artifact=opened.artifact.resolve(),
            validation=view,
            tokenizer_fingerprint=None,  # compared above
            bos_id=bos_id,
            output=work / "scores.json",
            sandbox=hidden,
        )
        write_json(work / "evaluate.json", job)
        Alone().run_job(work / "evaluate.json", devices, shipped)
        scores = read_scores(work / "scores.json")
    standard = {key: scores["quantized"][key] for key in ("bpb", "nats_per_token")}
    return {**scores["final"], "standard": standard}


def _plain(artifact: Path, model: dict[str, Any]) -> dict[str, Any]:
    """A configuration for an artifact alone: sliding windows of its training length."""
    config = compose(["ttt=none", "codec=brotli", "eval=sliding"])
    seq_len = model.get("train_seq_len")
    if not isinstance(seq_len, int) or seq_len < 1:
        raise UserError(
            f"{artifact}: its model has no train_seq_len, so nobody knows the length of a window: "
            "name the run folder, whose config.yaml has it"
        )
    config["scale"]["eval_seq_len"] = config["eval"]["seq_len"] = seq_len
    config["eval"]["stride"] = min(STRIDE, seq_len)
    return {**config, "model": model}


def _view(data: Path, view: Path) -> Manifest | None:
    """The validation split alone, in a folder of its own; the manifest, if the shards have one."""
    if (data / MANIFEST).is_file():
        return validation_view(data, view)
    files = find_published(data)
    if not files.sidecars:
        raise UserError(
            f"{data}: no byte sidecar (fineweb_val_bytes_*.bin) beside the validation shards: "
            "fetch it, or prepare the text with `pgolf data prepare`"
        )
    view.mkdir(parents=True)
    for path in (*files.validation, *files.sidecars):
        _link(path, view / path.name)
    return None


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source.resolve(), target)
    except OSError:  # another file system, or one without links
        shutil.copyfile(source, target)


def _check(
    opened: Opened, data: Path, fingerprint: str, manifest: Manifest | None, named: Path | None
) -> int:
    """The id that begins a document.

    Raises:
        UserError: the artifact's tokenizer did not make the shards.
    """
    if manifest is not None:
        of_data = manifest.tokenizer_fingerprint
        if fingerprint and fingerprint != of_data:
            raise UserError(
                f"{opened.artifact} was made with tokenizer {fingerprint[:12]}, the shards in "
                f"{data} with {of_data[:12]}: prepare the text with the artifact's tokenizer"
            )
        if named is not None:
            find_tokenizer(opened, of_data, named)
        if (data / "tokenizer").is_dir():
            return int(open_tokenizer(data / "tokenizer").bos_id)
    if not opened.tokenizer_folders() and named is None:
        return 1  # of all SentencePiece tokenizers here; nothing to compare with
    from pgolf.data.published import check_tokenizer
    from pgolf.data.shards import read_shard

    tokenizer = find_tokenizer(opened, fingerprint, named)
    if manifest is None:
        check_tokenizer(read_shard(find_published(data).validation[0]), tokenizer, data)
    return int(tokenizer.bos_id)


def _canary(data: Path) -> Path:
    """A file beside the validation text that the workers must not be able to open."""
    manifest = data / MANIFEST
    return (manifest if manifest.is_file() else find_published(data).validation[0]).resolve()
