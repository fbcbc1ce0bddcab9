"""The scorer's side of the sandbox: `python -m pgolf.audit.scorer_child FILE CLASS`.

Answers the auditor over its standard input and output; what the scorer prints goes to the errors.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import traceback
from pathlib import Path
from typing import IO, Any

import numpy as np

from pgolf.audit import frames
from pgolf.audit.scorer import Scorer

MAX_FEED_BYTES = 1 << 27
ERROR_CHARS = 2000


def main() -> None:
    """Load the class, say how large its alphabet is, then answer until the input ends."""
    with os.fdopen(os.dup(0), "rb") as questions, os.fdopen(os.dup(1), "wb") as answers:
        os.dup2(2, 1)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        try:
            scorer = load(Path(sys.argv[1]), sys.argv[2])
            size = int(scorer.vocab_size)
            _send(answers, frames.pack(frames.HELLO, np.array([size], np.int64)))
            while answer(scorer, questions, answers):
                continue
        except Exception as error:
            text = describe(error, Path(sys.argv[1]))[-ERROR_CHARS:].encode()
            _send(answers, frames.pack(frames.ERROR, np.frombuffer(text, np.uint8)))


def describe(error: BaseException, path: Path) -> str:
    """An error, and the last line of the scorer's own file that led to it."""
    lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == str(path)]
    where = f" ({path.name}, line {lines[-1]})" if lines else ""
    return f"{type(error).__name__}: {error}{where}"


def load(path: Path, name: str) -> Scorer:
    """The scorer that a file defines; modules beside the file can be imported."""
    sys.path.insert(0, str(path.parent))
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    scorer: Scorer = getattr(module, name)()
    return scorer


def answer(scorer: Scorer, questions: IO[bytes], answers: IO[bytes]) -> bool:
    """One question; False when there are no more."""

    def read(count: int) -> bytes:
        found = questions.read(count)
        if len(found) < count:
            raise EOFError
        return found

    try:
        kind, arrays = frames.unpack(read, MAX_FEED_BYTES)
    except EOFError:
        return False
    if kind == frames.BEGIN:
        scorer.begin(int(arrays[0][0]))
        _send(answers, frames.pack(frames.ANSWER))
    else:
        fed = scorer.feed(arrays[0].copy())
        parts = [fed.log_probs] if fed.nats is None else [fed.log_probs, fed.nats]
        _send(answers, frames.pack(frames.ANSWER, *map(_array, parts)))
    return True


def _array(values: Any) -> np.ndarray:
    """A numpy array; torch tensors on the CPU become one."""
    return np.asarray(values)


def _send(answers: IO[bytes], message: bytes) -> None:
    answers.write(message)
    answers.flush()


if __name__ == "__main__":
    main()
