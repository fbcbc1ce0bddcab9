"""The data stages, in the launcher: text to documents, documents to shards, each cached."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pgolf.clock import Clock
from pgolf.data.loader import check_dealt, check_text_to_adapt
from pgolf.data.manifest import Manifest, Split
from pgolf.errors import UserError
from pgolf.events import EventLog
from pgolf.jobs import Config
from pgolf.say import Say
from pgolf.stage import Stage, outside_code, stage_key

DATA_CODE = ("data", "tokenizer")


@dataclass
class Prepared:
    """Shards that are ready to be read.

    Args:
        folder: shards, manifest and `tokenizer/`.
        documents: what the shards were made from.
        key: cache key, which everything that reads the shards depends on.
        manifest: what is in the folder.
        seconds: of each data stage, also of a reused one.
        reused: data stages that came out of the cache.
    """

    folder: Path
    documents: Path
    key: str
    manifest: Manifest
    seconds: dict[str, float] = field(default_factory=dict)
    reused: list[str] = field(default_factory=list)

    def check(self, config: Config, num_workers: int) -> None:
        """Raises UserError where a split is too short, or in too few shards, for what reads it."""
        splits = self.manifest.validation, self.manifest.training
        validation, training = (split.num_tokens for split in splits)
        check_windows("validation", validation, config, "eval")
        check_windows("training", training, config, "train")
        if config["ttt"].get("source") is not None and config["ttt"].get("epochs"):
            check_windows("validation", validation, config, "ttt")
            if config["ttt"]["source"] == "train":
                check_text_to_adapt(training, validation)
        if config["train"]["loader"] == "published":
            check_dealt(len(self.manifest.training.shards), num_workers)


def check_windows(split: str, num_tokens: int, config: Config, group: str) -> None:
    """Raises UserError where a split has fewer tokens than a window of a group's seq_len."""
    seq_len = config[group]["seq_len"]
    if num_tokens <= seq_len:
        scale_key = "eval_seq_len" if group == "eval" else "train_seq_len"
        raise UserError(
            f"the {split} text has {num_tokens} tokens, fewer than one window of "
            f"{group}.seq_len={seq_len} needs: use more text (data=... data.path=...) or "
            f"shorter windows (scale.{scale_key}=...)"
        )


def prepare(
    source: Any, tokenizer: Any, cache: Path, events: EventLog, clock: Clock, say: Say
) -> Prepared:
    """Documents and shards of a source, from the cache where they are there already."""
    stages = _DataStages(cache, events, clock, say)
    documents_key = stage_key(
        "documents", ("data",), source=source.cache_key(), outside=_outside(source)
    )
    folder = stages.run("documents", documents_key, lambda f: source.documents(f, show=True))
    key = stage_key(
        "tokens", DATA_CODE, documents=documents_key, tokenizer=tokenizer.cache_key(),
        outside=_outside(tokenizer),
    )  # fmt: skip
    shards = stages.run(
        "tokens",
        key,
        lambda f: source.tokenize(folder, tokenizer, f, show=True),
        continues=True,
    )
    manifest = Manifest.load(shards)
    if manifest.roundtrip is not None:
        events.emit("tokenizer", "tokens", **_survival(manifest.roundtrip, manifest.validation))
    return Prepared(shards, folder, key, manifest, stages.seconds, stages.reused)


def _outside(part: Any) -> dict[str, str]:
    """Of a source or tokenizer that is not pgolf's own, the hash of its code."""
    kind = type(part)
    return outside_code({"_target_": f"{kind.__module__}.{kind.__qualname__}"})


def _survival(roundtrip: dict[str, int], validation: Split) -> dict[str, int | None]:
    """How much of the validation text its tokens hold; BOS is none of them."""
    tokens = validation.num_tokens - roundtrip["documents"]
    return {**roundtrip, "bytes": validation.document_bytes, "tokens": tokens}


class _DataStages:
    """Runs cached stages in this process and keeps what they took."""

    def __init__(self, cache: Path, events: EventLog, clock: Clock, say: Say) -> None:
        self.cache, self.events, self.clock, self.say = cache, events, clock, say
        self.seconds: dict[str, float] = {}
        self.reused: list[str] = []

    def run(
        self, name: str, key: str, work: Callable[[Path], Any], continues: bool = False
    ) -> Path:
        """Find or make one stage; returns its folder.

        Args:
            continues: the work goes on from what a killed run left, by a journal of its own.
        """
        stage = Stage(self.cache, name, key, self.say)
        with stage.lock():
            info = stage.find()
            status = "done" if info is None else "reused"
            if info is None:
                self.events.emit("stage", name, status="start")
                if not continues:
                    stage.empty_work()  # a killed run's half-written files
                with self.clock.phase(name, "data"):
                    work(stage.work)
                info = stage.publish({"seconds": self.clock.seconds(name)})
            else:
                self.reused.append(name)
                self.say(f"{name}: reused from the cache, saves {info['seconds']:.1f} s")
            stage.discard_work()
        self.seconds[name] = info["seconds"]
        seconds = round(info["seconds"], 3)
        self.events.emit("stage", name, status=status, seconds=seconds, key=key)
        return stage.folder
