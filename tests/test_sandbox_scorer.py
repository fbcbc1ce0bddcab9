"""Scorers of other people, in a sandbox: the same answers as here, and no way to do harm."""

from __future__ import annotations

import gc
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pgolf.audit import frames
from pgolf.audit.finding import FAIL, PASS
from pgolf.audit.flip import Flip
from pgolf.audit.sandboxed_scorer import SandboxedScorer
from pgolf.audit.scorer import run_scorer
from pgolf.audit.subject import ScoredSlice
from pgolf.audit.sum import Sum
from pgolf.auditing.scorer_file import audit_scorer, scorer_of
from pgolf.data.manifest import File, Manifest, Shard, Split
from pgolf.errors import RunFailed, UserError
from pgolf.sandbox.run import Limits
from tests.audit import scorers

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the layers are those of Linux")
FILE = Path(scorers.__file__)
LIMITS = Limits(seconds=20.0)
IDS = np.random.default_rng(3).integers(1, scorers.VOCAB, 61)

# Each does something that its author should not.
HOSTILE = """
import os, pickle, socket, sys, time
import numpy as np
from pgolf.audit.scorer import Fed

class Silent:
    vocab_size = 23
    def begin(self, first_id): pass
    def feed(self, ids): time.sleep(60)

class Dies(Silent):
    def feed(self, ids):
        print("last words", flush=True)
        os.kill(os.getpid(), 9)

class Calls(Silent):
    def feed(self, ids): socket.create_connection(("127.0.0.1", 9), 2)

class Steals(Silent):
    def feed(self, ids): return open(os.environ["HOME"] + "/../../" + "x")

class Deletes(Silent):
    def feed(self, ids): os.remove(__file__)

class WrongShape(Silent):
    def feed(self, ids): return Fed(np.zeros((len(ids), 7)))

class Objects(Silent):
    def feed(self, ids): return Fed(np.array([print] * len(ids)))

class Huge(Silent):
    def feed(self, ids): return Fed(np.zeros((len(ids), 100_000)))

class Pickle(Silent):
    def feed(self, ids):
        bomb = pickle.dumps({"a": 1})
        for fd in range(3, 20):
            try:
                os.write(fd, bomb)
            except OSError:
                pass
        time.sleep(60)

class NoAlphabet(Silent):
    vocab_size = -3

class Remembers(Silent):
    seen = []
    def begin(self, first_id): Remembers.seen.append(first_id)
    def feed(self, ids):
        row = np.full(23, -np.log(23.0))
        if len(Remembers.seen) > 1:
            row = np.zeros(23)
        return Fed(np.tile(row, (len(ids), 1)))
"""


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    folder = tmp_path / "theirs"
    folder.mkdir()
    (folder / "hostile.py").write_text(HOSTILE)
    return folder / "hostile.py"


def test_a_scorer_answers_as_it_does_here() -> None:
    mine, theirs = scorers.Bigram(), SandboxedScorer(FILE, "Bigram", LIMITS)
    assert theirs.vocab_size == scorers.VOCAB
    assert theirs.layers["filesystem"] != "not enforced" != theirs.layers["network"]
    cuts = [7, 30]
    here, there = run_scorer(mine, IDS, cuts), run_scorer(theirs, IDS, cuts)
    assert np.array_equal(here.log_probs, there.log_probs)
    assert here.nats is not None and there.nats is not None
    assert np.array_equal(here.nats, there.nats)
    assert run_scorer(SandboxedScorer(FILE, "VectorsOnly", LIMITS), IDS).nats is None


@pytest.mark.parametrize(("name", "flip", "total"), [
    ("Bigram", PASS, PASS), ("BlockMean", FAIL, PASS), ("BestOfTwo", PASS, FAIL),
])  # fmt: skip
def test_probes_of_a_sandboxed_scorer_find_what_they_find_here(
    name: str, flip: str, total: str
) -> None:
    part = ScoredSlice(name, lambda: SandboxedScorer(FILE, name, LIMITS), IDS, [10])
    probe = Flip(slice_tokens=0, offsets=4, tolerance=1e-9, seed=0)
    assert probe.probe(part).verdict == flip
    finding = Sum(slice_tokens=0, tolerance=1e-4, score_tolerance=1e-3).probe(part)
    assert finding.verdict == total


@pytest.mark.parametrize(("name", "what"), [
    ("Dies", r"its process ended(?s:.*)it wrote: last words"),
    ("Calls", r"(PermissionError|Network is unreachable)"),
    ("Steals", r"(PermissionError|FileNotFoundError)"),
    ("Deletes", r"PermissionError"),
    ("WrongShape", r"arrays of \[\(60, 7\)\], expected \[\(60, 23\), \(60,\)\]"),
    ("Objects", r"an array of object"),
    ("Huge", r"larger than what was asked for"),
    ("Pickle", r"its answer is none: a message begins with"),
])  # fmt: skip
def test_a_hostile_scorer_does_no_harm_and_is_named(hostile: Path, name: str, what: str) -> None:
    scorer = SandboxedScorer(hostile, name, LIMITS)
    with pytest.raises(RunFailed, match=what) as caught:
        run_scorer(scorer, IDS)
    assert f"hostile.py:{name}: " in str(caught.value)
    assert hostile.is_file()
    assert scorer._process.poll() is not None and not scorer._sandbox.folder.exists()


