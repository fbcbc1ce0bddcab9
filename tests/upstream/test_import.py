"""Published weights become a folder that evaluates, speaks and is exported."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pgolf.artifact import build_model, read_artifact
from pgolf.cli import main
from pgolf.data.shards import shard_writer
from pgolf.errors import UserError
from pgolf.evaluate_folder import evaluate_on
from pgolf.opened import find_tokenizer, open_folder
from pgolf.tokenizer.bytes import BytesTokenizer
from pgolf.upstream.import_weights import import_weights, sizes_of
from pgolf.upstream.weights import read_weights
from tests.artifact_files import equal
from tests.integration.command import Workspace
from tests.reference import require_reference
from tests.upstream.published import OVERRIDES, content, some_codes, write

CODES = some_codes()
TEXTS = [
    "A small text about a model.",
    "Another one, näive and short.",
    "The end of all texts. " * 9,
]


@pytest.fixture
def tokenizer(tmp_path: Path) -> Path:
    BytesTokenizer(vocab_size=264).save(tmp_path / "bytes")
    return tmp_path / "bytes"


@pytest.fixture
def imported(tmp_path: Path, tokenizer: Path) -> Path:
    file = write(tmp_path / "final_model.int6.ptz", content(CODES))
    import_weights(
        file, tmp_path / "imported", experiment="v15", overrides=OVERRIDES, tokenizer=tokenizer
    )
    return tmp_path / "imported"


def shards(folder: Path, tokenizer: Any) -> Path:
    """Published validation shards of `TEXTS`, without training text."""
    folder.mkdir()
    encoded = [tokenizer.encode(text) for text in TEXTS]
    ids, raw = (np.concatenate([pair[i] for pair in encoded]) for i in (0, 1))
    if ids[0] != tokenizer.bos_id:
        parts = [np.concatenate(([tokenizer.bos_id], pair[0])) for pair in encoded]
        counts = [np.concatenate(([0], pair[1])) for pair in encoded]
        ids, raw = np.concatenate(parts), np.concatenate(counts)
    for name, values in (("val", ids), ("val_bytes", raw)):
        with shard_writer(folder / f"fineweb_{name}_000000.bin") as writer:
            writer.append(values.astype(np.uint16))
    return folder


def test_codes_are_kept(imported: Path) -> None:
    artifact = read_artifact(imported / "artifact")
    assert equal(artifact.codes, CODES)
    build_model(artifact)
    about = json.loads((imported / "imported.json").read_text())
    assert about["file"].endswith("final_model.int6.ptz") and about["rounded_to_fp16"] == 0
    reader = find_tokenizer(open_folder(imported), artifact.tokenizer_fingerprint, None)
    assert reader.bos_id == 256


def test_sizes_are_those_of_the_tensors() -> None:
    assert sizes_of(CODES) == {
        "vocab_size": 264, "model_dim": 32, "num_layers": 4, "mlp_mult": 4.0, "num_heads": 4,
        "num_kv_heads": 2,
    }  # fmt: skip


def test_a_state_dict_is_imported_as_well(tmp_path: Path) -> None:
    torch.save(CODES.weights(), tmp_path / "final_model.pt")
    answer = import_weights(
        tmp_path / "final_model.pt", tmp_path / "folder", experiment="v15", overrides=OVERRIDES,
        tokenizer=None,
    )  # fmt: skip
    assert (
        answer["matrices"] == {"fp16": len(CODES.tensors)} and "--tokenizer" in answer["tokenizer"]
    )


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ([*OVERRIDES, "scale.num_loops=0"], r"skip_weights is \[\d, 32\], the model has"),
        ([*OVERRIDES, "model.skip_gates=false"], "the model has no skip_gates"),
        ([*OVERRIDES, "model=baseline"], "the model has no"),
        ([*OVERRIDES, "model.nothing=1"], "model.nothing|Could not override"),
    ],
)
def test_another_model_is_refused_by_name(
    tmp_path: Path, overrides: list[str], message: str
) -> None:
    file = write(tmp_path / "x.ptz", content(CODES))
    with pytest.raises(UserError, match=message):
        import_weights(file, tmp_path / "f", experiment="v15", overrides=overrides, tokenizer=None)
    assert not (tmp_path / "f").exists()


@pytest.mark.slow
def test_it_evaluates_on_shards_and_speaks(imported: Path, tokenizer: Path, tmp_path: Path) -> None:
    """In fresh workers, from the shipped code; the loss is what the model says here."""
    reader = BytesTokenizer(vocab_size=264)
    data = shards(tmp_path / "shards", reader)
    settings = ["hardware.device=cpu", "eval.stride=64"]
    found = evaluate_on(imported, data, settings, tmp_path / "cache")
    model = build_model(read_artifact(imported / "artifact"))
    ids = torch.from_numpy(np.fromfile(data / "fineweb_val_000000.bin", "<u2")[512:].astype(int))
    nats = 0.0
    with torch.no_grad():
        for start in range(0, len(ids) - 1, 64):
            part = ids[start : start + 65][None]
            nats += float(model.nll(part[:, :-1], part[:, 1:]).double().sum())  # type: ignore[operator]
    raw = sum(len(text.encode()) for text in TEXTS)
    assert found["standard"]["bpb"] == pytest.approx(nats / math.log(2) / raw, rel=1e-6)
    assert found["tokens"] == len(ids) - 1 and found["bytes"] == raw
    alone = evaluate_on(imported / "artifact", data, settings, tmp_path / "cache", tokenizer)
    assert alone["standard"] == found["standard"]

    workspace = Workspace(tmp_path)
    said = workspace.answer("generate", imported, "A", "--tokens", "5", "--device", "cpu")
    assert 0 < said["tokens"] <= 5
    out = workspace.answer("export", imported, "-o", tmp_path / "exported", "--dtype", "fp16")
    assert out["parameters"] == sum(v.numel() for v in model.state_dict().values())


def test_shards_of_another_tokenizer_are_refused(imported: Path, tmp_path: Path) -> None:
    data = shards(tmp_path / "shards", BytesTokenizer(vocab_size=264))
    (data / "fineweb_val_bytes_000000.bin").unlink()
    with pytest.raises(UserError, match="no byte sidecar"):
        evaluate_on(imported, data, [], tmp_path / "cache")
    with pytest.raises(UserError, match="no validation shards"):
        evaluate_on(imported, imported, [], tmp_path / "cache")
    other = shards(tmp_path / "other", BytesTokenizer(vocab_size=264))
    with shard_writer(other / "fineweb_val_000000.bin") as writer:
        writer.append(np.full(len(b"".join(t.encode() for t in TEXTS)) + 3, 300, np.uint16))
    with pytest.raises(UserError, match=r"tokenizer\.path|BOS"):
        evaluate_on(imported, other, [], tmp_path / "cache")


def test_an_artifact_alone_asks_for_shards(
    imported: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for place in (imported, imported / "artifact", imported / "artifact" / "model.pgolf"):
        assert main(["evaluate", str(place)]) == 2
        assert "--data SHARDS" in capsys.readouterr().err


def test_a_tokenizer_of_another_size_is_refused(tmp_path: Path) -> None:
    overrides = ["debug=cpu", "tokenizer=sp"]
    file = write(tmp_path / "x.ptz", content(some_codes(overrides)))
    model = require_reference() / "tokenizers" / "fineweb_1024_bpe.model"
    with pytest.raises(UserError, match=r"has 1024 ids, the model in .* 512"):
        import_weights(file, tmp_path / "f", experiment="v15", overrides=overrides, tokenizer=model)


@pytest.mark.slow
def test_the_published_artifact_speaks_english(tmp_path: Path) -> None:
    """The real file: names, shapes and parameters are V15's, and its loss is a language model's."""
    from hydra.utils import instantiate

    from pgolf.upstream.import_weights import configured

    folder = require_reference()
    file = folder / "data" / "v15_h100.int6.ptz"
    if not file.is_file():
        pytest.skip(f"no {file}")
    codes = read_weights(file).codes
    config = configured(codes, "v15", [], None)
    model = instantiate(config["model"])
    model.load_state_dict(codes.weights(), strict=True)
    model.recurrence(True)
    assert sum(value.numel() for value in model.state_dict().values()) == 35_944_536
    path = folder / "tokenizers" / "fineweb_8192_bpe_caseops.model"
    tokenizer = instantiate({**config["tokenizer"], "path": str(path)})
    tokenizer.fit(())
    with open(folder / "data" / "fineweb_val_prefix.jsonl", encoding="utf-8") as lines:
        ids, raw = tokenizer.encode(json.loads(next(lines))["text"])
    first = torch.tensor([[1, *[int(i) for i in ids if i != 1][:399]]])
    counted = int(sum(int(b) for i, b in zip(ids, raw, strict=True) if i != 1))
    assert first.size(1) < 400  # the whole document
    with torch.no_grad():
        nats = float(model.nll(first[:, :-1], first[:, 1:]).sum())
    assert 0.5 < nats / math.log(2) / counted < 2.0
