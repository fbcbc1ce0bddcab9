"""`codec=pergroup`: exact, never much above its best coder, and each array where it is smallest."""

from __future__ import annotations

import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pgolf.codec.ans_codec import AnsCodec
from pgolf.codec.arrange import ORDERS, arrange, restore
from pgolf.codec.brotli_codec import BrotliCodec
from pgolf.codec.pergroup_codec import CHOICE, CODERS, PLAN, PerGroupCodec
from pgolf.codec.pergroup_encoder import similar
from tests.codec.arrays import any_arrays, codes, same, specs


@given(arrays=any_arrays(), coders=st.sampled_from([None, ["ans"], ["zstd", "lzma"], ["brotli"]]))
@settings(max_examples=25, deadline=None)
def test_round_trip(arrays: list[np.ndarray], coders: list[str] | None) -> None:
    data, sizes = PerGroupCodec(coders=coders).encode_arrays(arrays)
    found, again = PerGroupCodec().decode_arrays(data, specs(arrays))
    assert same(found, arrays)
    assert len(sizes) == len(again) == len(arrays) and sum(sizes) <= len(data)


def choices(data: bytes, count: int) -> list[str]:
    """The coder of each array."""
    plan = zlib.decompress(data[PLAN.size : PLAN.size + PLAN.unpack_from(data)[0]])
    found = [CODERS[choice // len(ORDERS)] for choice, _ in CHOICE.iter_unpack(plan)]
    assert len(found) == count
    return found


def test_each_array_goes_where_it_is_smallest() -> None:
    random = np.random.default_rng(0)
    noise = codes("noise5", 100, 64, random)
    repeated = np.tile(codes("noise5", 1, 64, random), (200, 1))
    arrays = [noise, repeated]
    data, _ = PerGroupCodec(candidates=3).encode_arrays(arrays)
    found = choices(data, 2)
    assert found[0] == "ans" and found[1] != "ans"
    assert len(data) < 0.9 * len(AnsCodec().encode_arrays(arrays)[0])


def test_sorting_rows_helps_where_rows_come_in_kinds() -> None:
    random = np.random.default_rng(1)
    kinds = codes("noise6", 6, 128, random)
    array = kinds[random.integers(0, 6, 300)] + random.integers(0, 2, (300, 128), np.int8)
    order = similar(array)
    assert sorted(order) == list(range(300))
    near = np.abs(np.diff(array[order].astype(int), axis=0)).sum()
    assert near < 0.3 * np.abs(np.diff(array.astype(int), axis=0)).sum()
    size = {o: len(BrotliCodec().encode(arrange(array, o, order))) for o in ("columns", "sorted")}
    assert size["sorted"] < 0.9 * size["columns"]


@pytest.mark.parametrize("order", ORDERS)
def test_every_order_is_undone(order: str) -> None:
    array = codes("noise8", 30, 7, np.random.default_rng(2))
    data = arrange(array, order, np.random.default_rng(3).permutation(30))
    found = restore(data, order, array.shape, array.dtype)
    assert same([found], [array]) and found.flags.writeable
    with pytest.raises(ValueError):
        restore(data[:-1], order, array.shape, array.dtype)


def test_rows_numbered_twice_are_refused() -> None:
    array = codes("noise8", 4, 3, np.random.default_rng(2))
    data = bytearray(arrange(array, "sorted", np.arange(4)))
    data[0] = 1
    with pytest.raises(ValueError, match="permutation"):
        restore(bytes(data), "sorted", array.shape, array.dtype)
