"""Opens what is to be audited and asks the probes: where the auditor meets the rest of pgolf."""

from __future__ import annotations

import json
import platform
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hydra.utils import instantiate
from omegaconf import OmegaConf

from pgolf.audit.auditor import Auditor
from pgolf.audit.finding import Verdict
from pgolf.audit.subject import DataFolder, Subject
from pgolf.auditing.slices import Slices
from pgolf.config import CONF, load_config
from pgolf.errors import UserError
from pgolf.events import read_events
from pgolf.files import sha256_file, write_json
from pgolf.outcome import judged
from pgolf.result import validate_result_of
from pgolf.shipped import CODE_FILE, ROOT, code_fingerprint, shipped_files, strip

MODEL_FILE = "model.pgolf"
# What every finished run leaves, besides its artifact.
RECORDS = ("result.json", "config.yaml", "events.jsonl", "provenance.json")


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
    """A run folder, perhaps damaged or not finished, or an artifact folder.

    Args:
        data: a prepared folder, of shards with a manifest; a run knows its own.
        rescore: scores the run's artifact again; see `Subject`.

    Raises:
        UserError: it is neither, or `data` is no prepared folder.
    """
    if data is not None and not (data / "manifest.json").is_file():
        raise UserError(f"--data {data}: no manifest.json; name a folder of prepared shards")
    if any((path / name).is_file() for name in RECORDS):
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
    damaged = [f"{name} is missing" for name in RECORDS if not (folder / name).is_file()]
    result = _record(folder / "result.json", damaged)
    config = _configuration(folder, damaged)
    facts = _record(folder / "provenance.json", damaged)
    if result is not None and (wrong := _holds_together(folder, result)) is not None:
        damaged.append(wrong)
    artifact = folder / "artifact" if (folder / "artifact").is_dir() else None
    if artifact is None:
        damaged.append("artifact/ is missing")
    log, events = folder / "events.jsonl", list[dict[str, Any]]()
    if log.is_file():
        events = [event for event in read_events(log) if isinstance(event, dict)]
        lines = sum(1 for line in log.read_bytes().splitlines() if line.strip())
        if lines != len(events):
            damaged.append(f"events.jsonl: {lines - len(events)} of {lines} lines cannot be read")
    text = _data_of(result, data, damaged)
    ready = artifact is not None and text is not None and config is not None
    slices = Slices(artifact, text, config) if ready else None  # type: ignore[arg-type]
    return Subject(
        kind="run",
        folder=folder,
        result=result,
        events=events,
        config=config,
        provenance=facts,
        artifact=artifact,
        data=text,
        slices=slices,
        rescore=rescore,
        code_is_here=lambda: _same_code(artifact, config, result),
        state_of_artifact=None if slices is None else slices.state,
        times_scored=None if slices is None else slices.times_scored,
        damaged=damaged,
    )


def _holds_together(folder: Path, result: dict[str, Any]) -> str | None:
    """What is wrong with a result, None where nothing is."""
    try:
        validate_result_of(folder, result)
    except UserError as error:
        return str(error)
    return None


def _data_of(
    result: dict[str, Any] | None, data: Path | None, damaged: list[str]
) -> DataFolder | None:
    """The shards and documents that a run used, or those that are named instead."""
    facts = (result or {}).get("provenance")
    used = facts.get("data") if data is None and isinstance(facts, dict) else None
    named = used if isinstance(used, dict) else {}
    places = {key: Path(value) for key, value in named.items() if isinstance(value, str) and value}
    shards = data or places.get("folder")
    if shards is None or not (shards / "manifest.json").is_file():
        damaged.append(f"the data are gone: {shards or 'no folder is named'}; use --data FOLDER")
        return None
    found = open_data(shards, places.get("documents"))
    try:
        missing = [
            file.path
            for split in (found.manifest.validation, found.manifest.training)
            for shard in split.shards
            for file in shard.files()
            if not (shards / file.path).is_file()
        ]
    except (UserError, KeyError, TypeError) as error:
        damaged.append(f"{shards / 'manifest.json'} cannot be read: {error}")
        return None
    if missing:
        damaged.append(f"{len(missing)} files of {shards} are missing, e.g. {missing[0]}")
        return None
    return found


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


