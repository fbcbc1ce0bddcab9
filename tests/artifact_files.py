"""A small artifact to write in tests, and a way to compare codes."""

from __future__ import annotations

from dataclasses import replace
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


def rich_tensor(
    shape: tuple[int, ...],
    bits: int,
    seed: int,
    *,
    columns: bool = False,
    states: int = 0,
    rank: int = 0,
    factor_bits: int = 4,
    group_columns: int = 0,
) -> IntTensor:
    """Codes with scales of columns and of groups of them, of a trellis, with a correction."""
    plain = random_tensor(shape, bits, seed)
    assert isinstance(plain, IntTensor)
    exponents = (29 * torch.arange(shape[1]) + seed).to(torch.int8)  # all different up to 256
    correction = None
    if rank:
        sides = ((shape[0], rank), (rank, shape[1]))
        left, right = (random_tensor(side, factor_bits, seed + 1) for side in sides)
        assert isinstance(left, IntTensor) and isinstance(right, IntTensor)
        correction = left, right
    scales = plain.scales
    if group_columns:
        generator = torch.Generator().manual_seed(seed + 2)
        scales = torch.rand(shape[0], -(-shape[1] // group_columns), generator=generator).half()
    return replace(
        plain,
        scales=scales,
        group_columns=group_columns,
        column_exponents=exponents if columns else None,
        states=states,
        correction=correction,
    )


SOME_CODES = Codes(
    {
        "a.weight": random_tensor((5, 7), 6, 0),
        "b": random_tensor((3,), None, 1),
        "c.weight": random_tensor((4, 3), 8, 2),
        "d.weight": random_tensor((2, 9), 6, 3),
    }
)
RICH_CODES = Codes(
    {
        "a.weight": rich_tensor((5, 7), 6, 0, columns=True, states=8, rank=2),
        "b": random_tensor((3,), None, 1),
        "c.weight": rich_tensor((4, 3), 8, 2, rank=3, factor_bits=3),
        "d.weight": rich_tensor((2, 9), 4, 3, columns=True),
        "e.weight": rich_tensor((3, 4), 3, 4, states=32),
        "f.weight": rich_tensor((6, 9), 4, 3, columns=True, rank=1),  # as those of d
        "g.weight": rich_tensor((3, 8), 5, 5, group_columns=3),
    }
)


def equal(first: Codes, second: Codes) -> bool:
    return plain(first) == plain(second)


def plain(codes: Codes) -> list[tuple[Any, ...]]:
    """Names, values, dtypes and shapes in their order, comparable with ==."""
    rows: list[tuple[Any, ...]] = []
    for name, value in codes.tensors.items():
        parts = [value] if isinstance(value, torch.Tensor) else parts_of(value)
        rows.append((name, *[_comparable(part) for part in parts]))
    return rows


def parts_of(value: IntTensor) -> list[Any]:
    """All that it holds, factors of its correction included."""
    own = [value.codes, value.scales, value.bits, value.column_exponents, value.states]
    own.append(value.group_columns)
    return own + [part for factor in value.correction or () for part in parts_of(factor)]


def _comparable(part: Any) -> Any:
    if not isinstance(part, torch.Tensor):
        return part
    return part.tolist(), part.dtype, tuple(part.shape)


def write(folder: Path, codes: Codes = SOME_CODES, codec: Any = FAST, **config: Any) -> Path:
    write_artifact(folder, {**MODEL, **config}, codes, codec, "fingerprint")
    return folder / FILE
