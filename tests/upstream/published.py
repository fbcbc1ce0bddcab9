"""Files as the published scripts write them, made from a tiny model with known codes."""

from __future__ import annotations

import io
import lzma
from pathlib import Path
from typing import Any

import brotli
import torch
from torch import Tensor

from pgolf.quant.codes import Codes, IntTensor
from tests.artifact_files import random_tensor

# What `debug=cpu` makes of the record recipe, with the vocabulary of bytes.
OVERRIDES = ["debug=cpu", "tokenizer=bytes", "scale.vocab_size=264"]


def shapes(overrides: list[str]) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the model of experiment=v15 with overrides."""
    from hydra.utils import instantiate

    from pgolf.config import compose

    config = compose(["experiment=v15", "hardware=auto", *overrides])
    with torch.device("meta"):
        model = instantiate(config["model"], _convert_="all")
    return {name: tuple(value.shape) for name, value in model.state_dict().items()}


def some_codes(overrides: list[str] = OVERRIDES) -> Codes:
    """int6 matrices, an int8 embedding, the rest fp16; small enough for sensible logits."""
    tensors: dict[str, IntTensor | Tensor] = {}
    for seed, (name, shape) in enumerate(shapes(overrides).items()):
        if len(shape) == 2 and name.endswith(".weight"):
            value = random_tensor(shape, 8 if name.startswith("tok_emb") else 6, seed)
            assert isinstance(value, IntTensor)
            tensors[name] = IntTensor(value.codes, (value.scales * 0.01 + 1e-4).half(), value.bits)
        else:
            plain = random_tensor(shape, None, seed)
            assert isinstance(plain, Tensor)
            tensors[name] = plain
    return Codes(tensors)


def content(codes: Codes) -> dict[str, Any]:
    """{"w", "m"} of a quantized file."""
    weights: dict[str, Tensor] = {}
    kinds: dict[str, str] = {}
    for name, value in codes.tensors.items():
        if isinstance(value, IntTensor):
            weights[f"{name}.q"], weights[f"{name}.scale"] = value.codes, value.scales
            kinds[name] = f"gptq (int{value.bits})"
        else:
            weights[name], kinds[name] = value, "passthrough (float16)"
    return {"w": weights, "m": kinds}


def saved(value: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def shuffled(data: bytes, stride: int) -> bytes:
    """The mark, the stride, and every stride-th byte together."""
    return b"BSHF" + bytes([stride]) + b"".join(data[start::stride] for start in range(stride))


def write(path: Path, value: Any, *, stride: int | None = 2, packing: str = "brotli") -> Path:
    data = saved(value)
    if stride is not None:
        data = shuffled(data, stride)
    packed = brotli.compress(data, quality=1) if packing == "brotli" else lzma.compress(data)
    path.write_bytes(packed)
    return path