def check_same_data(run_folder: Path, shards: Path) -> None:
    """Raises UserError where these shards are not those that a run wrote down."""
    facts = _record(run_folder / "provenance.json", []) or {}
    recorded = facts.get("data") or {}
    found = sha256_file(shards / "manifest.json")
    if recorded.get("manifest_sha256") not in (None, found):
        raise UserError(
            f"the text of {run_folder} gives other tokens than it did: the files, or the packages "
            f"that it comes from, have changed. Restore them, or score on the run's own shards "
            f"while they are there: --data {recorded.get('folder')}"
        )


def artifact_record(folder: Path) -> dict[str, dict[str, Any]]:
    """Bytes and sha256 of each file that is about to be scored."""
    return {
        path.name: {"bytes": path.stat().st_size, "sha256": sha256_file(path)}
        for path in sorted(folder.iterdir())
    }


def audit(
    path: Path, mode: str, data: Path | None = None, show: bool = True,
    rescore: Callable[[], dict[str, Any]] | None = None,
) -> Verdict:  # fmt: skip
    """Audit a folder; a run's gets audit.json, audit.html, and a result and report that say so.

    Args:
        mode: option of conf/audit; "": the probes of the run's own configuration.

    Raises:
        UserError: the folder is none that can be audited.
    """
    from pgolf.report.audit import write_audit_page
    from pgolf.report.page import write_report

    subject = open_subject(path, data, rescore)
    configured = (subject.config or {}).get("audit")
    if not mode and configured is None:
        raise UserError(f"{path}: its configuration has no audit; use --quick or --full")
    auditor = open_auditor(mode) if mode else instantiate(configured, _convert_="all")
    verdict: Verdict = auditor.audit(subject, show)
    if verdict.kind != "run":  # an artifact folder is what is shipped: nothing is added to it
        return verdict
    found = verdict.as_dict()
    verdict.save(path)
    write_audit_page(path / "audit.html", found)
    if subject.result is not None and _holds_together(path, subject.result) is None:
        write_json(path / "result.json", judged(subject.result, found))
        write_report(path)
    return verdict


def _same_code(
    artifact: Path | None, config: dict[str, Any] | None, result: dict[str, Any] | None
) -> bool | None:
    """Whether the shipped code is what this pgolf ships; None where it cannot be said."""
    if artifact is None or config is None or not (artifact / CODE_FILE).is_file():
        return None
    shipped = _members(artifact / CODE_FILE)
    here = {
        str(path.relative_to(ROOT)): strip(path.read_text(encoding="utf-8")).encode("utf-8")
        for path in shipped_files(config)
    }
    if here == shipped:
        return True
    facts = (result or {}).get("provenance") or {}
    # The same sources, and the same Python to strip them: another version of pgolf did not do it.
    same = facts.get("code_sha256") == code_fingerprint(config)
    return False if same and facts.get("python") == platform.python_version() else None


def _members(path: Path) -> dict[str, bytes] | None:
    """Names and contents of a zip file, None where it is none."""
    try:
        with zipfile.ZipFile(path) as archive:
            return {name: archive.read(name) for name in archive.namelist()}
    except (zipfile.BadZipFile, OSError, ValueError, zlib.error):
        return None


def _configuration(folder: Path, damaged: list[str]) -> dict[str, Any] | None:
    if not (folder / "config.yaml").is_file():
        return None
    try:
        return load_config(folder)
    except UserError as error:
        damaged.append(str(error))
    except Exception as error:  # YAML has many ways to be none
        damaged.append(f"config.yaml cannot be read: {type(error).__name__}")
    return None


def _record(path: Path, damaged: list[str]) -> dict[str, Any] | None:
    """A JSON object; what is wrong with it is added to `damaged`."""
    if not path.is_file():
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        damaged.append(f"{path.name} is not JSON: {error}")
        return None
    if not isinstance(found, dict):
        damaged.append(f"{path.name} is no object")
        return None
    return found
