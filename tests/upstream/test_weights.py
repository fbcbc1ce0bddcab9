"""Published weights: bit by bit what the file says, and nothing that a file could do to us."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import brotli
import pytest
import torch

from pgolf.errors import UserError
from pgolf.quant.codes import Codes, IntTensor
from pgolf.upstream import weights as reader
from pgolf.upstream.weights import read_weights
from tests.artifact_files import equal
from tests.upstream.published import content, saved, shuffled, some_codes, write

CODES = some_codes()


@pytest.mark.parametrize("packing", ["brotli", "xz"])
@pytest.mark.parametrize("stride", [None, 1, 2, 3, 8])
def test_codes_and_scales_are_kept_bit_by_bit(
    tmp_path: Path, packing: str, stride: int | None
) -> None:
    file = write(tmp_path / "x.int6.ptz", content(CODES), stride=stride, packing=packing)
    found = read_weights(file)
    assert equal(found.codes, CODES)
    assert (found.packing, found.rounded) == (packing, 0)


def test_a_state_dict_is_rounded_to_fp16_and_loses_its_wrappers_names(tmp_path: Path) -> None:
    plain = CODES.weights()
    state = {f"_orig_mod.{name}": value for name, value in plain.items()}
    state["_orig_mod.skip_weights"] = torch.full_like(plain["skip_weights"], 1.0 / 3.0)
    file = tmp_path / "final_model.pt"
    torch.save(state, file)
    found = read_weights(file)
    assert list(found.codes.tensors) == list(plain)
    value = found.codes.tensors["skip_weights"]
    assert isinstance(value, torch.Tensor) and value.dtype == torch.float16
    assert torch.equal(value, torch.full_like(value, 1.0 / 3.0))
    assert found.rounded >= 1 and found.packing == "none"


class Evil:
    """Pickled, it would make a folder."""

    def __init__(self, target: str) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (self.target,)


def test_no_code_of_a_file_runs(tmp_path: Path) -> None:
    target = tmp_path / "made"
    file = write(tmp_path / "x.ptz", {"w": Evil(str(target)), "m": {}})
    with pytest.raises(UserError, match=r"x\.ptz: no published weights"):
        read_weights(file)
    assert not target.exists()


def changed(**tensors: Any) -> dict[str, Any]:
    value = content(CODES)
    for name, tensor in tensors.items():
        value["w"][name.replace("__", ".")] = tensor
    return value


Q = "blocks__0__attn__c_q__weight__q"
SCALE = "blocks__0__attn__c_q__weight__scale"
CODE = CODES.tensors["blocks.0.attn.c_q.weight"]
assert isinstance(CODE, IntTensor)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (changed(**{Q: CODE.codes.clone().fill_(32)}), "codes beyond the 31 of 6 bits"),
        (changed(**{Q: CODE.codes.int()}), "codes are torch.int32"),
        (changed(**{SCALE: CODE.scales.float()}), "no fp16 number a row"),
        (changed(**{SCALE: CODE.scales[:-1]}), "no fp16 number a row"),
        (changed(**{SCALE: CODE.scales * 0}), "a scale is not above 0"),
        (changed(skip_weights=torch.full((3,), torch.nan)), "no finite weights"),
        (changed(extra=torch.ones(2)), "tensors that nothing describes: extra"),
        ({"w": {}, "m": {}}, "no tensors"),
        ({"w": {}, "m": {"a": "gptq (int6)"}}, "neither the tensor nor its codes"),
        ({"w": {"a": 3}, "m": {"a": "passthrough"}}, "not a tensor with a name"),
        ([1, 2], "holds a list"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, value: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_weights(write(tmp_path / "x.ptz", value))


def test_damage_is_named(tmp_path: Path) -> None:
    file = write(tmp_path / "x.ptz", content(CODES))
    data = file.read_bytes()
    for damaged in (data[:-10], data[: len(data) // 2], b"", b"hello", data[1:]):
        file.write_bytes(damaged)
        with pytest.raises(UserError, match="no published weights"):
            read_weights(file)
    file.write_bytes(brotli.compress(shuffled(saved({}), 2).replace(b"BSHF\x02", b"BSHF\x00")))
    with pytest.raises(UserError, match="stride 0"):
        read_weights(file)
    with pytest.raises(UserError, match=r"gone.pt: cannot be read"):
        read_weights(tmp_path / "gone.pt")


@pytest.mark.parametrize("packing", ["brotli", "xz"])
def test_a_bomb_does_not_go_off(
    tmp_path: Path, packing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write(tmp_path / "x.ptz", {"w": torch.zeros(3_000_000)}, packing=packing)
    assert file.stat().st_size < 10_000
    monkeypatch.setattr(reader, "MAX_BYTES", 1_000_000)
    with pytest.raises(UserError, match=r"1,000,000 bytes|Memory usage limit"):
        read_weights(file)


def test_a_view_without_end_does_not_grow(tmp_path: Path) -> None:
    huge = torch.zeros(1).expand(2**34)
    file = write(tmp_path / "x.ptz", {"w": {"a": huge}, "m": {"a": "passthrough"}})
    assert file.stat().st_size < 10_000
    with pytest.raises(UserError, match="tensors of 68,719,476,736 bytes"):
        read_weights(file)


def test_every_tensor_is_compared() -> None:
    other = dict(CODES.tensors)
    other["skip_weights"] = torch.zeros(1)
    assert not equal(Codes(other), CODES)
