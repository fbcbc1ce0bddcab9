"""Run folders with parts missing or damaged: undecided, with what is missing, and no traceback."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from pgolf.audit.finding import NOT_DECIDED, UNDECIDED
from tests.audit.made import Made
from tests.audit.test_command import pgolf

SLOW_PROBES = {"FLIP", "SUM", "LEDGER"}


def drop(name: str) -> Callable[[Made], None]:
    return lambda made: (made.run / name).unlink()


def fill(name: str, text: str) -> Callable[[Made], None]:
    return lambda made: (made.run / name).write_text(text) and None


def half(name: str) -> Callable[[Made], None]:
    def cut(made: Made) -> None:
        text = (made.run / name).read_text()
        (made.run / name).write_text(text[: len(text) // 2])

    return cut


def without_key(made: Made) -> None:
    result = made.result()
    del result["bpb"]["final"], result["budgets"]
    made.save(result)


def no_data(made: Made) -> None:
    shutil.rmtree(made.data)


def no_training_shard(made: Made) -> None:
    (made.data / made.manifest.training.shards[0].tokens.path).unlink()


def no_list(made: Made) -> None:
    (made.run.parent / "runs.jsonl").unlink()


def strange_list(made: Made) -> None:
    (made.run.parent / "runs.jsonl").write_text('[1, 2]\n"a"\n{"run_id": 3}\n')


def without_event(**keys: str) -> Callable[[Made], None]:
    def cut(made: Made) -> None:
        kept = [e for e in made.events() if any(e.get(k) != v for k, v in keys.items())]
        made.save_events(kept)

    return cut


DAMAGE: dict[str, tuple[Callable[[Made], None], str]] = {
    "no result": (drop("result.json"), "result.json is missing"),
    "no configuration": (drop("config.yaml"), "config.yaml is missing"),
    "no events": (drop("events.jsonl"), "events.jsonl is missing"),
    "no provenance": (drop("provenance.json"), "provenance.json is missing"),
    "half a result": (half("result.json"), "result.json is not JSON"),
    "result is a list": (fill("result.json", "[1]"), "result.json is no object"),
    "empty result": (fill("result.json", "{}"), "result.json"),
    "result without keys": (without_key, "result.json"),
    "no YAML": (fill("config.yaml", "a: [1"), "config.yaml: damaged"),
    "other YAML": (fill("config.yaml", "seed: 3"), "config.yaml: has no data, tokenizer"),
    "text for events": (fill("events.jsonl", "what?\n[3]\n"), "2 of 2 lines cannot be read"),
    "no event of the times": (without_event(event="meter"), "no meter event"),
    "no event of a score": (without_event(event="score", name="ema"), "measured the ema score"),
    "data are gone": (no_data, "the data are gone"),
    "a training shard is gone": (no_training_shard, "files of"),
    "no list of runs": (no_list, "does not list this run"),
    "another list of runs": (strange_list, "does not list this run"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", DAMAGE)
def test_damage_leaves_it_undecided_and_says_what_is_missing(made: Made, name: str) -> None:
    apply, words = DAMAGE[name]
    apply(made)
    shown = made if (made.data / "manifest.json").is_file() else Made(made.run, None)  # type: ignore[arg-type]
    if shown.data is None:  # where the run's own record leads
        made.record_data(folder=str(made.data))
    verdict = shown.audit(without=SLOW_PROBES)
    open_questions = [f.summary for f in verdict.findings if f.verdict == UNDECIDED]
    assert any(words in summary for summary in open_questions), verdict.findings
    assert verdict.verdict == NOT_DECIDED and not verdict.failures, verdict.failures


@pytest.mark.slow
def test_the_command_says_it_without_a_traceback(made: Made) -> None:
    for name in ("config.yaml", "result.json", "events.jsonl"):
        (made.run / name).unlink()
    (made.run / "artifact" / "code.zip").write_bytes(b"PK")
    done = pgolf(made, "--quick", "--json")
    assert done.returncode in (3, 4) and "Traceback" not in done.stderr, done.stderr
    answer = json.loads(done.stdout)
    assert answer["findings"][0]["probe"] == "RECORD"
    assert len(answer["findings"][0]["witness"]["missing"]) == 3


def test_an_empty_folder_is_named(tmp_path: Path) -> None:
    from pgolf.auditing.runs import open_subject
    from pgolf.errors import UserError

    (tmp_path / "notes.txt").write_text("nothing")
    with pytest.raises(UserError, match="neither a finished run"):
        open_subject(tmp_path)
