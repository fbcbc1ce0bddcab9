"""Runs launch.py and the pgolf command as a user would, and reads what they leave."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pgolf.events import read_events

ROOT = Path(__file__).resolve().parents[2]
LAUNCH = [sys.executable, str(ROOT / "launch.py")]
PGOLF = [sys.executable, "-m", "pgolf.cli"]
# Every stage for real, in seconds, on a text made here.
TINY = ("debug=cpu", "tracking=none", "audit=none", "data=local", "tokenizer=bytes")
TIMEOUT_S = 240


@dataclass(frozen=True)
class Done:
    """A command that has ended."""

    code: int
    stdout: str
    stderr: str
    cwd: Path

    @property
    def text(self) -> str:
        return self.stdout + self.stderr

    @cached_property
    def folder(self) -> Path:
        """The run folder that it named."""
        found = re.search(r"^run \S+ in (.+)$", self.stderr, re.MULTILINE)
        assert found, self.text
        return Path(found[1])

    @cached_property
    def result(self) -> dict[str, Any]:
        assert self.code == 0, self.text
        result: dict[str, Any] = json.loads((self.folder / "result.json").read_text())
        return result

    @property
    def shards(self) -> Path:
        """The prepared text that the run was made from."""
        return Path(self.result["provenance"]["data"]["folder"])

    def events(self, kind: str) -> list[dict[str, Any]]:
        return [e for e in read_events(self.folder / "events.jsonl") if e["event"] == kind]

    def stages(self, status: str) -> set[str]:
        """Names of the stages that were "done" or "reused"."""
        return {e["stage"] for e in self.events("stage") if e["status"] == status}

    def losses(self) -> list[float]:
        return [event["train/loss"] for event in self.events("train_step")]


class Workspace:
    """A folder to run commands in, with a cache that all of them share.

    Args:
        folder: holds the cache, the outputs and a text.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.cache = folder, folder / "cache"
        self.text = write_text(folder / "text.jsonl", num_documents=260)

    def environment(self, **more: str | None) -> dict[str, str]:
        """This process's environment with changes; None takes a variable away."""
        changed = {**os.environ, "PGOLF_CACHE": str(self.cache), **more}
        return {key: value for key, value in changed.items() if value is not None}

    def run(self, command: list[str], **more: str | None) -> Done:
        """Run a command to its end, with more environment variables."""
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=self.environment(**more),
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
        )
        return Done(done.returncode, done.stdout, done.stderr, self.folder)

    def start(self, command: list[str], log: Path, **more: str | None) -> subprocess.Popen[bytes]:
        """Start a command in a session of its own; both its outputs go to the file."""
        with open(log, "wb") as file:
            return subprocess.Popen(
                command,
                cwd=self.folder,
                env=self.environment(**more),
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                # A suite that runs in the background of a shell hands down an ignored Ctrl-C.
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
            )

    def tiny(self, *overrides: str) -> list[str]:
        """The command of a run in seconds; an override that is named twice counts as the last."""
        flags = [word for word in overrides if word.startswith("-")]
        named = {o.partition("=")[0]: o for o in (*TINY, *overrides) if o not in flags}
        if named["data"] == "data=local":
            named.setdefault("data.path", f"data.path={self.text}")
        return [*LAUNCH, *flags, *named.values()]

    def entry(self, stage: str, file: str, *path: str, value: Any) -> Path:
        """The one entry of the cache in whose JSON file the value at the path is this one."""
        found = []
        for candidate in self.cache.glob(f"{stage}/*/{file}"):
            node = json.loads(candidate.read_text(encoding="utf-8"))
            for key in path:
                node = node[key]
            if node == value:
                found.append(candidate.parent)
        assert len(found) == 1, f"{len(found)} entries of {stage} with {path} = {value}"
        return found[0]

    def launch(self, *overrides: str, **more: str | None) -> Done:
        return self.run(self.tiny(*overrides), **more)

    def pgolf(self, *arguments: str | Path, **more: str | None) -> Done:
        return self.run([*PGOLF, *map(str, arguments)], **more)

    def answer(self, *arguments: str | Path, **more: str | None) -> Any:
        """What a pgolf subcommand prints with --json: one line and nothing else."""
        done = self.pgolf(*arguments, "--json", **more)
        assert done.code == 0, done.text
        assert done.stdout.count("\n") == 1, done.stdout
        return json.loads(done.stdout)


def write_text(path: Path, *, num_documents: int) -> Path:
    """Documents of a little language that a model can learn something about, some not ASCII."""
    words = re.findall(
        r"\S+", "the of Loop and LAYER a score byte small naïve model, weight. übrig"
    )
    with open(path, "w", encoding="utf-8") as file:
        for index in range(num_documents):
            chosen = (words[index * k * k % 13 % len(words)] for k in range(1, 40))
            row = {"text": f"Document {index}\n\n{' '.join(chosen)}\n"}
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
    return path


def du(folder: Path) -> int:
    """Bytes of the files in a folder, counted by another program."""
    if sys.platform != "linux":
        return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    command = ["find", str(folder), "-type", "f", "-printf", "%s\n"]
    listed = subprocess.run(command, capture_output=True, text=True, check=True)
    return sum(map(int, listed.stdout.split()))