def test_a_scorer_that_does_not_answer_is_ended(hostile: Path) -> None:
    scorer = SandboxedScorer(hostile, "Silent", Limits(seconds=2.0))
    with pytest.raises(RunFailed, match="no answer within 2 s"):
        run_scorer(scorer, IDS)
    assert scorer._process.poll() is not None


@pytest.mark.parametrize(("name", "what"), [
    ("Missing", "no attribute 'Missing'"), ("NoAlphabet", "vocab_size = -3"),
])  # fmt: skip
def test_a_class_that_cannot_be_used_is_named(hostile: Path, name: str, what: str) -> None:
    with pytest.raises(RunFailed, match=what):
        SandboxedScorer(hostile, name, LIMITS)


def test_an_error_of_a_scorer_is_one_line_with_its_place(hostile: Path) -> None:
    with pytest.raises(RunFailed) as caught:
        run_scorer(SandboxedScorer(hostile, "Deletes", LIMITS), IDS)
    line = HOSTILE.splitlines().index("    def feed(self, ids): os.remove(__file__)") + 1
    assert str(caught.value).endswith(f"(hostile.py, line {line})")
    assert "\n" not in str(caught.value)


def test_a_scorer_remembers_nothing_of_another_run(hostile: Path) -> None:
    for _ in range(2):
        fed = run_scorer(SandboxedScorer(hostile, "Remembers", LIMITS), IDS)
        assert np.allclose(np.exp(fed.log_probs).sum(1), 1.0)


def test_a_scorer_that_is_forgotten_leaves_no_process() -> None:
    scorer = SandboxedScorer(FILE, "Bigram", LIMITS)
    process, folder = scorer._process, scorer._sandbox.folder
    assert process.poll() is None and folder.exists()
    del scorer
    gc.collect()
    assert process.poll() is not None and not folder.exists()


def test_frames_come_back_and_others_are_refused() -> None:
    def unpack(data: bytes, most: int = 1000) -> Any:
        rest = iter([data])
        kept = bytearray(next(rest))

        def read(count: int) -> bytes:
            if len(kept) < count:
                raise EOFError
            found, kept[:] = bytes(kept[:count]), kept[count:]
            return found

        return frames.unpack(read, most)

    arrays = [np.arange(6.0).reshape(2, 3), np.zeros(0, np.float32)]
    kind, back = unpack(frames.pack(frames.ANSWER, *arrays))
    assert kind == frames.ANSWER
    assert all(
        np.array_equal(a, b) and a.dtype == b.dtype for a, b in zip(arrays, back, strict=True)
    )
    whole = frames.pack(frames.ANSWER, arrays[0])
    for data in (b"X\x00", b"A\x09", b"A\x01O\x01", b"A\x01d\x07" + bytes(56)):
        with pytest.raises(frames.FrameError):
            unpack(data)
    with pytest.raises(frames.FrameError, match="larger"):
        unpack(whole, most=47)
    with pytest.raises(EOFError):
        unpack(whole[:-1])
    with pytest.raises(frames.FrameError, match="complex128"):
        frames.pack(frames.ANSWER, np.zeros(2, np.complex128))


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    """Prepared shards of a few tokens."""
    folder = tmp_path / "shards"
    folder.mkdir()
    header = np.zeros(256, "<i4")
    header[:3] = 20240520, 1, len(IDS)
    (folder / "val.bin").write_bytes(header.tobytes() + IDS.astype("<u2").tobytes())
    shard = Shard(File.of(folder, "val.bin"), None, len(IDS), None)
    validation = Split(shards=[shard])
    Manifest(
        tokenizer_fingerprint="", vocab_size=scorers.VOCAB, training=Split(),
        validation=validation, official_validation=None, split_rule="", duplicates_removed=0,
        training_documents_dropped=0, roundtrip=None,
    ).save(folder)  # fmt: skip
    return folder


def test_the_command_probes_a_file(hostile: Path, shards: Path) -> None:
    verdict = audit_scorer(FILE, "Bigram", "quick", shards)
    assert verdict.verdict == "ELIGIBLE" and verdict.kind == "scorer"
    assert {finding.probe for finding in verdict.findings} == {"FLIP", "SUM"}
    json.dumps(verdict.as_dict())
    refused = audit_scorer(FILE, "BlockMean", "quick", shards)
    assert refused.verdict == "NOT ELIGIBLE"
    broken = audit_scorer(hostile, "Calls", "quick", shards)
    assert broken.verdict == "NOT ELIGIBLE"
    assert "hostile.py:Calls" in broken.findings[0].summary


def test_wrong_arguments_are_named(hostile: Path, shards: Path) -> None:
    assert scorer_of(Path("a/b.py:Mine")) == (Path("a/b.py"), "Mine")
    assert scorer_of(Path("outputs/run")) is None and scorer_of(Path("C:/run")) is None
    with pytest.raises(UserError, match="no such file"):
        audit_scorer(Path("none.py"), "Mine", "quick", shards)
    with pytest.raises(UserError, match="needs a text"):
        audit_scorer(FILE, "Bigram", "quick", None)
    with pytest.raises(UserError, match=r"no manifest\.json"):
        audit_scorer(FILE, "Bigram", "quick", hostile.parent)
    with pytest.raises(UserError, match="has no probe of scorers"):
        audit_scorer(FILE, "Bigram", "none", shards)
