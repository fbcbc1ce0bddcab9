"""The composed configuration: resolved, checked key by key, then across groups. Imports no torch.

This module knows all groups; nothing else but launch.py and worker.py sees the configuration.
"""

from __future__ import annotations

import difflib
import re
import warnings
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from pgolf.errors import UserError
from pgolf.hardware import Devices
from pgolf.quant.rules import parse_rules
from pgolf.ranges import RANGES, check_ranges
from pgolf.signature import check_arguments
from pgolf.ttt.check import check_ttt

CONF = Path(__file__).resolve().parent.parent / "conf"
GROUPS = ("data", "tokenizer", "model", "optim", "train", "ttt", "quant", "codec", "eval")
RUN_KEYS = {
    *("name", "seed", "out_dir", "limits", "scale", "hardware", "tracking", "audit"),
    "sandbox",
    *GROUPS,
}

HARDWARE = "hardware"

Config = dict[str, Any]


def resolve(cfg: DictConfig) -> Config:
    """The configuration as plain values.

    Raises:
        UserError: a value is missing ('???') or an interpolation does not resolve.
    """
    try:
        missing = sorted(OmegaConf.missing_keys(cfg))
        if missing:
            raise UserError(
                f"missing value for {', '.join(missing)}: add {missing[0]}=... to the command"
            )
        return OmegaConf.to_container(cfg, resolve=True)  # type: ignore[return-value]
    except OmegaConfBaseException as error:
        raise UserError(
            f"{getattr(error, 'full_key', '')}: {str(error).splitlines()[0]}"
        ) from error


def check(config: Config) -> None:
    """Check every key and value, then what has to hold between groups.

    Raises:
        UserError: names the key, the value and the remedy.
    """
    _check_names("", config, RUN_KEYS)
    _check_names("scale", config["scale"], scale_keys())
    for group in (*GROUPS, "hardware", "tracking", "audit"):
        _check_node(group, config[group])
    if "rules" in config["quant"]:
        parse_rules("quant.rules", config["quant"]["rules"])
    _check_run_level(config)
    for group in RANGES:
        check_ranges(group, config[group])
    _check_model(config["model"])
    _check_vocabulary(config)
    _check_lengths(config)
    _warn_of_horizons(config)


def _check_names(where: str, values: Config, known: set[str]) -> None:
    for key in values:
        if key not in known:
            close = difflib.get_close_matches(key, known, n=1)
            hint = f" (did you mean {close[0]}?)" if close else ""
            path = f"{where}.{key}" if where else key
            raise UserError(
                f"{path}: nothing uses this key{hint}. Known: {', '.join(sorted(known))}"
            )


def scale_keys() -> set[str]:
    """The scale values that some option of some group interpolates: any other has no effect."""
    text = "".join(path.read_text(encoding="utf-8") for path in CONF.rglob("*.yaml"))
    return set(re.findall(r"\$\{scale\.(\w+)\}", text))


def _check_node(where: str, node: Any) -> None:
    if not isinstance(node, dict) or "_target_" not in node:
        raise UserError(f"{where}: expected one option of the group, with a _target_, got {node!r}")
    values = {key: value for key, value in node.items() if not key.startswith("_")}
    check_arguments(where, node["_target_"], values)
    for key, value in values.items():
        if isinstance(value, dict) and "_target_" in value:
            _check_node(f"{where}.{key}", value)
        for index, item in enumerate(value if isinstance(value, list) else []):
            if isinstance(item, dict) and "_target_" in item:
                _check_node(f"{where}.{key}[{index}]", item)


def _check_run_level(config: Config) -> None:
    seed, limits = config["seed"], config["limits"]
    if not isinstance(seed, int) or isinstance(seed, bool) or seed < 0:
        raise UserError(f"seed={seed!r}: expected a whole number, 0 or more")
    _check_names("limits", limits, {"artifact_bytes", "train_s", "evaluate_s"})
    for key, value in limits.items():
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise UserError(f"limits.{key}={value!r}: expected a number above 0")
    if (held := config.get("sandbox", "auto")) not in ("auto", "off"):
        # YAML reads a bare off as false.
        raise UserError(f'sandbox={held!r}: expected auto or off (in a YAML file: "off")')
    if not isinstance(config["name"], str) or not re.fullmatch(r"[\w.,=+-]+", config["name"]):
        raise UserError(
            f"name={config['name']!r}: use letters, digits and -_.,=+ only (it names a folder)"
        )


