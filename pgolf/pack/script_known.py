"""What a configuration settles in pgolf's source, so that a short script can leave the rest out.

Each entry says of a module what an expression is worth in this run, or which statement does nothing
in it; `pgolf.bundle.fold` draws the conclusions. A text that its module no longer has is an error
of tests/pack/test_known.py, not of packing.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pgolf.bundle.fold import Known
from pgolf.shipped import adapts_while_scoring

Config = dict[str, Any]
# A part of one module's knowledge: the module, values of expressions, and dropped statements.
Part = tuple[str, dict[str, Any], tuple[str, ...]]
BYTE_CODECS = ("brotli_codec.BrotliCodec", "lzma_codec.LzmaCodec", "zstd_codec.ZstdCodec")
GPT, GPTQ = "pgolf.model.recurrent.RecurrentGPT", "pgolf.quant.gptq.GPTQQuantizer"
PREQUANT = "pgolf.ttt.prequant.PreQuantTTT"
DISPATCHED = ("add_norm", "enter_block", "head_loss", "qk_prep", "scaled_add", "xsa", "mlp")
# Functions that check settings, or what stands in an artifact behind its own checksum.
CHECKERS = {
    "hardware": ("settle",),
    "quant.sdclip": ("sdclip_rules",),
    "layout": ("parse_entry", "stream_sizes", "_read_matrix"),
    "artifact": ("_parse_streams", "_decode_streams", "build_model"),
    "container": ("join", "_read_header"),
}


def known_of(config: Config) -> dict[str, Known]:
    """By module, what is known of it."""
    values: dict[str, dict[str, Any]] = {}
    dropped: dict[str, tuple[str, ...]] = {}
    for module, known, gone in _parts(config):
        values.setdefault(f"pgolf.{module}", {}).update(known)
        dropped[f"pgolf.{module}"] = (*dropped.get(f"pgolf.{module}", ()), *gone)
    for module in CHECKERS:
        values.setdefault(f"pgolf.{module}", {})
    return {
        name: Known(values[name], dropped.get(name, ()), CHECKERS.get(name[6:], ()))
        for name in values
    }


def _parts(config: Config) -> Iterator[Part]:
    yield from _of_every_script()
    yield from _of_devices(config["hardware"])
    yield from _of_attention(config)
    yield from _of_optim(config["optim"])
    yield from _of_train(config["train"])
    yield from _of_ttt(config)
    yield from _of_codec(config["codec"])
    yield from _of_quant(config["quant"])


def _of_every_script() -> Iterator[Part]:
    """No checkpoints, documents, stages or events' file; settings and artifact are the run's."""
    yield "evaluate", {"job.get('documents')": None, "isinstance(text, TalliedStream)": False}, ()
    yield (
        "evaluate",
        {},
        (
            "before = state_of(model)",
            "states = {'before': float(before), 'after': float(state_of(model))}",
            "context.events.emit('state', 'evaluate', name='final', **states)",
        ),
    )
    yield "produce", {}, ("parts.check()", "def check")
    yield "eval.scoring", {"isinstance(stream, TalliedStream)": False}, ()
    yield "model.recurrent", {}, ("check_positive(...)", "check_heads(...)", "_check_loop(...)")
    yield "artifact", {}, ("check_targets(...)",)
    yield "data.stream", {"bytes_of_id is None": True}, ()
    yield (
        "train.trainer",
        {
            "state.elapsed_s - saved_at >= settings.checkpoint_every_s": False,
        },
        (
            "loop.restore()",
            "self.beat()",
            "def beat",
            "def restore",
            "def used_s",
            "saved_at = state.elapsed_s",
        ),
    )


def _of_devices(hardware: Config) -> Iterator[Part]:
    kernels, compile = hardware["kernels"], hardware["compile"]
    device, precision = hardware["device"], hardware["precision"]
    yield "hardware", {}, ("self._check_gpu_only(...)", "def _check_gpu_only")
    if device != "auto":
        yield "hardware", {"self.device": device, "device == 'cuda'": device == "cuda"}, ()
        yield "hardware", {"count_gpus()": 0}, ()
    if precision != "auto":
        yield "hardware", {"self.precision": precision}, ()
    if hardware["attention"] == "auto":
        yield "kernel.attention", {"requested == 'auto'": True}, ()
    if kernels != "auto":
        for module in DISPATCHED:
            yield f"kernel.{module}", {"use_fused(...)": kernels == "fused"}, ()
        yield "kernel.replay", {"use_fused_kernels()": kernels == "fused"}, ()
    if kernels == "fused":
        # Where they cannot run, Triton says so.
        yield "kernel.choice", {"why_not_fused(...)": "", "requested == PLAIN": False}, ()
    if (kernels == "fused" and compile is None) or compile is False:
        for module in ("produce", "evaluate"):
            yield module, {"compiles(...)": False}, ()


def _of_attention(config: Config) -> Iterator[Part]:
    """Nobody gives the model borders of documents, nor does it look for them; shapes repeat."""
    model = config["model"]
    if not adapts_while_scoring(config):
        yield "kernel.attention", {"_shapes_vary": False}, ()
    is_whole = model["_target_"] == GPT and model["attention_scope"] == "window"
    if is_whole and not adapts_while_scoring(config):
        yield "model.recurrent", {"borders_of(...)": None, "bos_of_scope(...)": None}, ()
        yield "kernel.attention", {"borders is not None": False}, ()
        yield "kernel.replay", {"borders is not None": False}, ()
        yield "data.prefetch", {"_borders(...)": None, "borders is not None": False}, ()
        yield "produce", {}, ("self.check_documents(...)", "def check_documents")


def _of_optim(optim: Config) -> Iterator[Part]:
    quintic = optim.get("ns_coefficients")
    if quintic is not None:
        yield "optim.newton_schulz", {"kind == 'quintic'": quintic == "quintic"}, ()


def _of_train(train: Config) -> Iterator[Part]:
    if not train["profile"]:
        yield "train.trainer", {"settings.profile": False}, ("def profiled_step",)


def _of_ttt(config: Config) -> Iterator[Part]:
    if adapts_while_scoring(config):
        return
    ttt = config["ttt"]
    yield "evaluate", {"job['ttt'] is not None": False}, ()
    # Only such training asks what is left of a budget.
    yield "clock", {}, ("def add", "self._budget_of[name] = budget", "self._budget_of = {}")
    if config["quant"]["_target_"] == GPTQ:
        yield "kernel.mlp", {"is_observed() and torch.is_grad_enabled()": False}, ()
    if ttt["_target_"] != PREQUANT:
        return
    validation = ttt["source"] == "validation"
    yield "produce", {"source == 'validation'": validation}, ()
    yield "ttt.prequant", {"self.source == 'validation'": validation}, ()
    yield "ttt.prequant", {"self.epochs == 0": ttt["epochs"] == 0}, ("self.check_lengths(...)",)
    yield "ttt.prequant", {"self.sync == 'epoch'": ttt["sync"] == "epoch"}, ("def check_lengths",)
    if ttt["sync"] == "epoch":
        yield "ttt.prequant", {}, ("sum_gradients(...)",)
    if ttt["ema_decay"] is None:
        made = "average = EpochAverage(self.ema_decay)"
        yield "ttt.prequant", {}, (made, "average.update(...)", "average.copy_to(...)")


def _of_codec(codec: Config) -> Iterator[Part]:
    if codec["_target_"].removeprefix("pgolf.codec.") in BYTE_CODECS:
        yield "artifact", {"isinstance(codec, ArrayCodec)": False}, ()
        yield "artifact", {"array_bytes is not None": False, "as_arrays": False}, ()


def _of_quant(quant: Config) -> Iterator[Part]:
    if quant["_target_"] != GPTQ:
        return
    grids = {"rule.grid == 'sdclip'": True}
    grids |= {f"rule.grid == '{name}'": False for name in ("search", "absmax")}
    yield "produce", {"partial(self.size_of, trial)": None}, ("self.tried = None", "def size_of")
    yield (
        "produce",
        {"self.tried is None or self.tried[2] is not codes.tensors": True},
        ("self.context.say('pack: encoding the artifact')",),
    )
    yield "quant.rules", {}, ("def __post_init__",)
    yield "quant.rules", {"self.grid == 'search'": False, "self.columns == 'water'": False}, ()
    yield "quant.rules", {"self.rank > 0": False}, ("def pool",)
    yield "quant.grids", grids, ()
    yield "quant.condition", {}, ("def column_exponents",)
    yield (
        "quant.matrices",
        {
            "rule.rounding == 'trellis'": False,
            "rule.rounding == 'entropy'": False,
            "rule.symmetric": True,
            "rule.columns == 'water'": False,
            "self.offsets is not None": False,
            "self.exponents is None": True,
            "self.exponents is not None": False,
            "self.job.group_columns": 0,
            "job.group_columns": 0,
        },
        (),
    )
    columns = {"step_CN is None": True, "step_BN is not None": False, "counts_bits": False}
    yield "quant.columns", columns, ()
    yield "quant.engine", {}, ("found |= correct(jobs, found, world)", "check_finite(...)")
    yield from _of_plain_codes()


def _of_plain_codes() -> Iterator[Part]:
    """Codes on a grid: no scales of columns or groups, no trellis, no correction."""
    plain = {"column_exponents is not None": False, "correction is not None": False}
    yield "quant.codes", {f"self.{text}": value for text, value in plain.items()}, ()
    yield "quant.codes", {"group_columns": 0}, ()
    yield "quant.trellis_decode", {"states": 0}, ()
    yield "layout", {f"value.{text}": value for text, value in plain.items()}, ()
    yield (
        "layout",
        {
            "entry.columns is False": True,
            "entry.columns is True": False,
            "self.columns is True": False,
            "group_columns": 0,
            "entry.rank": 0,
            "self.rank": 0,
            "value.correction or ()": (),
            "options": {},
        },
        (),
    )
