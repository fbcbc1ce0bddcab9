"""`quant=mixed_search`: just under the limit, better than equal widths, and honest about it."""

from __future__ import annotations

import tempfile
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from pgolf.artifact import write_artifact
from pgolf.codec.ans_codec import AnsCodec
from pgolf.distributed import World
from pgolf.errors import RunFailed, UserError
from pgolf.quant.codes import Codes, IntTensor
from pgolf.quant.gptq import GPTQQuantizer
from pgolf.quant.mixed_search import MixedSearchQuantizer, matrices_of
from pgolf.quant.sensitivity import Divergence
from tests.artifact_files import FAST, plain
from tests.quant.markov import CONFIG, learned, texts, trained, untrained
from tests.two_workers import run_in_two_workers

BATCHES = [texts(16, seed) for seed in range(9)]
LIMIT = 16_000


class Scale:
    """Real sizes by a codec, and what was asked."""

    def __init__(self, codec: Any) -> None:
        self.codec, self.answers = codec, list[int]()

    def __call__(self, codes: Codes) -> int:
        with tempfile.TemporaryDirectory() as folder:
            size = write_artifact(Path(folder), CONFIG, codes, self.codec, "f").file_bytes
        self.answers.append(size)
        return size


def search(scale: Scale, limit: int = LIMIT, **options: Any) -> Codes:
    quantizer = MixedSearchQuantizer(
        limit_bytes=limit, min_elements=64, calibration_batches=len(BATCHES), **options
    )
    return quantizer.quantize(trained(), iter(BATCHES), World(), scale)


def divergence(codes: Codes) -> float:
    """On text that the quantizer has not seen."""
    model = trained()
    measure = Divergence(model, [texts(16, seed) for seed in range(500, 508)], World())
    model.load_state_dict(codes.weights())
    return measure()


@pytest.mark.slow
def test_lands_just_under_the_limit() -> None:
    for limit in (10_000, LIMIT):
        scale = Scale(AnsCodec())
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # it has nothing to say
            codes = search(scale, limit)
        assert 0.999 * limit < scale(codes) <= limit
        assert len(scale.answers) <= 5


@pytest.mark.slow
@pytest.mark.parametrize("rounding", ["trellis", "gptq"])
def test_better_than_equal_widths_at_the_same_bytes(rounding: str) -> None:
    scale = Scale(AnsCodec())  # steps are chosen for an entropy coder
    quantizer = GPTQQuantizer(
        bits=6, embed_bits=8, clip_sigmas=12.85, embed_clip_sigmas=20.0, min_elements=64,
        calibration_batches=8,
    )  # fmt: skip
    fixed = quantizer.quantize(trained(), iter(BATCHES[1:]), World(), scale)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # 0.1% of so little is not always met
        codes = search(scale, scale(fixed), rounding=rounding)
    assert scale(codes) <= scale(fixed)
    assert divergence(codes) < 0.6 * divergence(fixed)


@pytest.fixture(scope="module")
def found() -> Codes:
    return search(Scale(AnsCodec()))


def test_losses_are_those_of_each_matrix_and_add_up(found: Codes) -> None:
    matrices = [name for name, value in found.tensors.items() if isinstance(value, IntTensor)]
    assert set(found.losses) == set(matrices) and len(matrices) == 19
    model = trained()
    measure = Divergence(model, BATCHES[:1], World())
    for name in matrices[:3]:
        model.load_state_dict({**learned(), **matrices_of(found, [name])})
        assert found.losses[name] == pytest.approx(measure(), rel=1e-6)
    model.load_state_dict(found.weights())
    assert sum(found.losses.values()) == pytest.approx(measure(), rel=0.3)


def test_codes_have_no_more_bits_than_they_need(found: Codes) -> None:
    for value in found.tensors.values():
        if isinstance(value, IntTensor):
            largest = int(value.codes.abs().max())
            assert value.bits == 2 or 2 ** (value.bits - 2) <= largest < 2 ** (value.bits - 1)


