"""`pgolf export`: an artifact's weights as safetensors, with a config.json and its tokenizer.

To load them: build the class that config.json names with its arguments, `load_state_dict` the
tensors, switch the recurrence on. The head is the embedding: there is no tensor of its own.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from pgolf.artifact import build_model, read_artifact
from pgolf.errors import UserError
from pgolf.files import sha256_file, write_json
from pgolf.new_folder import check_new, write_whole
from pgolf.opened import find_tokenizer, open_folder
from pgolf.quant.codes import to_fp16

WEIGHTS, CONFIG = "model.safetensors", "config.json"
DTYPES = {"fp32": torch.float32, "fp16": torch.float16}


def export(
    path: Path, folder: Path, *, dtype: str, tokenizer: Path | None = None
) -> dict[str, Any]:
    """Write the folder, whole or not at all; returns a summary.

    Args:
        path: a run, an imported folder or an artifact.
        folder: must not hold anything yet.
        dtype: "fp32" has the very weights that are scored, "fp16" rounds them.
        tokenizer: where the folder has none; without one none is exported.

    Raises:
        UserError: no artifact, or the folder is not empty.
    """
    check_new(folder)
    opened = open_folder(path)
    artifact = read_artifact(opened.artifact)
    model = build_model(artifact)  # as it is scored: an embedding in bf16 was rounded to that
    weights = {name: _cast(value, dtype) for name, value in model.state_dict().items()}
    try:
        reader = find_tokenizer(opened, artifact.tokenizer_fingerprint, tokenizer)
    except UserError:
        if tokenizer is not None:
            raise
        reader = None
    parameters = sum(value.numel() for value in weights.values())
    about = {
        "model": artifact.model_config,
        "recurrence": True,
        "dtype": dtype,
        "parameters": parameters,
        "tied_head": "tok_emb.weight",
        "tokenizer_fingerprint": artifact.tokenizer_fingerprint or None,
        "artifact": {"bytes": artifact.file_bytes, "sha256": sha256_file(artifact.file)},
    }

    def fill(work: Path) -> None:
        write_json(work / CONFIG, about)
        save_file(weights, work / WEIGHTS, metadata={"format": "pt"})
        # safetensors makes files that only their owner can read.
        shutil.copymode(work / CONFIG, work / WEIGHTS)
        if reader is not None:
            reader.save(work / "tokenizer")

    write_whole(folder, fill)
    return {
        "folder": str(folder),
        "dtype": dtype,
        "parameters": parameters,
        "bytes": (folder / WEIGHTS).stat().st_size,
        "tokenizer": "tokenizer/" if reader is not None else "not found: --tokenizer PATH",
    }


def _cast(value: Tensor, dtype: str) -> Tensor:
    # What fp16 cannot hold becomes its largest value, as everywhere in pgolf.
    cast = to_fp16(value) if dtype == "fp16" else value.detach().to(DTYPES[dtype])
    return cast.contiguous()