def _check_model(model: Config) -> None:
    dim, heads = model.get("model_dim"), model.get("num_heads")
    kv_heads, layers = model.get("num_kv_heads"), model.get("num_layers")
    if dim is not None and heads is not None:
        if dim % heads or (dim // heads) % 2:
            raise UserError(
                f"model.model_dim={dim} does not divide into {heads} heads of even width: "
                f"choose scale.model_dim as an even multiple of scale.num_heads"
            )
        rope = model.get("rope_dims")
        if rope is not None and (rope % 2 or not 0 < rope <= dim // heads):
            raise UserError(
                f"model.rope_dims={rope}: expected an even number of at most the head's width "
                f"{dim // heads} (scale.rope_dims=...)"
            )
    if heads is not None and kv_heads is not None and heads % kv_heads:
        raise UserError(
            f"model.num_heads={heads} is no multiple of num_kv_heads={kv_heads}: "
            f"query heads share key-value heads evenly (scale.num_kv_heads=...)"
        )
    width = model.get("mlp_mult")
    if dim is not None and width is not None and int(dim * width) < 1:
        raise UserError(f"model.mlp_mult={width}: a hidden layer of no width (scale.mlp_mult=...)")
    if model.get("num_loops", 0) < 0:
        raise UserError(
            f"model.num_loops={model['num_loops']}: expected 0 (no recurrence) or more "
            "(scale.num_loops=...)"
        )
    if model.get("num_loops"):
        first, last = model["loop_start"], model["loop_end"]
        if not 0 <= first <= last < layers:
            raise UserError(
                f"model.loop_start={first}, loop_end={last}: expected 0 <= loop_start <= loop_end "
                f"< num_layers={layers} (scale.loop_start=... scale.loop_end=...)"
            )


def _check_vocabulary(config: Config) -> None:
    tokenizer, size = config["tokenizer"], config["model"].get("vocab_size")
    own = tokenizer.get("vocab_size")
    name = tokenizer["_target_"].rpartition(".")[2]
    if own is not None and size is not None and own != size:
        raise UserError(
            f"tokenizer.vocab_size={own} but model.vocab_size={size}: {name} and the model must "
            f"agree; set both by scale.vocab_size={own}"
        )
    smallest = {"BytesTokenizer": 0}.get(name, 300)
    if own is not None and own < smallest:
        raise UserError(
            f"tokenizer.vocab_size={own}: {name} needs its 256 byte pieces, specials and some "
            f"text pieces; use scale.vocab_size=512 or more, or tokenizer=bytes"
        )
    if own is not None and own > 65536:
        raise UserError(f"tokenizer.vocab_size={own}: ids are stored as uint16, use at most 65536")


def _check_lengths(config: Config) -> None:
    train, evaluate, ttt = config["train"], config["eval"], config["ttt"]
    if train["train_batch_tokens"] % train["seq_len"]:
        raise UserError(
            f"train.train_batch_tokens={train['train_batch_tokens']} is no multiple of "
            f"train.seq_len={train['seq_len']} (scale.train_batch_tokens=...)"
        )
    if train.get("num_steps") is None and train.get("max_seconds") is None:
        raise UserError("train.num_steps and train.max_seconds are both null: give at least one")
    stride = evaluate.get("stride")
    if stride is not None and not 0 < stride <= evaluate.get("seq_len", stride):
        raise UserError(
            f"eval.stride={stride}: expected 1 to eval.seq_len={evaluate['seq_len']}, "
            "otherwise some tokens would not be scored (scale.eval_stride=...)"
        )
    frozen, layers = ttt.get("freeze_blocks"), config["model"].get("num_layers")
    if frozen is not None and layers is not None and frozen >= layers:
        raise UserError(
            f"ttt.freeze_blocks={frozen}: the model has {layers} blocks, so none would be trained; "
            "use a smaller number, or ttt=none"
        )
    limit, of_run = config["quant"].get("limit_bytes"), config["limits"]["artifact_bytes"]
    if limit is not None and limit > of_run:
        _warn(
            f"quant.limit_bytes={limit:,} is above limits.artifact_bytes={of_run:,}: the artifact "
            "may become too large to be eligible"
        )
    check_ttt(ttt, evaluate.get("seq_len"))


def _warn_of_horizons(config: Config) -> None:
    """Averages and warm-ups that are longer than the run mean something else than they say."""
    train, steps = config["train"], config["train"].get("num_steps")
    if not steps:
        return
    decay = train.get("ema_decay")
    if decay and train.get("ema_ramp") == "off" and 1.0 / (1.0 - decay) > steps:
        _warn(
            f"train.ema_decay={decay} averages over {1 / (1 - decay):.0f} steps, the run has only "
            f"{steps}: the average will lag; use train.ema_ramp=auto or a smaller decay"
        )
    warmup = config["optim"].get("muon_momentum_warmup_steps")
    if warmup and warmup > steps:
        _warn(
            f"optim.muon_momentum_warmup_steps={warmup} is longer than the run of {steps} steps: "
            "the momentum never arrives; use scale.muon_momentum_warmup_steps=... below that"
        )


def _warn(message: str) -> None:
    warnings.warn(message, stacklevel=4)


def check_world(config: Config, devices: Devices) -> None:
    """Raises UserError when the number of workers does not divide the batch."""
    train, workers = config["train"], devices.num_workers
    sequences = train["train_batch_tokens"] // train["seq_len"]
    per_worker = sequences // workers
    if sequences % workers:
        raise UserError(
            f"{workers} workers do not divide the batch of {sequences} sequences: change "
            f"hardware.num_workers or train.train_batch_tokens={train['train_batch_tokens']}"
        )
    micro = min(train["micro_batch_seqs"], per_worker)
    if per_worker % micro:
        raise UserError(
            f"train.micro_batch_seqs={micro} does not divide a worker's {per_worker} sequences a "
            f"step: choose a divisor of {per_worker} (scale.micro_batch_seqs=...)"
        )


def compose(overrides: list[str]) -> Config:
    """The checked configuration of a command line, as launch.py would compose it.

    Raises:
        UserError: an override does not compose, or a check fails.
    """
    from hydra import compose as compose_config
    from hydra import initialize_config_dir
    from hydra.errors import HydraException

    try:
        with initialize_config_dir(str(CONF), version_base="1.3"):
            # The name is made from Hydra's own facts about a job, and this is no job.
            cfg = compose_config("config", ["name=composed", *overrides])
    except HydraException as error:
        raise UserError(str(error)) from error
    config = resolve(cfg)
    check(config)
    return config


def load_config(run_folder: Path) -> Config:
    """The configuration that a run was started with.

    Raises:
        UserError: there is no config.yaml, or it is damaged.
    """
    path = run_folder / "config.yaml"
    if not path.is_file():
        raise UserError(f"{run_folder} has no config.yaml: name a run folder, outputs/NAME/ID")
    try:
        config = OmegaConf.to_container(OmegaConf.load(path))
    except (OSError, UnicodeDecodeError, YAMLError, OmegaConfBaseException) as error:
        raise UserError(
            f"{path}: damaged, {str(error).splitlines()[0]}: copy it again, or repeat the run"
        ) from error
    if not isinstance(config, dict) or not config:
        raise UserError(f"{path}: empty, or no configuration: copy it again, or repeat the run")
    missing = [
        group
        for group in GROUPS
        if not isinstance(config.get(group), dict) or "_target_" not in config[group]
    ]
    missing += [] if isinstance(config.get("limits"), dict) else ["limits"]
    if missing:
        raise UserError(f"{path}: has no {', '.join(missing)}: copy it again, or repeat the run")
    return config  # type: ignore[return-value]


def changed(config: Config, overrides: list[str], groups: tuple[str, ...]) -> Config:
    """A finished run's configuration with values of some groups set anew, e.g. `eval.stride=32`.

    `hardware=OPTION` changes the whole group. An option of another group may need a class that was
    not shipped with the artifact.

    Raises:
        UserError: a key of another group, or one that its class does not take.
    """
    config = dict(config)
    values = []
    for text in overrides:
        key, _, value = text.partition("=")
        if key == HARDWARE and value:
            config[HARDWARE] = _hardware(value)
        elif "." in key and key.partition(".")[0] in groups:
            values.append(text)
        else:
            allowed = ", ".join(f"{group}.KEY=VALUE" for group in groups)
            raise UserError(
                f"{text}: only hardware=OPTION, {allowed} can be changed for a finished run; other "
                "classes were not shipped with it"
            )
    try:
        merged = OmegaConf.merge(OmegaConf.create(config), OmegaConf.from_dotlist(values))
    except (YAMLError, OmegaConfBaseException) as error:
        raise UserError(f"{' '.join(values)}: {str(error).splitlines()[0]}") from error
    result: Config = OmegaConf.to_container(merged)  # type: ignore[assignment]
    for group in groups:
        _check_node(group, result[group])
        if group in RANGES:
            check_ranges(group, result[group])
    _check_lengths(result)
    return result


def _hardware(name: str) -> Any:
    options = {path.stem: path for path in (CONF / HARDWARE).glob("*.yaml")}
    if name not in options:
        raise UserError(f"hardware={name}: expected one of {', '.join(sorted(options))}")
    return OmegaConf.to_container(OmegaConf.load(options[name]))
