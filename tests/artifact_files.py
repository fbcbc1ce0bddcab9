"""A small artifact to write in tests, and a way to compare codes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from pgolf.artifact import FILE, write_artifact
from pgolf.codec.brotli_codec import BrotliCodec
from pgolf.quant.codes import Codes, IntTensor
from tests.model.tiny import RECURRENT, SIZES

MODEL: dict[str, Any] = {"_target_": "pgolf.model.recurrent.RecurrentGPT", **SIZES, **RECURRENT}
FAST = BrotliCodec(quality=1)


def random_tensor(shape: tuple[int, ...], bits: int | None, seed: int) -> IntTensor | torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    if bits is None:
        return torch.randn(shape, generator=generator).half()
    limit = 2 ** (bits - 1) - 1
    codes = torch.randint(-limit, limit + 1, shape, generator=generator, dtype=torch.int8)
    return IntTensor(codes, torch.rand(shape[0], generator=generator).half(), bits)


SOME_CODES = Codes(
    {
        "a.weight": random_tensor((5, 7), 6, 0),
        "b": random_tensor((3,), None, 1),
        "c.weight": random_tensor((4, 3), 8, 2),
        "d.weight": random_tensor((2, 9), 6, 3),
    }
)


def equal(first: Codes, second: Codes) -> bool:
    return plain(first) == plain(second)


def plain(codes: Codes) -> list[tuple[Any, ...]]:
    """Names, values, dtypes and shapes in their order, comparable with ==."""
    rows: list[tuple[Any, ...]] = []
    for name, value in codes.tensors.items():
        is_int = isinstance(value, IntTensor)
        parts = [value.codes, value.scales] if is_int else [value]
        bits = value.bits if is_int else None
        rows.append((name, bits, *[(p.tolist(), p.dtype, tuple(p.shape)) for p in parts]))
    return rows


def write(folder: Path, codes: Codes = SOME_CODES, codec: Any = FAST, **config: Any) -> Path:
    write_artifact(folder, {**MODEL, **config}, codes, codec, "fingerprint")
    return folder / FILE
