"""Each check of a configuration: one that passes and one that fails, naming key and remedy."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from pgolf.config import changed, check, check_world, compose, load_config, resolve, scale_keys
from pgolf.errors import UserError
from pgolf.hardware import Devices
from pgolf.ranges import check_ranges
from tests.config.parts import PARTS, config_with


def test_a_good_configuration_passes_silently() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check(config_with())


NAN = float("nan")
PASSING: list[dict[str, Any]] = [
    {"seed": 0},
    {"limits__train_s": 0.5},
    {"name": "recurrent3-nano_2=1,v+.x"},
    {"model__num_heads": 2, "model__num_kv_heads": 1},
    {"model__rope_dims": 8},
    {"model__num_loops": 0, "model__loop_start": 99},
    {"model__loop_start": 0, "model__loop_end": 5},
    {"model__vocab_size": 300, "tokenizer__vocab_size": 300},
    {"model__vocab_size": 65536, "tokenizer__vocab_size": 65536},
    {
        **{"tokenizer___target_": f"{PARTS}.BytesTokenizer", "tokenizer__vocab_size": 257},
        "model__vocab_size": 257,
    },
    {"eval__stride": 64},
    {"eval__stride": 1},
    {"eval__stride": None},
    {"ttt__chunk_tokens": 64},
    {"ttt": {"_target_": f"{PARTS}.Part"}},
    {"train__num_steps": None},
    {"train__max_seconds": None},
    {"model": {"_target_": f"{PARTS}.Tokenizer", "vocab_size": 512}},
]


@pytest.mark.parametrize("changes", PASSING, ids=str)
def test_borderline_configurations_pass(changes: dict[str, Any]) -> None:
    check(config_with(**changes))


FAILING: list[tuple[dict[str, Any], str]] = [
    # Keys.
    ({"sede": 3}, r"sede: nothing uses this key \(did you mean seed\?\)"),
    ({"scale__model_dmi": 3}, r"scale.model_dmi: .*\(did you mean model_dim\?\)"),
    ({"limits__trian_s": 3}, r"limits.trian_s: .*\(did you mean train_s\?\)"),
    ({"optim__matirx_lr": 0.1}, r"optim.matirx_lr: .*\(did you mean matrix_lr\?\)"),
    ({"train__qqqq": 1}, r"train.qqqq: .*It accepts: .*seq_len"),
    ({"hardware__gpus": 1}, "hardware.gpus: "),
    ({"tracking__project": "x"}, "tracking.project: .*no keys"),
    # Options.
    ({"codec": None}, "codec: expected one option of the group"),
    ({"codec": {"settings": 1}}, "codec: expected one option of the group"),
    ({"codec___target_": "pgolf.codec.missing.Codec"}, "no module pgolf.codec.missing"),
    ({"model___target_": "pgolf.model.baseline.Baseline"}, r"\(did you mean BaselineGPT\?\)"),
    ({"codec__settings": {"_target_": f"{PARTS}.Nothing"}}, "codec.settings"),
    # Types.
    ({"model__num_layers": 6.0}, r"model.num_layers=6.0 has the wrong type \(float\)"),
    ({"train__loader": "gloabl"}, "train.loader='gloabl' .*expected Literal"),
    ({"train__ema_decay": None}, "train.ema_decay=None"),
    ({"seed": -1}, "seed=-1: expected a whole number"),
    ({"seed": True}, "seed=True"),
    ({"seed": "1"}, "seed='1'"),
    ({"limits__train_s": 0}, "limits.train_s=0: expected a number above 0"),
    ({"limits__artifact_bytes": "16M"}, "limits.artifact_bytes='16M'"),
    ({"name": "a/b"}, "name='a/b': use letters"),
    ({"name": ""}, "name=''"),
    ({"name": 7}, "name=7"),
    # Numbers out of their range, nan among them, which is neither above nor below.
    ({"limits__train_s": NAN}, "limits.train_s=nan: expected a number above 0"),
    ({"limits__artifact_bytes": 0.5}, "limits.artifact_bytes=0.5: expected 1 or more"),
    ({"limits__artifact_bytes": float("inf")}, "limits.artifact_bytes=inf"),
    ({"train__max_seconds": NAN, "train__num_steps": None}, "train.max_seconds=nan"),
    ({"train__ema_decay": 1.0}, "train.ema_decay=1.0: expected a number from 0 to below 1"),
    ({"train__warmdown_frac": NAN}, "train.warmdown_frac=nan: expected a share from 0 to 1"),
    ({"optim__grad_clip_norm": -1.0}, "optim.grad_clip_norm=-1.0: expected a number above 0"),
    ({"optim__beta1": 1.0}, "optim.beta1=1.0"),
    ({"optim__matrix_lr": -0.1}, "optim.matrix_lr=-0.1: expected a number, 0 or more"),
    ({"optim__ns_steps": -1}, "optim.ns_steps=-1: expected 1 or more"),
    ({"model__rope_base": 0.0}, "model.rope_base=0.0"),
    ({"model__mlp_mult": 0.001}, "model.mlp_mult=0.001: a hidden layer of no width"),
    # The model's sizes.
    ({"model__num_layers": 0}, "model.num_layers=0: expected 1 or more"),
    ({"model__num_heads": 0}, "model.num_heads=0: expected 1 or more"),
    ({"model__num_heads": 5}, "model.model_dim=32 does not divide into 5 heads"),
    ({"model__num_heads": 32, "model__num_kv_heads": 32}, "heads of even width"),
    ({"model__rope_dims": 3}, "model.rope_dims=3: expected an even number"),
    ({"model__rope_dims": 10}, "at most the head's width 8"),
    ({"model__rope_dims": 0}, "model.rope_dims=0"),
    ({"model__num_kv_heads": 3}, "model.num_heads=4 is no multiple of num_kv_heads=3"),
    ({"model__num_loops": -1}, "model.num_loops=-1: expected 0"),
    ({"model__loop_end": 6}, "loop_end=6: expected .*num_layers=6"),
    ({"model__loop_start": 4}, "model.loop_start=4, loop_end=3"),
    ({"model__loop_start": -1}, "model.loop_start=-1"),
    # Vocabularies.
    ({"tokenizer__vocab_size": 1024}, "tokenizer.vocab_size=1024 but model.vocab_size=512"),
    ({"model__vocab_size": 257, "tokenizer__vocab_size": 257}, "needs its 256 byte pieces"),
    ({"model__vocab_size": 70000, "tokenizer__vocab_size": 70000}, "at most 65536"),
    # Lengths and budgets.
    ({"train__train_batch_tokens": 500}, "train_batch_tokens=500 is no multiple of .*seq_len=64"),
    ({"train__num_steps": None, "train__max_seconds": None}, "give at least one"),
    ({"train__num_steps": 0}, "train.num_steps=0: expected 1 or more"),
    ({"train__max_seconds": -1}, "train.max_seconds=-1"),
    ({"train__seq_len": 0}, "train.seq_len=0"),
    ({"train__train_batch_tokens": 0}, "train.train_batch_tokens=0"),
    ({"train__micro_batch_seqs": 0}, "train.micro_batch_seqs=0"),
    ({"train__log_every": 0}, "train.log_every=0"),
    ({"eval__seq_len": 0}, "eval.seq_len=0"),
    ({"eval__stride": 0}, "eval.stride=0: expected 1 to eval.seq_len=64"),
    ({"eval__stride": 65}, "some tokens would not be scored"),
    ({"ttt__chunk_tokens": 63}, "ttt.chunk_tokens=63 is shorter than one sequence of 64"),
]


@pytest.mark.parametrize(("changes", "message"), FAILING, ids=[str(c) for c, _ in FAILING])
def test_a_wrong_configuration_is_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        check(config_with(**changes))


def test_a_missing_key_is_named() -> None:
    config = config_with()
    del config["model"]["num_layers"]
    with pytest.raises(UserError, match="model: missing num_layers"):
        check(config)


def test_an_average_longer_than_the_run_is_warned_of() -> None:
    long = {"train__num_steps": 100, "train__ema_decay": 0.9965}
    with pytest.warns(UserWarning, match="averages over 286 steps"):
        check(config_with(**long, train__ema_ramp="off"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check(config_with(**long, train__ema_ramp="auto"))
        check(config_with(train__num_steps=1000, train__ema_decay=0.99, train__ema_ramp="off"))


def devices(num_workers: int) -> Devices:
    return Devices("cpu", num_workers, "fp32", "auto", False, 1)


@pytest.mark.parametrize("num_workers", [1, 2, 4, 8])
def test_workers_that_divide_the_batch_pass(num_workers: int) -> None:
    check_world(config_with(), devices(num_workers))  # 8 sequences, micro-batches of 4


@pytest.mark.parametrize("num_workers", [3, 16])
def test_workers_that_do_not_divide_the_batch_are_named(num_workers: int) -> None:
    with pytest.raises(UserError, match=f"{num_workers} workers do not divide the batch of 8"):
        check_world(config_with(), devices(num_workers))


def test_micro_batches_that_do_not_divide_are_named() -> None:
    with pytest.raises(UserError, match="micro_batch_seqs=3 does not divide a worker's 8"):
        check_world(config_with(train__micro_batch_seqs=3), devices(1))
    check_world(config_with(train__micro_batch_seqs=3), devices(4))  # two each: one micro-batch


def test_missing_values_and_dangling_references_are_named() -> None:
    with pytest.raises(UserError, match=r"missing value for data.path: add data.path=\.\.\."):
        resolve(OmegaConf.create({"data": {"path": "???"}}))
    with pytest.raises(UserError, match=r"model\.dim"):
        resolve(OmegaConf.create({"model": {"dim": "${scale.nothing}"}}))
    assert resolve(OmegaConf.create({"a": 1, "b": "${a}"})) == {"a": 1, "b": 1}


def test_scale_keys_are_those_that_options_use() -> None:
    assert {"model_dim", "vocab_size", "train_batch_tokens", "eval_stride"} <= scale_keys()


def test_a_finished_run_moves_to_other_hardware() -> None:
    run = compose(["hardware=h100x8", "hardware.attention=sdpa"])
    moved = changed(run, ["hardware=cpu", "hardware.num_workers=2"], ("hardware",))
    cpu = compose(["hardware=cpu"])["hardware"]
    assert moved == {**run, "hardware": {**cpu, "num_workers": 2}}
    assert run["hardware"]["device"] == "cuda"
    with pytest.raises(UserError, match="hardware=gpu: expected one of auto, cpu"):
        changed(run, ["hardware=gpu"], ("hardware",))


def test_a_value_that_is_no_yaml_is_named() -> None:
    with pytest.raises(UserError, match=r"eval\.stride=\["):
        changed(compose(["debug=cpu"]), ["eval.stride=["], ("eval",))
    for values, words in (
        (["eval.batch_seqs=0"], r"eval\.batch_seqs=0: expected 1 or more"),
        (["eval.stride=65", "eval.seq_len=64"], "some tokens would not be scored"),
    ):
        with pytest.raises(UserError, match=words):
            changed(compose(["debug=cpu"]), values, ("eval",))


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"{[", "damaged"), (b"\xff\xfe", "damaged"), (b"", "empty"), (b"- 1\n", "no configuration")],
)
def test_a_damaged_configuration_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "config.yaml").write_bytes(content)
    with pytest.raises(UserError, match=rf"config\.yaml: .*{message}"):
        load_config(tmp_path)


def test_a_key_of_somebody_elses_option_may_be_no_number() -> None:
    check_ranges("optim", {"lr": "auto", "eps": None, "mine": -1})


def test_blocks_that_leave_nothing_to_adapt_are_refused() -> None:
    with pytest.raises(UserError, match=r"ttt\.freeze_blocks=4: the model has 4 blocks"):
        compose(["ttt=prequant21", "ttt.freeze_blocks=4"])


def test_an_artifact_may_not_be_sought_above_the_limit_of_the_run() -> None:
    config = compose(["quant=mixed_search", "limits.artifact_bytes=85000"])
    assert config["quant"]["limit_bytes"] == 85000
    with pytest.warns(UserWarning, match=r"quant\.limit_bytes=90,000 is above limits\.artifact"):
        compose(["quant=mixed_search", "limits.artifact_bytes=85000", "quant.limit_bytes=90000"])
