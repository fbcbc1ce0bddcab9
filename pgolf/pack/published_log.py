"""A training log in the words of the published scripts, written as a run goes or from its events.

Numbers are written in full, so that two logs tell whether two runs were bit-equal.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

RULE = "=" * 100
# Events whose lines only repeat others, or that only pgolf's own report can show.
UNWRITTEN = {"stage", "tensors", "meter", "artifact", "tokenizer", "documents"}


class Log:
    """Lines on the terminal and in a file; takes the place of events and of a run's own words.

    Args:
        file: written anew; None on every rank but the main one, which is silent.
        num_steps: planned, or None where time alone ends the training.
    """

    path: Path | None = None  # as an EventLog's: there is no events.jsonl

    def __init__(self, file: Path | None, num_steps: int | None) -> None:
        self.file, self.num_steps = file, num_steps
        if file is not None:
            file.write_text("", encoding="utf-8")

    def __call__(self, text: str) -> None:
        if self.file is not None:
            print(text, flush=True)
            with open(self.file, "a", encoding="utf-8") as file:
                file.write(f"{text}\n")

    def emit(self, event: str, stage: str, **values: Any) -> None:
        """A line for an event."""
        line = event_line(event, values, self.num_steps)
        if line:
            self(line)


def event_line(event: str, values: dict[str, Any], num_steps: int | None) -> str:
    """An event in published words, empty where they have none."""
    if event in UNWRITTEN:
        return ""
    if event == "train_step":
        spent_ms, step = 1000 * values["elapsed_s"], values["step"]
        return (
            f"step:{step}/{num_steps or step} train_loss:{values['train/loss']!r} "
            f"train_time:{spent_ms:.0f}ms step_avg:{spent_ms / step:.2f}ms"
        )
    if event == "score":
        return (
            f"{values['name']} val_loss:{values['nats_per_token']!r} val_bpb:{values['bpb']!r} "
            f"tokens:{values['tokens']} bytes:{values['bytes']}"
        )
    return " ".join([event, *(f"{key}:{value}" for key, value in values.items())])


def settings_lines(config: dict[str, Any], seed: int) -> Iterator[str]:
    """The block of hyperparameters."""
    yield "Hyperparameters:"
    for group, node in config.items():
        for key, value in node.items() if isinstance(node, dict) else [("", node)]:
            name = f"{group}_{key}" if key else group
            yield f"  {name}: {seed if name == 'seed' else value}"


def size_lines(codec: str, model_bytes: int, code_bytes: int) -> list[str]:
    """What is shipped; the limit holds for the last line."""
    return [
        f"Code size: {code_bytes} bytes",
        f"Serialized model {codec}: {model_bytes} bytes",
        f"Total submission size {codec}: {model_bytes + code_bytes} bytes",
    ]


def final_line(score: dict[str, Any]) -> str:
    """The score that counts."""
    return (
        f"final_exact val_loss:{score['nats_per_token']!r} val_bpb:{score['bpb']!r} "
        f"eval_time:{1000 * score['seconds']:.0f}ms target_tokens:{score['tokens']}"
    )


def log_of_run(
    config: dict[str, Any],
    result: dict[str, Any],
    events: Iterable[dict[str, Any]],
    code_bytes: int,
) -> str:
    """The log that a finished run would have written as a script.

    Args:
        config: of the run, resolved.
        code_bytes: of the script that is packed with it.
    """
    lines = [
        f"run {result['run_id']} of pgolf, its events in the words of the script",
        *settings_lines({key: config[key] for key in sorted(config)}, result["seed"]),
        RULE,
    ]
    for event in events:
        values = {k: v for k, v in event.items() if k not in ("time", "event", "stage")}
        lines.append(event_line(event["event"], values, config["train"]["num_steps"]))
    codec = config["codec"]["_target_"].rpartition(".")[2]
    lines += size_lines(codec, result["artifact"]["model_bytes"], code_bytes)
    lines.append(final_line(result["bpb"]["final"]))
    return "\n".join(line for line in lines if line) + "\n"
