"""The artifact file: round trips, codecs, the rebuilt model, and its description."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import pgolf.artifact
import pgolf.codec
from pgolf.artifact import FILE, build_model, read_artifact, write_artifact
from pgolf.codec.ans_codec import AnsCodec
from pgolf.codec.brotli_codec import BrotliCodec
from pgolf.codec.lzma_codec import LzmaCodec
from pgolf.codec.pergroup_codec import PerGroupCodec
from pgolf.distributed import World
from pgolf.errors import UserError
from pgolf.quant.codes import Codes
from pgolf.quant.none import NoQuantizer
from pgolf.quant.rtn import RTNQuantizer
from tests.artifact_files import FAST, MODEL, SOME_CODES, equal, random_tensor, rich_tensor, write
from tests.model.tiny import SIZES, random_ids, tiny_baseline, tiny_recurrent

RICH = {
    "columns": st.booleans(),
    "states": st.sampled_from([0, 4, 8, 256]),
    "rank": st.integers(0, 5),
    "factor_bits": st.integers(2, 8),
    "group_columns": st.integers(0, 8),
}


@st.composite
def any_codes(draw: st.DrawFn) -> Codes:
    tensors = {}
    for index in range(draw(st.integers(0, 6))):
        bits = draw(st.none() | st.integers(2, 8))
        least = 0 if bits is None else 1
        shape = draw(
            st.lists(st.integers(least, 9), min_size=2, max_size=2)
            if bits
            else st.lists(st.integers(0, 5), max_size=4)
        )
        if bits and draw(st.booleans()):
            options = draw(st.fixed_dictionaries(RICH))
            if options["group_columns"] >= shape[1]:
                options["group_columns"] = 0
            tensors[f"layer.{index}"] = rich_tensor(tuple(shape), bits, index, **options)
            continue
        tensors[f"layer.{index}"] = random_tensor(tuple(shape), bits, index)
    return Codes(tensors)


CODECS = [FAST, LzmaCodec(preset=0), AnsCodec(lanes=16), PerGroupCodec()]


@given(codes=any_codes(), codec=st.sampled_from(CODECS), chunk=st.integers(1, 99))
@settings(max_examples=60, deadline=None)
def test_round_trip(
    tmp_path_factory: pytest.TempPathFactory, codes: Codes, codec: Any, chunk: int
) -> None:
    folder = tmp_path_factory.mktemp("artifact")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pgolf.artifact, "CHUNK_BYTES", chunk)
        num_bytes = write_artifact(folder, MODEL, codes, codec, "ü🙂").file_bytes
    assert num_bytes == sum(path.stat().st_size for path in folder.iterdir())
    for path in (folder, folder / FILE):
        artifact = read_artifact(path)
        assert equal(artifact.codes, codes)
        assert all(torch.equal(w, codes.weights()[n]) for n, w in artifact.codes.weights().items())
        assert artifact.model_config == MODEL
        assert (artifact.tokenizer_fingerprint, artifact.codec) == ("ü🙂", codec.name)
        assert (artifact.format_version, artifact.file_bytes) == (4, num_bytes)


def test_special_fp16_values_survive(tmp_path: Path) -> None:
    every = np.arange(2**16, dtype=np.uint16).view(np.float16)
    every = every[~np.isnan(every)]
    write(tmp_path, Codes({"a": torch.from_numpy(every.copy())}))
    found = read_artifact(tmp_path).codes.tensors["a"]
    assert isinstance(found, torch.Tensor)
    np.testing.assert_array_equal(found.numpy().view(np.uint16), every.view(np.uint16))


def test_equal_arguments_give_equal_bytes(tmp_path: Path) -> None:
    first = write(tmp_path).read_bytes()
    assert write(tmp_path).read_bytes() == first


def test_a_missing_file_says_what_to_name(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"model\.pgolf.*artifact/"):
        read_artifact(tmp_path)
    with pytest.raises(UserError, match=r"nothing"):
        read_artifact(tmp_path / "nothing")


def test_an_interrupted_write_leaves_the_old_file(tmp_path: Path) -> None:
    before = write(tmp_path).read_bytes()

    class Breaking(BrotliCodec):
        def encode(self, data: bytes) -> bytes:
            raise KeyboardInterrupt

    Breaking.__module__, Breaking.__qualname__ = BrotliCodec.__module__, "BrotliCodec"
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path, codec=Breaking())
    assert [path.name for path in tmp_path.iterdir()] == [FILE]
    assert (tmp_path / FILE).read_bytes() == before


NEW_CODEC = '''
"""Reverses."""
class ReverseCodec:
    name = "reverse"
    def __init__(self, *, twice: bool = False) -> None: pass
    def encode(self, data: bytes) -> bytes: return data[::-1]
    def decode(self, data: bytes, num_bytes: int) -> bytes: return data[::-1]
'''


def test_a_new_codec_is_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "reverse_codec.py").write_text(NEW_CODEC, encoding="utf-8")
    monkeypatch.setattr(pgolf.codec, "__path__", [*pgolf.codec.__path__, str(tmp_path)])
    from pgolf.codec import reverse_codec

    write(tmp_path, codec=reverse_codec.ReverseCodec(twice=True))
    artifact = read_artifact(tmp_path)
    assert equal(artifact.codes, SOME_CODES) and artifact.codec == "reverse"


def test_a_codec_that_no_reader_would_find_is_refused_when_writing(tmp_path: Path) -> None:
    class Private(BrotliCodec):
        pass

    with pytest.raises(UserError, match=r"no class of pgolf\.codec"):
        write(tmp_path, codec=Private())
    assert not list(tmp_path.iterdir())


def test_a_codec_whose_decoder_needs_arguments_is_refused_when_writing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = NEW_CODEC.replace("twice: bool = False", "twice: bool")
    (tmp_path / "needy_codec.py").write_text(source, encoding="utf-8")
    monkeypatch.setattr(pgolf.codec, "__path__", [*pgolf.codec.__path__, str(tmp_path)])
    from pgolf.codec import needy_codec

    with pytest.raises(TypeError, match="twice"):
        write(tmp_path, codec=needy_codec.ReverseCodec(twice=True))
    assert not (tmp_path / FILE).exists()


# -- the model -------------------------------------------------------------------------------


def quantized(model: nn.Module, quantizer: Any) -> Codes:
    """Codes by a quantizer that asks for no calibration."""
    found: Codes = quantizer.quantize(model, iter(()), World(), lambda codes: 0)
    return found


@pytest.mark.parametrize("quantizer", [
    NoQuantizer(),
    RTNQuantizer(bits=6, embed_bits=8, clip_sigmas=8.0, embed_clip_sigmas=9.0, min_elements=300),
])  # fmt: skip
def test_the_rebuilt_model_computes_with_the_dequantized_weights(
    tmp_path: Path, quantizer: Any
) -> None:
    model, ids = tiny_recurrent(), random_ids(2, 12)
    codes = quantized(model, quantizer)
    write(tmp_path, codes)
    built = build_model(read_artifact(tmp_path))
    assert not built.training and list(built.state_dict()) == list(model.state_dict())
    model.load_state_dict(codes.weights())
    model.recurrence(True)
    with torch.no_grad():
        assert torch.equal(built.logits(ids), model.logits(ids))
    built(ids, ids).backward()  # test-time training of the rebuilt model stays possible
    assert all(p.grad is not None for p in built.parameters())


def test_the_embedding_keeps_the_dtype_of_its_configuration(tmp_path: Path) -> None:
    model = tiny_recurrent(embed_dtype="bf16")
    write(tmp_path, quantized(model, NoQuantizer()), embed_dtype="bf16")
    built = build_model(read_artifact(tmp_path))
    assert built.tok_emb.weight.dtype == torch.bfloat16
    assert torch.equal(built.tok_emb.weight, model.tok_emb.weight)
    assert built.blocks[0].attn.c_q.weight.dtype == torch.float32


def test_any_model_of_the_package_is_rebuilt(tmp_path: Path) -> None:
    model, ids = tiny_baseline(), random_ids(2, 12)
    config = {"_target_": "pgolf.model.baseline.BaselineGPT", **SIZES}
    codes = quantized(model, NoQuantizer())
    write_artifact(tmp_path, config, codes, FAST, "f")
    model.load_state_dict(codes.weights())
    with torch.no_grad():
        assert torch.equal(build_model(read_artifact(tmp_path)).logits(ids), model.logits(ids))


@pytest.mark.parametrize(
    "strange",
    [
        {"num_layers": "${oc.create:{_target_:os.mkdir,path:%s}}"},
        {"num_layers": ["${oc.env:HOME}"]},
        {"${oc.env:HOME}": 3},
        {"num_layers": {"_target_": "os.mkdir", "path": "%s"}},
        {"_partial_": True},
        {"_args_": [1]},
    ],
)
def test_nothing_but_models_can_be_called_by_an_artifact(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, strange: dict[str, Any]
) -> None:
    made = tmp_path / "made"
    text = json.dumps({"_target_": "pgolf.model.baseline.BaselineGPT", **SIZES, **strange})
    config = json.loads(text.replace("%s", str(made)))
    with monkeypatch.context() as patch:  # pgolf writes none of these
        patch.setattr(pgolf.artifact, "check_targets", lambda *_: None)
        write_artifact(tmp_path, config, quantized(tiny_baseline(), NoQuantizer()), FAST, "f")
    with pytest.raises(UserError, match=r"not a valid artifact|is no class of pgolf\.model"):
        build_model(read_artifact(tmp_path))
    assert not made.exists()


def test_no_compiler_is_loaded_to_rebuild_a_model(tmp_path: Path) -> None:
    """Nor are values drawn that are overwritten at once: both take seconds of an evaluation."""
    write(tmp_path, quantized(tiny_recurrent(), NoQuantizer()))
    state = torch.get_rng_state()
    build_model(read_artifact(tmp_path))
    assert torch.equal(torch.get_rng_state(), state)
    code = (
        "import sys; from pathlib import Path; from pgolf import artifact\n"
        f"artifact.build_model(artifact.read_artifact(Path({str(tmp_path)!r})))\n"
        "assert 'torch._dynamo' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_weights_that_do_not_fit_the_model_are_refused(tmp_path: Path) -> None:
    codes = quantized(tiny_recurrent(), NoQuantizer())
    missing = Codes({n: v for n, v in codes.tensors.items() if n != "skip_gates"})
    write(tmp_path, missing)
    with pytest.raises(UserError, match=r"(?s)do not fit.*skip_gates"):
        build_model(read_artifact(tmp_path))
    write(tmp_path, codes, num_layers=6)
    with pytest.raises(UserError, match=r"do not fit"):
        build_model(read_artifact(tmp_path))
    write(tmp_path, codes, unknown_key=3)
    with pytest.raises(UserError, match=r"(?s)do not fit.*unknown_key"):
        build_model(read_artifact(tmp_path))
