"""Published weights as a folder that pgolf evaluates, exports and lets speak.

The folder has `artifact/` (model.pgolf, code.zip) and config.yaml as a run's, `tokenizer/` where
one is given, and imported.json: where all that came from.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hydra.utils import instantiate
from omegaconf import OmegaConf

from pgolf.artifact import Artifact, Undrawn, build_model, read_artifact, write_artifact
from pgolf.codec.brotli_codec import BrotliCodec
from pgolf.config import Config, compose
from pgolf.errors import UserError
from pgolf.files import atomic_writer, sha256_file, write_json
from pgolf.layout import Entry
from pgolf.new_folder import check_new, write_whole
from pgolf.protocols import Tokenizer
from pgolf.quant.codes import Codes, IntTensor
from pgolf.shipped import write_code
from pgolf.tokenizer.base import vocab_size_of
from pgolf.tokenizer.store import open_tokenizer
from pgolf.upstream.weights import Published, read_weights

ABOUT = "imported.json"
# At 11 it takes a minute and saves 1%; what counts for the limit is the published file.
FAST = BrotliCodec(quality=9)
UNKNOWN_TOKENIZER = ""  # the fingerprint of an artifact whose tokenizer nobody named


def import_weights(
    file: Path, folder: Path, *, experiment: str, overrides: list[str], tokenizer: Path | None
) -> dict[str, Any]:
    """Write the folder, whole or not at all; returns a summary.

    Args:
        file: a final_model.pt or final_model.int6.ptz.
        folder: must not hold anything yet.
        experiment: option of conf/experiment whose model it is: what shapes do not tell.
        overrides: other values, e.g. `scale.num_loops=1`.
        tokenizer: a SentencePiece .model of the experiment's kind, or a saved tokenizer's folder.

    Raises:
        UserError: no published weights, or they do not fit the model or the tokenizer.
    """
    check_new(folder)
    published = read_weights(file)
    config = configured(published.codes, experiment, overrides, tokenizer)
    config["name"] = f"imported-{experiment}"
    reader = None if tokenizer is None else named_tokenizer(config, tokenizer)
    if reader is not None and reader.vocab_size != config["model"].get("vocab_size"):
        raise UserError(
            f"{tokenizer} has {reader.vocab_size} ids, the model in {file} "
            f"{config['model'].get('vocab_size')}: name the tokenizer that it was trained with"
        )

    def fill(work: Path) -> Artifact:
        return _fill(work, file, published, config, reader)

    artifact = write_whole(folder, fill)
    return {
        "folder": str(folder),
        "parameters": sum(entry.elements for entry in artifact.entries),
        "matrices": bit_widths(artifact.entries),
        "rounded_to_fp16": published.rounded,
        "published_bytes": file.stat().st_size,
        "model_bytes": artifact.file_bytes,
        "tokenizer": "not named: --tokenizer FILE" if reader is None else reader.fingerprint[:12],
    }


def _fill(
    work: Path, file: Path, published: Published, config: Config, reader: Tokenizer | None
) -> Artifact:
    artifact = work / "artifact"
    artifact.mkdir()
    fingerprint = UNKNOWN_TOKENIZER if reader is None else reader.fingerprint
    write_artifact(artifact, config["model"], published.codes, FAST, fingerprint)
    found = read_artifact(artifact)
    build_model(found)  # what does not fit is found now, by name
    write_code(artifact, config)
    if reader is not None:
        reader.save(work / "tokenizer")
    with atomic_writer(work / "config.yaml", "w") as out:
        out.write(OmegaConf.to_yaml(config))
    write_json(
        work / ABOUT,
        {
            "file": str(file.resolve()),
            "bytes": file.stat().st_size,
            "sha256": sha256_file(file),
            "packing": published.packing,
            "rounded_to_fp16": published.rounded,
        },
    )
    return found


def configured(
    codes: Codes, experiment: str, overrides: list[str], tokenizer: Path | None
) -> Config:
    """An experiment's configuration with the sizes that the tensors show.

    Raises:
        UserError: the tensors are not those of the experiment's model, by name.
    """
    sizes = sizes_of(codes)
    words = [f"scale.{key}={value}" for key, value in sizes.items()]
    config = compose([f"experiment={experiment}", "hardware=auto", *words, *overrides])
    expected = _expected(config["model"])
    found = {
        name: tuple((value.codes if isinstance(value, IntTensor) else value).shape)
        for name, value in codes.tensors.items()
    }
    if found != expected:
        raise UserError(
            f"the tensors are not those of experiment={experiment}: "
            f"{_difference(found, expected)}; choose another --experiment, or set what "
            "differs by scale.KEY=VALUE or model.KEY=VALUE"
        )
    return config


def sizes_of(codes: Codes) -> dict[str, Any]:
    """Values of the group scale that shapes tell; {} where the names are unknown."""
    shapes = {
        name: tuple((value.codes if isinstance(value, IntTensor) else value).shape)
        for name, value in codes.tensors.items()
    }
    layers = {name.split(".")[1] for name in shapes if name.startswith("blocks.")}
    needed = ("tok_emb.weight", "blocks.0.attn.c_k.weight", "blocks.0.mlp.fc.weight")
    if not layers or not all(len(shapes.get(name, ())) == 2 for name in needed):
        return {}
    vocab_size, dim = shapes[needed[0]]
    sizes: dict[str, Any] = {
        "vocab_size": vocab_size,
        "model_dim": dim,
        "num_layers": len(layers),
        "mlp_mult": shapes[needed[2]][0] / dim,
    }
    heads = shapes.get("blocks.0.attn.q_gain")
    if heads and heads[0]:
        sizes["num_heads"] = heads[0]
        sizes["num_kv_heads"] = shapes[needed[1]][0] * heads[0] // dim
    return sizes


def _expected(model: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    import torch

    with torch.device("meta"), Undrawn():
        built = instantiate(model, _convert_="all")
    return {name: tuple(value.shape) for name, value in built.state_dict().items()}


def _difference(found: dict[str, tuple[int, ...]], expected: dict[str, tuple[int, ...]]) -> str:
    for name, shape in expected.items():
        if name not in found:
            return f"{name} {list(shape)} is missing"
        if found[name] != shape:
            return f"{name} is {list(found[name])}, the model has {list(shape)}"
    strange = sorted(set(found) - set(expected))
    return f"the model has no {', '.join(strange[:5])}"


def named_tokenizer(config: Config, path: Path) -> Tokenizer:
    """A saved tokenizer's folder, or a SentencePiece .model of the configuration's kind.

    Raises:
        UserError: it is neither.
    """
    if path.is_dir():
        return open_tokenizer(path)
    if "path" not in config["tokenizer"]:
        raise UserError(f"{path}: this configuration's tokenizer has no model file")
    node = {**config["tokenizer"], "path": str(path), "vocab_size": vocab_size_of(str(path))}
    tokenizer: Tokenizer = instantiate(node)
    tokenizer.check()
    tokenizer.fit(())
    return tokenizer


def bit_widths(entries: list[Entry]) -> dict[str, int]:
    """How many tensors have codes of each width, or none."""
    counts: dict[str, int] = {}
    for entry in entries:
        key = "fp16" if entry.bits is None else f"int{entry.bits}"
        counts[key] = counts.get(key, 0) + 1
    return counts
