"""Scales of groups of columns: where they come from, GPTQ with them, and what they are worth."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from pgolf.artifact import read_artifact, write_artifact
from pgolf.census import tensor_rows
from pgolf.codec.ans_codec import AnsCodec
from pgolf.codec.pergroup_codec import PerGroupCodec
from pgolf.distributed import World
from pgolf.quant.codes import Codes, IntTensor
from pgolf.quant.custom import CustomQuantizer
from pgolf.quant.rounding import code_bits
from tests.artifact_files import FAST, MODEL, equal
from tests.model.tiny import random_ids, tiny_recurrent
from tests.quant.made import output_error, problem, quantized, unasked

GRIDS = ["absmax", "sdclip", "search"]


def stepped(rows: int, columns: int, width: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """A matrix whose blocks of `width` columns differ in size, and a Hessian."""
    weight, hessian = problem(rows, columns, seed)
    sizes = torch.tensor([1.0, 0.02, 5.0, 0.3]).repeat(columns)[: -(-columns // width)]
    return weight * sizes.repeat_interleave(width)[:columns], hessian


def spread(found: IntTensor, columns: int) -> np.ndarray:
    """The scale of each weight, float64."""
    scales = found.scales.double().numpy()
    return np.stack([scales[:, c // found.group_columns] for c in range(columns)], axis=1)


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("rounding", ["nearest", "gptq"])
def test_a_group_has_the_scale_of_a_matrix_of_its_own(grid: str, rounding: str) -> None:
    weight, hessian = problem(9, 40, seed=0)
    # Without correlations what a column costs is its own matter, whatever is beside it.
    hessian = torch.diag(hessian.diagonal())
    keys: dict[str, Any] = {"bits": 4, "grid": grid, "damping": 0.0, "clip_sigmas": 4.0}
    found = quantized(weight, hessian, group_columns=12, rounding=rounding, **keys)
    assert found.scales.shape == (9, 4) and found.scales.dtype == torch.float16
    for index, columns in enumerate(torch.arange(40).split(12)):
        alone = quantized(weight[:, columns], hessian[columns][:, columns], **keys)
        assert torch.equal(found.scales[:, index], alone.scales)
        assert torch.equal(found.codes[:, columns], alone.codes)


@pytest.mark.parametrize("columns", [24, 25, 31])
@pytest.mark.parametrize("symmetric", [True, False])
def test_nearest_codes_are_nearest(columns: int, symmetric: bool) -> None:
    weight, _ = stepped(7, columns, 8)
    found = quantized(
        weight, None, bits=5, grid="absmax", rounding="nearest", group_columns=8,
        symmetric=symmetric,
    )  # fmt: skip
    steps = spread(found, columns)
    error = np.abs(found.dequantize().double().numpy() - weight.double().numpy())
    # The last code lies within half a step of fp16 of the largest weight.
    assert (error <= (0.5 + 15 * 2.0**-10) * steps + 1e-6).all()


def by_definition(
    weight: np.ndarray, hessian: np.ndarray, steps: np.ndarray, bits: int, penalty: float | None
) -> np.ndarray:
    """GPTQ by elimination a column at a time; with a penalty by entropy, too."""
    limit, columns = 2 ** (bits - 1) - 1, len(hessian)
    order = np.argsort(-hessian.diagonal(), kind="stable")
    damped = hessian + 0.01 * hessian.trace() / columns * np.eye(columns)
    inverse, left = np.linalg.inv(damped), weight.copy()
    codes, pivots = np.zeros_like(weight), np.zeros(columns)
    eliminated = inverse.copy()
    for column in order:
        pivots[column] = eliminated[column, column]
        eliminated -= np.outer(eliminated[column], eliminated[column]) / pivots[column]
    log = 2 * np.log(steps) - np.log(pivots)
    importance = np.exp(log - log.mean())
    deviation = torch.from_numpy(np.sqrt(np.square(weight / steps).mean(axis=1)))
    choices = np.arange(-limit, limit + 1)
    cost = np.stack([code_bits(torch.tensor(float(k)), deviation).numpy() for k in choices], axis=1)
    for column in order:
        unit = left[:, column] / steps[:, column]
        if penalty is None:
            codes[:, column] = np.clip(np.round(unit), -limit, limit)
        else:
            around = np.clip(np.floor(unit)[:, None] + [-1, 0, 1, 2], -limit, limit)
            far = (choices[:, None] != around[:, None]).all(axis=2)
            error = np.square(unit[:, None] - choices) * importance[:, column, None]
            error[far] = np.inf  # a code far from the weight is not considered
            codes[:, column] = choices[(error + penalty * cost).argmin(axis=1)]
        error = (left[:, column] - codes[:, column] * steps[:, column]) / inverse[column, column]
        left -= np.outer(error, inverse[column])
        inverse -= np.outer(inverse[column], inverse[column]) / inverse[column, column]
    return codes


@pytest.mark.parametrize("penalty", [None, 0.1])
@pytest.mark.parametrize("block", [5, 64])
@pytest.mark.parametrize(("group", "seed"), [(1, 0), (8, 0), (8, 1), (15, 2)])
def test_sweeps_equal_the_definition(
    penalty: float | None, block: int, group: int, seed: int
) -> None:
    weight, hessian = stepped(6, 40, 10, seed)
    rounding = {"rounding": "gptq"} if penalty is None else {"rounding": "entropy"}
    found = quantized(
        weight, hessian, bits=4, grid="absmax", group_columns=group, block_size=block,
        penalty=penalty or 0.0, **rounding,
    )  # fmt: skip
    expected = by_definition(
        weight.double().numpy(), hessian.double().numpy(), spread(found, 40), 4, penalty
    )
    np.testing.assert_array_equal(found.codes.numpy(), expected)


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("rounding", ["nearest", "gptq", "entropy"])
@pytest.mark.parametrize("columns", ["none", "water"])
def test_errors_are_smaller_where_scales_differ_along_a_row(
    grid: str, rounding: str, columns: str
) -> None:
    weight, hessian = stepped(32, 64, 16)
    keys: dict[str, Any] = {"bits": 4, "grid": grid, "rounding": rounding, "columns": columns}

    def least(group: int) -> float:
        """Of the ends of a grid that suit a whole row, and those that suit a group."""
        found = [
            quantized(weight, hessian, group_columns=group, clip_sigmas=end, **keys)
            for end in ((1.5, 2.0, 2.5, 3.0, 4.0) if grid == "sdclip" else (1.0,))
        ]
        return min(output_error(weight, value, hessian) for value in found)

    assert least(16) < 0.85 * least(0)


@pytest.mark.parametrize("group", [24, 25, 10**9])
def test_a_group_as_wide_as_the_row_is_the_row(group: int) -> None:
    weight, hessian = problem(8, 24, seed=0)
    found, plain = (quantized(weight, hessian, bits=4, group_columns=g) for g in (group, 0))
    assert found.group_columns == 0 and torch.equal(found.scales, plain.scales)
    assert torch.equal(found.codes, plain.codes)


def test_columns_without_input_and_constant_groups_stay_finite() -> None:
    weight, hessian = problem(8, 24, seed=1)
    weight[:, 6:12], weight[2, 12:18], weight[3] = 0.0, 0.7, 3e30
    hessian[:6], hessian[:, :6] = 0.0, 0.0
    for grid in GRIDS:
        found = quantized(weight, hessian, bits=4, grid=grid, group_columns=6)
        assert found.dequantize().isfinite().all() and (found.scales > 0).all()
        assert not found.codes[:, :6].any()


def test_a_correction_fits_what_groups_have_left() -> None:
    weight, hessian = stepped(24, 48, 16)
    plain = quantized(weight, hessian, bits=3, group_columns=16)
    found = quantized(weight, hessian, bits=3, group_columns=16, rank=3)
    assert found.correction is not None and found.group_columns == 16
    assert output_error(weight, found, hessian) < output_error(weight, plain, hessian)


@pytest.mark.parametrize("codec", [FAST, AnsCodec(), PerGroupCodec()], ids=lambda c: c.name)
def test_scales_take_no_more_than_they_are(codec: Any, tmp_path: Path) -> None:
    weight, _ = stepped(256, 200, 64)
    keys: dict[str, Any] = {"grid": "absmax", "rounding": "nearest", "group_columns": 32}
    codes = Codes({"a": quantized(weight, None, bits=3, **keys)})
    written = write_artifact(tmp_path, MODEL, codes, codec, "f")
    read = read_artifact(tmp_path)
    assert equal(read.codes, codes)
    assert torch.equal(read.codes.weights()["a"], codes.weights()["a"])
    scale_bytes = 2 * 256 * 7
    assert tensor_rows(read)[0]["raw_bytes"] == 256 * 200 * 3 // 8 + scale_bytes
    if written.array_bytes is not None:
        assert 0 < written.array_bytes[1] < 0.8 * scale_bytes


def test_a_whole_model_with_groups_survives_its_artifact(tmp_path: Path) -> None:
    model, ids = tiny_recurrent(), random_ids(8, 16)
    model.recurrence(True)
    rules = [{"pattern": "tok_emb.weight", "bits": 8, "grid": "absmax", "group_columns": 8},
             {"pattern": "*.weight", "bits": 5, "grid": "search", "group_columns": 6}]  # fmt: skip
    quantizer = CustomQuantizer(rules=rules, calibration_batches=1)
    codes = quantizer.quantize(model, iter([ids]), World(), unasked)
    groups = {n: v.group_columns for n, v in codes.tensors.items() if isinstance(v, IntTensor)}
    assert groups["tok_emb.weight"] == 8 and set(groups.values()) == {6, 8}
    write_artifact(tmp_path, MODEL, codes, AnsCodec(), "f")
    assert equal(read_artifact(tmp_path).codes, codes)
    for name, weight in model.state_dict().items():
        assert (codes.weights()[name] - weight).norm() < 0.1 * weight.norm(), name
