"""`codec=ans`: exact on anything, near the entropy, below it where rows correlate, never wrong."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pgolf.codec.ans_codec import HEADER, MAX_COLUMNS, AnsCodec, sixteenths, width_of
from pgolf.shipped import CODE_FILE, write_code
from tests.codec.arrays import any_arrays, codes, correlated, entropy_bytes, same, specs
from tests.test_shipped import CONFIG


@given(arrays=any_arrays(), lanes=st.sampled_from([16, 40, 512]))
@settings(max_examples=40, deadline=None)
def test_round_trip(arrays: list[np.ndarray], lanes: int) -> None:
    data, sizes = AnsCodec(lanes=lanes).encode_arrays(arrays)
    found, again = AnsCodec().decode_arrays(data, specs(arrays))
    assert same(found, arrays)
    assert len(sizes) == len(again) == len(arrays) and sum(sizes) <= len(data)


def test_several_blocks_pools_and_directions_come_back() -> None:
    random = np.random.default_rng(0)
    arrays = []
    for _ in range(3):
        arrays += [correlated(200, 48, random), correlated(48, 150, random)]
        arrays += [random.normal(size=200).astype(np.float16), codes("noise6", 48, 48, random)]
    data, sizes = AnsCodec(lanes=32).encode_arrays(arrays)
    found, again = AnsCodec().decode_arrays(data, specs(arrays))
    assert same(found, arrays)
    # Both sides tell the same about who takes how much, up to what lanes hold at the time.
    assert sizes == pytest.approx(again, rel=0.05, abs=100)


@pytest.mark.parametrize("sigma", [0.3, 2.4, 20.0])
def test_gaussian_codes_take_their_entropy(sigma: float) -> None:
    values = np.random.default_rng(1).normal(size=(640, 512)) * sigma
    array = np.clip(np.rint(values), -127, 127).astype(np.int8)
    data, _ = AnsCodec().encode_arrays([array])
    # The states of 40 lanes, 200 bytes, are most of what it takes more.
    assert entropy_bytes(array) * 0.998 < len(data) - 200 < entropy_bytes(array) * 1.0005


def test_rows_that_correlate_take_less_than_their_entropy() -> None:
    random = np.random.default_rng(2)
    array = correlated(3000, 64, random, rank=16)
    data, _ = AnsCodec(lanes=128).encode_arrays([array])
    # The rate of a Gaussian source with this covariance (Cover and Thomas, section 8.4).
    sign, logdet = np.linalg.slogdet(np.cov(array.T.astype(float)))
    bound = 3000 * (64 * 0.5 * np.log2(2 * np.pi * np.e) + 0.5 * logdet / np.log(2)) / 8
    assert sign > 0 and bound * 0.99 < len(data) < 1.02 * bound < 0.87 * entropy_bytes(array)


def test_a_later_matrix_profits_from_an_earlier_one_transposed_or_not() -> None:
    random = np.random.default_rng(3)
    directions = random.normal(size=(16, 64))

    def matrix(rows: int) -> np.ndarray:
        noise = random.normal(size=(rows, 64)) * 2
        return np.rint(random.normal(size=(rows, 16)) @ directions + noise).astype(np.int8)

    first, second = matrix(1500), matrix(200)
    (before,), alone = AnsCodec().encode_arrays([first])[1], AnsCodec().encode_arrays([second])[1]
    for other in (second, np.ascontiguousarray(second.T)):
        sizes = AnsCodec().encode_arrays([first, other])[1]
        assert sizes[0] == before and sizes[1] < 0.96 * alone[0]


@pytest.mark.parametrize("kind", ["noise2", "noise5", "extremes", "constant"])
def test_codes_that_are_not_bell_shaped_take_their_entropy_too(kind: str) -> None:
    array = codes(kind, 200, 100, np.random.default_rng(8))
    data, _ = AnsCodec().encode_arrays([array])
    assert len(data) < 1.005 * entropy_bytes(array) + 190


def test_lanes_are_as_asked_for_unless_the_arrays_are_small() -> None:
    arrays = [np.zeros((1024, 512), np.int8)]
    lanes = [HEADER.unpack_from(AnsCodec(lanes=n).encode_arrays(arrays)[0])[0] for n in (32, 512)]
    assert lanes == [32, 1024 * 512 // 8192]


def test_damaged_data_never_give_other_values() -> None:
    random = np.random.default_rng(5)
    arrays = [correlated(40, 30, random), random.normal(size=90).astype(np.float16)]
    arrays.append(codes("outliers", 20, 9, random))
    data, _ = AnsCodec().encode_arrays(arrays)
    refused = 0
    for position in range(len(data)):
        damaged = bytearray(data)
        damaged[position] ^= 1 << position % 8
        try:
            found, _ = AnsCodec().decode_arrays(bytes(damaged), specs(arrays))
        except Exception:
            refused += 1
        else:
            assert same(found, arrays), position  # bits that nothing uses
    assert refused > 0.9 * len(data)
    for length in range(0, len(data), 7):
        with pytest.raises(Exception, match=r"."):
            AnsCodec().decode_arrays(data[:length], specs(arrays))


def test_values_that_differ_are_named_as_such() -> None:
    array = codes("noise5", 9, 9, np.random.default_rng(6))
    data = bytearray(AnsCodec().encode_arrays([array])[0])
    data[18] ^= 1  # of the checksum
    with pytest.raises(ValueError, match="differ from those encoded"):
        AnsCodec().decode_arrays(bytes(data), specs([array]))


def test_widths_divide_the_columns() -> None:
    for columns in (1, 7, 512, 1024, 1031, 2048, 8192):
        width = width_of(columns)
        assert columns % width == 0 and width <= MAX_COLUMNS
    assert (width_of(512), width_of(2048), width_of(1031)) == (512, 1024, 1)
    assert [int(sixteenths(v)) for v in (1.0, 4.0, 0.25, 2**0.125)] == [0, 16, -16, 1]


READ = """
import sys
from pathlib import Path
import numpy as np
from pgolf.codec.ans_codec import AnsCodec
arrays = np.load(sys.argv[1])
arrays = [arrays[name] for name in arrays.files]
data = Path(sys.argv[2]).read_bytes()
found, _ = AnsCodec().decode_arrays(data, [(a.shape, a.dtype) for a in arrays])
assert all(a.tobytes() == b.tobytes() for a, b in zip(arrays, found))
assert "torch" not in sys.modules and "pgolf.codec.ans_encoder" not in sys.modules
print(sys.modules["pgolf"].__file__)
"""


@pytest.mark.parametrize("machine", [{}, {"OPENBLAS_CORETYPE": "Prescott"}], ids=["same", "old"])
def test_the_shipped_code_reads_it_on_any_processor(machine: dict, tmp_path: Path) -> None:
    random = np.random.default_rng(7)
    arrays = [correlated(700, 96, random, rank=12), random.normal(size=300).astype(np.float16)]
    np.savez(tmp_path / "arrays.npz", *arrays)
    (tmp_path / "data").write_bytes(AnsCodec(lanes=64).encode_arrays(arrays)[0])
    write_code(tmp_path, CONFIG | {"codec": {"_target_": "pgolf.codec.ans_codec.AnsCodec"}})
    with zipfile.ZipFile(tmp_path / CODE_FILE) as archive:
        assert "pgolf/codec/ans_encoder.py" not in archive.namelist()
    # An old processor sums in another order, with other instructions.
    off = {"NPY_DISABLE_CPU_FEATURES": "AVX2 FMA3"} if machine else {}
    done = subprocess.run(
        [sys.executable, "-P", "-c", READ, "arrays.npz", "data"],
        env={**os.environ, "PYTHONPATH": str(tmp_path / CODE_FILE), **machine, **off},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0 and CODE_FILE in done.stdout, done.stderr
