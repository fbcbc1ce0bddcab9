"""Every option of every group composes, and builds what it names, beside the others' defaults."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from hydra.utils import instantiate

from pgolf.config import CONF, check_world, compose, scale_keys
from pgolf.distributed import World
from pgolf.hardware import Devices
from pgolf.shipped import check_shippable
from pgolf.signature import _fits, configuration_parameters

# Options of the groups; those of sweeps and of Hydra itself: tests/sweeps.
FILES = sorted(path for path in CONF.glob("*/*.yaml") if path.parent.name not in ("hydra", "sweep"))
# What has to be given together: a source without a path, shards whose tokenizer is known, or more
# GPUs than there are. Small sizes, since models are really built.
COMPANIONS = {
    "data/local": ["data.path=README.md"],
    "data/prepared": ["data.path=README.md"],
    "data/fineweb_caseops": ["tokenizer=caseops", "scale.vocab_size=8192"],
}
COMBINATIONS = [
    ["model=baseline", "optim=adamw", "ttt=none", "quant=rtn", "codec=lzma", "eval=standard"],
    ["experiment=v15", "scale=nano", "data=embedded"],
    ["experiment=v15", "debug=cpu", "data=embedded"],
    ["experiment=v15", "debug=cpu", "data=embedded", "tokenizer=bytes", "model=baseline"],
    ["experiment=v15", "hardware=h100x1"],
    ["debug=cpu", "scale=full", "tokenizer=bytes"],
    ["debug=cpu", "model=baseline", "optim=adamw", "tokenizer=caseops"],
    ["data=local", "data.path=README.md", "scale=full", "tokenizer=sp"],
]


def option(path: Path) -> str:
    return f"{path.parent.name}/{path.stem}"


def overrides_of(path: Path) -> list[str]:
    return [f"{path.parent.name}={path.stem}", *COMPANIONS.get(option(path), [])]


COMMANDS = [overrides_of(path) for path in FILES] + COMBINATIONS


def build(config: dict[str, Any]) -> dict[str, Any]:
    """An object of every group; those that need run-time objects get the least that will do."""
    with torch.device("meta"):  # sizes of scale=full cost nothing without values
        model = instantiate(config["model"], _convert_="all")
    parts = {group: instantiate(config[group], _convert_="all") for group in (
        "data", "tokenizer", "train", "ttt", "quant", "codec", "eval", "hardware",
    )}  # fmt: skip
    parameters = list(model.named_parameters())
    partial = instantiate(config["optim"], _partial_=True, _convert_="all")
    parts["optim"] = partial(parameters, World())
    parts["tracking"] = instantiate(config["tracking"], print)
    return {**parts, "model": model}


@pytest.mark.parametrize("overrides", COMMANDS, ids=" ".join)
def test_every_option_composes_and_builds(overrides: list[str]) -> None:
    config = compose(overrides)
    check_shippable(config)
    check_world(config, Devices("cpu", 1, "fp32", "auto", False, 1))
    parts = build(config)
    assert {"pgolf"} == {type(part).__module__.partition(".")[0] for part in parts.values()}


@pytest.mark.parametrize("workers", [1, 2, 8])
def test_the_record_recipe_suits_hosts_of_1_2_and_8(workers: int) -> None:
    config = compose(["experiment=v15", f"hardware=h100x{workers}"])
    check_world(config, Devices("cuda", workers, "bf16", "auto", True, 1))
    assert config["hardware"]["num_workers"] == workers


@pytest.mark.parametrize(
    "path",
    [*FILES, CONF / "config.yaml", *CONF.glob("sweep/*.yaml"), *CONF.glob("hydra/**/*.yaml")],
    ids=str,
)
def test_every_file_says_first_what_it_is(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    if lines[0] == "# @package _global_":  # Hydra wants it on the first line
        lines = lines[1:]
    assert re.match(r"# \w.{15,}", lines[0]), f"{path} begins with {lines[0]!r}"


SCALES = {path.stem: yaml.safe_load(path.read_text()) for path in CONF.glob("scale/*.yaml")}


TARGETS = {(yaml.safe_load(path.read_text()) or {}).get("_target_", "") for path in FILES} - {""}


@pytest.mark.parametrize("target", sorted(TARGETS))
def test_every_value_of_an_option_is_checked(target: str) -> None:
    """An annotation that the check cannot read (an alias, say) would let anything pass."""
    for name, parameter in configuration_parameters(target).items():
        annotation = parameter.annotation
        assert annotation is not None and not _fits(object(), annotation), f"{target}: {name}"


@pytest.mark.parametrize("name", sorted(SCALES))
def test_every_scale_has_the_same_keys_and_all_are_used(name: str) -> None:
    assert set(SCALES[name]) == set(SCALES["nano"])
    # The diagnostic evaluation after each stage reads its sizes itself.
    assert set(SCALES[name]) == scale_keys()


def test_the_debug_overlay_changes_sizes_only() -> None:
    overlay = yaml.safe_load((CONF / "debug" / "cpu.yaml").read_text())
    assert set(overlay) == {"defaults", "scale"}
    assert set(overlay["scale"]) <= set(SCALES["nano"])


def test_the_groups_of_the_package_are_those_of_the_configuration() -> None:
    groups = {path.parent.name for path in FILES} - {"scale", "experiment", "debug", "hardware"}
    packages = {path.parent.name for path in (CONF.parent / "pgolf").glob("*/__init__.py")}
    assert groups <= packages
    assert groups <= {path.name for path in (CONF.parent / "tests").iterdir()}


def test_the_default_command_is_the_documented_one() -> None:
    config = compose([])
    written = compose(["model=recurrent3", "ttt=prequant21", "seed=1337"])
    assert config == written and config["quant"]["bits"] == 6
    assert config["eval"]["_target_"].endswith("SlidingEvaluator")