def test_the_model_keeps_its_weights() -> None:
    model = trained()
    quantizer = MixedSearchQuantizer(
        limit_bytes=LIMIT, min_elements=64, calibration_batches=2, states=64, weigh_batches=0
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        codes = quantizer.quantize(model, iter(BATCHES[:2]), World(), Scale(FAST))
    assert {v.states for v in codes.tensors.values() if isinstance(v, IntTensor)} == {64}
    assert all(torch.equal(value, learned()[name]) for name, value in model.state_dict().items())


def corrections(codes: Codes) -> int:
    values = codes.tensors.values()
    return sum(isinstance(value, IntTensor) and value.correction is not None for value in values)


@pytest.mark.parametrize(("options", "count"), [({"rank_candidates": 2}, 2), ({"rank": 0}, 0)])
def test_says_so_where_the_finest_steps_fit(options: dict[str, int], count: int) -> None:
    scale = Scale(FAST)
    with pytest.warns(UserWarning, match=r"bytes stay unused: .*the model could be larger"):
        codes = search(scale, 1_000_000, **options)
    assert len(scale.answers) == 1 and divergence(codes) < 1e-3
    assert corrections(codes) == count  # bytes are free, and no correction does harm


def test_sizes_that_jump_end_under_the_limit_all_the_same() -> None:
    class Blocks(Scale):
        """Of a file system."""

        def __call__(self, codes: Codes) -> int:
            return -(-super().__call__(codes) // 512) * 512

    with pytest.warns(UserWarning, match=r"[1-9]\d* of quant.limit_bytes=16,300 bytes stay unused"):
        codes = search(Blocks(FAST), 16_300, rounding="gptq", weigh_batches=0)
    assert Blocks(FAST)(codes) == 31 * 512


def test_fails_where_nothing_fits() -> None:
    scale = Scale(FAST)
    with pytest.raises(RunFailed, match=r"quant.limit_bytes=900: the smallest artifact"):
        search(scale, 900)
    assert len(scale.answers) < 4  # what is coarsest already is not tried again


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"limit_bytes": 0}, "quant.limit_bytes=0: expected 1 or more"),
        ({"weigh_batches": -1}, "quant.weigh_batches=-1: expected 0 to 2"),
        ({"weigh_batches": 3}, "quant.weigh_batches=3: .*calibration_batches=4"),
        ({"calibration_batches": 1}, "quant.calibration_batches=1: expected 2 or more"),
        ({"rounding": "gptq", "states": 16}, "quant.states=16, .*have no effect on rounding=gptq"),
        ({"probe_seqs": 0}, "quant.probe_seqs=0: expected 1 or more"),
        ({"rank": -1}, "quant.rank=-1, .*expected 0 or more"),
        ({"rank_candidates": -2}, "quant.rank_candidates=-2: expected 0 or more"),
        ({"penalty": -0.5}, "quant.penalty=-0.5: expected 0 or more"),
        ({"damping": -1.0}, "quant.damping=-1.0: expected 0 or more"),
        ({"min_elements": 0}, "quant.min_elements=0: expected a number above 0"),
    ],
)
def test_wrong_values_are_refused(options: dict[str, Any], message: str) -> None:
    values = {"limit_bytes": LIMIT, "min_elements": 64, "calibration_batches": 4, **options}
    with pytest.raises(UserError, match=message):
        MixedSearchQuantizer(**values)


def _shared(world: World, weights: dict[str, Tensor]) -> list[Any]:
    """Codes and losses; each rank has its share of every batch."""
    model = untrained()
    model.load_state_dict(weights)
    own = [ids_BT[world.rank :: world.world_size] for ids_BT in BATCHES[:3]]
    quantizer = MixedSearchQuantizer(limit_bytes=LIMIT, min_elements=64, calibration_batches=3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        codes = quantizer.quantize(model, iter(own), world, Scale(FAST))
    return [plain(codes), codes.losses]


@pytest.mark.slow
def test_ranks_agree_and_their_number_hardly_matters() -> None:
    codes, losses = _shared(World(), learned())
    first, second = run_in_two_workers(_shared, learned())
    assert first == second
    # Sums are in another order, and some codes are near a tie.
    assert first[1] == pytest.approx(losses, rel=0.02)
    assert [row[0] for row in first[0]] == [row[0] for row in codes]
