"""Every codec of conf/codec gives back what it was given, and is made for codes."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hydra.utils import instantiate
from hypothesis import given, settings
from hypothesis import strategies as st

from pgolf.codec.ans_codec import AnsCodec
from pgolf.codec.brotli_codec import BrotliCodec
from pgolf.codec.lzma_codec import LzmaCodec
from pgolf.codec.pergroup_codec import PerGroupCodec
from pgolf.codec.zstd_codec import ZstdCodec
from pgolf.errors import UserError
from pgolf.protocols import ArrayCodec

OPTIONS = sorted((Path(__file__).resolve().parents[2] / "conf" / "codec").glob("*.yaml"))


def build(option: Path) -> Any:
    return instantiate(yaml.safe_load(option.read_text(encoding="utf-8")))


BYTE_OPTIONS = [option for option in OPTIONS if not isinstance(build(option), ArrayCodec)]


@pytest.mark.parametrize("option", BYTE_OPTIONS, ids=lambda option: option.stem)
@given(data=st.binary(max_size=3000), repeats=st.integers(1, 3))
@settings(max_examples=15, deadline=None)
def test_round_trip_with_a_decoder_of_default_arguments(
    option: Path, data: bytes, repeats: int
) -> None:
    codec = build(option)
    reader = type(codec)()
    encoded, size = codec.encode(data * repeats), len(data * repeats)
    assert reader.decode(encoded, size) == data * repeats


@pytest.mark.parametrize("option", BYTE_OPTIONS, ids=lambda option: option.stem)
def test_no_more_is_decoded_than_there_has_to_be(option: Path) -> None:
    codec = build(option)
    bomb = codec.encode(bytes(30_000_000))
    try:
        found = codec.decode(bomb, 1000)
    except ValueError:
        return
    assert 1000 < len(found) < 100_000


@pytest.mark.parametrize("option", BYTE_OPTIONS, ids=lambda option: option.stem)
def test_data_that_are_cut_off_are_refused_or_short(option: Path) -> None:
    codec, data = build(option), random.Random(0).randbytes(5000)
    try:
        found = codec.decode(codec.encode(data)[:-20], len(data))
    except ValueError:
        return
    assert len(found) < len(data)


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.stem)
def test_gaussian_codes_shrink_to_near_their_entropy(option: Path) -> None:
    generator = random.Random(0)
    codes = [round(generator.gauss(0, 31 / 12.85)) for _ in range(50_000)]
    # Differential entropy of a Gaussian on a grid of step 1: log2(sigma sqrt(2 pi e)) = 3.32 bits.
    entropy_bytes = 50_000 * 3.32 / 8
    codec = build(option)
    if isinstance(codec, ArrayCodec):
        data, _ = codec.encode_arrays([np.array(codes, np.int8).reshape(250, 200)])
    else:
        data = codec.encode(bytes(32 + code for code in codes))
    assert entropy_bytes < len(data) < 1.1 * entropy_bytes


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.stem)
def test_an_option_is_named_as_its_class_says(option: Path) -> None:
    assert build(option).name == option.stem


def test_settings_reach_the_library() -> None:
    data = b"".join(bytes([i % 251, i * i % 13, 7]) for i in range(4000))
    fast, small = BrotliCodec(quality=0), BrotliCodec(quality=11)
    assert len(small.encode(data)) < len(fast.encode(data))
    assert LzmaCodec(preset=0, extreme=False).encode(data) != LzmaCodec(preset=9).encode(data)
    assert ZstdCodec(level=1).encode(data) != ZstdCodec(level=22).encode(data)
    assert BrotliCodec(lgwin=10).encode(data) != BrotliCodec(lgwin=24).encode(data)


def test_values_outside_their_range_are_refused() -> None:
    with pytest.raises(UserError, match=r"codec\.quality=12"):
        BrotliCodec(quality=12)
    with pytest.raises(UserError, match=r"codec\.lgwin=9"):
        BrotliCodec(lgwin=9)
    with pytest.raises(UserError, match=r"codec\.preset=10"):
        LzmaCodec(preset=10)
    with pytest.raises(UserError, match=r"codec\.level=23"):
        ZstdCodec(level=23)
    with pytest.raises(UserError, match=r"codec\.lanes=8"):
        AnsCodec(lanes=8)
    with pytest.raises(UserError, match=r"codec\.coders=\['zip'\].*brotli, lzma, zstd, ans"):
        PerGroupCodec(coders=["zip"])
    with pytest.raises(UserError, match=r"codec\.candidates=0"):
        PerGroupCodec(candidates=0)
