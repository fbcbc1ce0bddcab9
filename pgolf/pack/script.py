"""A run's configuration to one self-contained script, made from pgolf's own modules."""

from __future__ import annotations

import pprint
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, partial
from importlib.util import decode_source
from pathlib import Path
from typing import Any

from pgolf.bundle.emit import Bundle, bundle
from pgolf.bundle.fold import Known, fold
from pgolf.bundle.minify import minify
from pgolf.bundle.reach import Reach, Sources
from pgolf.bundle.wrap import wrap
from pgolf.jobs import diagnostic_settings, ttt_before_quantization
from pgolf.pack.script_known import known_of
from pgolf.shipped import ROOT, adapts_while_scoring

MAIN = "pgolf.pack.script_main.main"
PARTS = "pgolf.pack.script_parts"
# What a script has to have from its configuration; the rest of it is for launching and reporting.
GROUPS = ("model", "optim", "train", "ttt", "quant", "codec", "eval", "hardware")
SETTINGS = ("seed", "limits", *GROUPS)
SCALES = ("eval_seq_len", "eval_batch_seqs")  # that no group has
# Quantizers that give every matrix the same plain rule.
PLAIN_QUANTIZERS = ("pgolf.quant.gptq.", "pgolf.quant.rtn.", "pgolf.quant.none.")
REPLACED = {
    "hydra.utils.instantiate": "build",
    "hydra.errors.InstantiationException": "BuildError",
    "pgolf.artifact.find_class": "class_in",
    "pgolf.artifact.class_path": "path_of_class",
    "pgolf.progress.track": "track",
    "pgolf.progress.Bar": "Bar",
    "pgolf.checkpoint.Checkpoints": "NoCheckpoints",
    "pgolf.produce.save_weights": "save_weights",
    "safetensors.torch.load_file": "load_weights",
    "pgolf.shipped.write_code": "bytes_of_code",
    "pgolf.data.manifest.Manifest": "Listed",
    "pgolf.files.atomic_writer": "writer",
    "pgolf.stage.Stage": "left_out",
    "pgolf.census.tensor_rows": "no_rows",
    "pgolf.signature.check_arguments": "checked_before",
    "pgolf.train.profile": "left_out",
}
PUBLISHED_DATA = "./data/datasets/"
WRAPS = ("lzma", "brotli")


@dataclass(frozen=True)
class Script:
    """A generated script.

    Args:
        data: of `train_gpt.py`, its bytes.
        source: the program before it was minified and wrapped.
        modules: bytes of each module's part in `source`.
        external: modules of others that it imports, to unpack itself as well.
    """

    data: bytes
    source: str
    modules: dict[str, int]
    external: set[str]

    @property
    def text(self) -> str:
        """As Python reads it."""
        return decode_source(self.data)


def make_script(
    config: dict[str, Any],
    *,
    label: str,
    tokenizer_fingerprint: str,
    code_bytes: int,
    short: bool = False,
    wrapped: str | None = None,
) -> Script:
    """The script that repeats a run.

    Args:
        config: of the run, resolved.
        label: what its log says about eligibility.
        tokenizer_fingerprint: of the data that the run used.
        code_bytes: that the run counted with its artifact.
        short: leave out what only readers need, and what the configuration settles.
        wrapped: one of `WRAPS`: compressed, in a program that unpacks and runs it.

    Raises:
        BundleError: a part cannot be put into one file.
    """
    before = ttt_before_quantization(config)
    targets = sorted(set(_targets([*(config[group] for group in GROUPS), before])))
    roots = [MAIN, f"{PARTS}.TARGETS", f"{PARTS}.FACTS", *targets]
    made = bundle(Reach(sources_of(config, short), roots, annotations=not short), roots)
    facts = {
        "name": config["name"],
        "label": label,
        "config": {
            **{key: config[key] for key in SETTINGS},
            "scale": {key: config["scale"][key] for key in SCALES},
        },
        "data": default_data(config),
        "tokenizer_fingerprint": tokenizer_fingerprint,
        "code_bytes": code_bytes,
        "standard": diagnostic_settings(config),
        "ttt_before": before,
        "ttt_later": config["ttt"] if adapts_while_scoring(config) else None,
    }
    text = _assembled(made, targets, facts)
    final = minify(text) if short else text
    data = wrap(final, wrapped) if wrapped else final.encode()
    external = made.external | {wrapped} if wrapped else made.external
    return Script(data, text, made.modules, external)


def default_data(config: dict[str, Any]) -> str:
    """Where the script looks for shards if nobody says where they are."""
    return PUBLISHED_DATA + str(config["data"].get("dataset") or config["data"].get("name", ""))


def sources_of(config: dict[str, Any], short: bool) -> Sources:
    """pgolf, without what this configuration does not reach.

    Args:
        short: leave out of each module what the configuration's values settle.
    """
    read = cache(partial(_folded, known_of(config))) if short else source_of
    replaced = {path: f"{PARTS}.{name}" for path, name in REPLACED.items()}
    return Sources("pgolf", read, {**replaced, **{p: f"{PARTS}.left_out" for p in _unused(config)}})


def _unused(config: dict[str, Any]) -> Iterator[str]:
    hardware = config["hardware"]
    if hardware["device"] == "cpu" or hardware["kernels"] == "plain":
        yield "pgolf.kernel.fused"
    if config["train"]["loader"] == "global":
        yield "pgolf.data.loader.PublishedLoader"
    if config["quant"]["_target_"].startswith(PLAIN_QUANTIZERS):
        yield from ("pgolf.quant.trellis", "pgolf.quant.lowrank")
    if not adapts_while_scoring(config):
        yield "pgolf.evaluate.adapt_and_score"


def _targets(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if "_target_" in node:
            yield node["_target_"]
        node = list(node.values())
    if isinstance(node, list):
        for value in node:
            yield from _targets(value)


@cache
def source_of(name: str) -> bytes | None:
    """The text of one of pgolf's modules, None where there is none."""
    path = ROOT / Path(*name.split("."))
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    return path.read_bytes() if path.is_file() else None


def _folded(known: dict[str, Known], name: str) -> bytes | None:
    source = source_of(name)
    return source and fold(source.decode(), known.get(name, Known()))[0].encode()


def _assembled(made: Bundle, targets: list[str], facts: dict[str, Any]) -> str:
    names = made.names
    table = "".join(f"    {target!r}: {names[target]},\n" for target in targets)
    shown = pprint.pformat(facts, width=100, sort_dicts=False)
    return (
        f'"""{facts["name"]}: made by pgolf from its own modules; pgolf itself is not needed.\n\n'
        "torchrun --standalone --nproc_per_node=8 train_gpt.py     $SEED, $DATA_PATH\n"
        '"""\n\n'
        f"{made.text}\n\n"
        f"# --{' the run ':-<95}\n\n{names[f'{PARTS}.TARGETS']}.update(\n    {{\n"
        f"{table}    }}\n)\n{names[f'{PARTS}.FACTS']}.update(\n{shown}\n)\n\n"
        f'if __name__ == "__main__":\n    {names[MAIN]}()\n'
    )
