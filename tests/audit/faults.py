"""How faults are put into a clean run and listed: what the modules of mutations share."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import yaml

from pgolf.auditing.runs import artifact_record
from pgolf.provenance import config_hash
from tests.audit.made import Made


@dataclass(frozen=True)
class Mutation:
    """A fault.

    Args:
        group: class of the faults that are known, or "more" for those that nobody published.
        how: what is done, in words.
        probe: that has to refuse it.
        run: which run it is put into, "fixed" or "phased".
        mode: option of conf/audit whose settings the probes have.
        apply: does it.
    """

    group: str
    how: str
    probe: str
    apply: Callable[[Made], None]
    run: str = "fixed"
    mode: str = "quick"


FAULTS: list[Mutation] = []


def fault(group: str, how: str, probe: str, run: str = "fixed", mode: str = "quick") -> Any:
    """Put a function into the list."""

    def add(apply: Callable[[Made], None]) -> Callable[[Made], None]:
        FAULTS.append(Mutation(group, how, probe, apply, run, mode))
        return apply

    return add


def listed(module: ModuleType) -> list[Mutation]:
    """The faults of one module, in their order."""
    return [mutation for mutation in FAULTS if mutation.apply.__module__ == module.__name__]


def change_config(made: Made, **groups: Any) -> None:
    """Another configuration, whose hash the result has, too."""
    config = yaml.safe_load((made.run / "config.yaml").read_text()) | groups
    (made.run / "config.yaml").write_text(yaml.safe_dump(config))
    result, old = made.result(), made.result()["config_hash"]
    result["config_hash"] = config_hash(config)
    made.save(result)
    runs = made.run.parent / "runs.jsonl"
    runs.write_text(runs.read_text().replace(old, result["config_hash"]))


def settle_artifact(made: Made) -> None:
    """Result and events as a run with the files that lie there now would have them."""
    folder, result, events = made.run / "artifact", made.result(), made.events()
    sizes = [path.stat().st_size for path in folder.iterdir() if path.is_file()]
    model = (folder / "model.pgolf").stat().st_size
    result["artifact"] |= {"total_bytes": sum(sizes), "code_bytes": sum(sizes) - model}
    made.save(result)
    for event in events:
        if event["event"] == "artifact":
            event["files"] = artifact_record(folder)
    made.save_events(events)


def ship(made: Made, name: str, content: bytes) -> None:
    """One more member of code.zip, with hashes and sizes in step."""
    with zipfile.ZipFile(made.run / "artifact" / "code.zip", "a") as archive:
        archive.writestr(name, content, zipfile.ZIP_DEFLATED)
    settle_artifact(made)
