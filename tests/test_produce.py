"""What stages of the produce job hand to their parts: text to learn from, sizes to choose by."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from pgolf.artifact import read_artifact
from pgolf.context import Context
from pgolf.data.stream import TokenStream
from pgolf.distributed import World
from pgolf.errors import UserError
from pgolf.produce import Parts, last_tokens, save_weights
from pgolf.quant.codes import Codes
from pgolf.quant.none import NoQuantizer
from tests.artifact_files import MODEL
from tests.model.tiny import tiny_recurrent


def shards(*lengths: int) -> list[TokenStream]:
    """Every token is its own position."""
    cuts = np.cumsum((0, *lengths)).tolist()
    pairs = itertools.pairwise(cuts)
    return [TokenStream(np.arange(first, last, dtype=np.uint16)) for first, last in pairs]


@pytest.mark.parametrize("count", [1, 6, 7, 8, 12, 13, 27])
def test_the_last_tokens_are_those_of_all_shards_in_order(count: int) -> None:
    found = last_tokens(shards(15, 5, 7), count)
    assert found.ids.tolist() == list(range(27 - count, 27))


def test_too_little_training_text_is_refused() -> None:
    with pytest.raises(UserError, match=r"has \(28\), but there are only 27"):
        last_tokens(shards(15, 5, 7), 28)


def test_weights_in_a_cache_are_readable_as_other_files(tmp_path: Path) -> None:
    path, other = tmp_path / "ema.safetensors", tmp_path / "other"
    weights = {"a": torch.arange(6.0).view(2, 3).T, "b": torch.tensor([1, 2]).bfloat16()}
    save_weights(weights, path)
    other.write_text("")
    assert path.stat().st_mode == other.stat().st_mode
    found = load_file(path)
    assert found.keys() == weights.keys()
    assert all(torch.equal(found[name], value) for name, value in weights.items())
    assert {p.name for p in tmp_path.iterdir()} == {path.name, other.name}


def test_source_train_is_given_no_validation_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Locked(TokenStream):
        """Validation text of which only the length is known."""

        def __init__(self) -> None: ...

        num_tokens = 9  # type: ignore[assignment]

    job = {"run_folder": str(tmp_path), "cache": str(tmp_path), "limits": {}, "config": {},
           "data_folder": str(tmp_path)}  # fmt: skip
    parts = Parts(Context(job, World()))
    locked = parts.validation = Locked()
    monkeypatch.setattr(TokenStream, "open_training", lambda folder: shards(15, 5, 7))
    assert parts.adaptation_text("train").ids.tolist() == list(range(18, 27))
    assert parts.adaptation_text("validation") is locked


class AskingQuantizer:
    """Asks for the size of what it will give, and of less, before or after that."""

    calibration_batches = 0
    answers: tuple[int, int] = (0, 0)

    def __init__(self, *, last_is_best: bool) -> None:
        self.last_is_best = last_is_best

    def quantize(
        self,
        model: nn.Module,
        batches: Iterable[Tensor],
        world: World,
        size_of: Callable[[Codes], int],
    ) -> Codes:
        assert not list(batches)
        codes = NoQuantizer().quantize(model, batches, world, size_of)
        zeros = Codes({name: value * 0 for name, value in codes.tensors.items()})
        if self.last_is_best:
            AskingQuantizer.answers = (size_of(zeros), size_of(codes))
        else:
            AskingQuantizer.answers = (size_of(codes), size_of(zeros))[::-1]
        return codes


@pytest.mark.parametrize("last_is_best", [True, False])
def test_a_quantizer_is_told_the_bytes_of_the_folder_that_it_leads_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, last_is_best: bool
) -> None:
    config: dict[str, Any] = {
        "model": MODEL,
        "quant": {
            "_target_": "tests.test_produce.AskingQuantizer",
            "last_is_best": last_is_best,
        },
        "codec": {"_target_": "pgolf.codec.zstd_codec.ZstdCodec"},
        "eval": {"_target_": "pgolf.eval.standard.StandardEvaluator"},
        "ttt": {"_target_": "pgolf.ttt.none.NoTTT"},
        "limits": {"artifact_bytes": 16_000_000},
    }
    job = {"run_folder": str(tmp_path), "cache": str(tmp_path), "limits": {}, "config": config,
           "data_folder": str(tmp_path), "tokenizer_fingerprint": "f"}  # fmt: skip
    parts = Parts(Context(job, World()))
    monkeypatch.setattr(parts, "load", lambda stage, file: tiny_recurrent())
    work = tmp_path / "work"
    work.mkdir()
    info = parts.pack(work)
    sizes = {path.name: path.stat().st_size for path in (work / "artifact").iterdir()}
    assert sizes == {"model.pgolf": info["model_bytes"], "code.zip": info["code_bytes"]}
    less, size = AskingQuantizer.answers
    assert size == sum(sizes.values()) and info["code_bytes"] < less < size
    assert not [path for path in work.rglob("*") if path.is_file() and "artifact" not in str(path)]
    shipped = read_artifact(work / "artifact").codes.weights()
    assert any(value.any() for value in shipped.values())
    assert info["tensors"]
