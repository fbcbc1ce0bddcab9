"""What is exported loads into the same model and says the same."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from hydra.utils import instantiate
from safetensors.torch import load_file

from pgolf.artifact import build_model, read_artifact
from pgolf.errors import UserError
from pgolf.export import export
from pgolf.quant.codes import Codes
from pgolf.tokenizer.bytes import BytesTokenizer
from pgolf.tokenizer.store import open_tokenizer
from tests.artifact_files import FAST, MODEL, random_tensor
from tests.model.tiny import random_ids, tiny_recurrent

TOKENIZER = BytesTokenizer(vocab_size=264)
CONFIG = {**MODEL, "vocab_size": 264}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    from pgolf.artifact import write_artifact

    shapes = {k: tuple(v.shape) for k, v in tiny_recurrent(vocab_size=264).state_dict().items()}
    codes = Codes(
        {
            name: random_tensor(shape, 6 if name.endswith(".weight") else None, seed)
            for seed, (name, shape) in enumerate(shapes.items())
        }
    )
    (tmp_path / "run" / "artifact").mkdir(parents=True)
    write_artifact(tmp_path / "run" / "artifact", CONFIG, codes, FAST, TOKENIZER.fingerprint)
    TOKENIZER.save(tmp_path / "run" / "tokenizer")
    return tmp_path / "run"


@pytest.mark.parametrize("dtype", ["fp32", "fp16"])
def test_it_loads_again(folder: Path, tmp_path: Path, dtype: str) -> None:
    target = tmp_path / "exported"
    answer = export(folder, target, dtype=dtype)
    about = json.loads((target / "config.json").read_text())
    weights = load_file(target / "model.safetensors")
    assert {value.dtype for value in weights.values()} == {
        {"fp32": torch.float32, "fp16": torch.float16}[dtype]
    }
    modes = {(target / name).stat().st_mode for name in ("config.json", "model.safetensors")}
    assert len(modes) == 1  # whoever can read one can read the other
    assert sum(v.numel() for v in weights.values()) == about["parameters"] == answer["parameters"]
    model = instantiate(about["model"])
    model.load_state_dict({name: value.float() for name, value in weights.items()}, strict=True)
    model.recurrence(about["recurrence"])
    expected = build_model(read_artifact(folder / "artifact"))
    ids = random_ids(2, 12, vocab_size=264)
    with torch.no_grad():
        found, scored = model.logits(ids), expected.logits(ids)  # type: ignore[operator]
    if dtype == "fp32":
        assert torch.equal(found, scored)
    else:
        assert not torch.equal(found, scored)
        for name, value in expected.state_dict().items():
            torch.testing.assert_close(weights[name].float(), value, rtol=1e-3, atol=1e-6)
    assert open_tokenizer(target / "tokenizer").fingerprint == about["tokenizer_fingerprint"]


def test_a_folder_is_not_overwritten_and_a_tokenizer_not_invented(
    folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").touch()
    with pytest.raises(UserError, match="not empty"):
        export(folder, tmp_path / "full", dtype="fp32")
    answer = export(folder / "artifact" / "model.pgolf", tmp_path / "alone", dtype="fp32")
    assert "--tokenizer" in answer["tokenizer"]
    assert sorted(p.name for p in (tmp_path / "alone").iterdir()) == [
        "config.json",
        "model.safetensors",
    ]
    with pytest.raises(UserError, match="nowhere"):
        export(folder, tmp_path / "other", dtype="fp32", tokenizer=tmp_path / "nowhere")
    assert not (tmp_path / "other").exists()
