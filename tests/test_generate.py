"""The cache changes no logits and no text; sampling draws from the distribution that it says."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from pgolf.errors import UserError
from pgolf.generate import Sampling, Window, continuation, generate, probabilities
from pgolf.model.kv_cache import cached
from pgolf.quant.codes import Codes, to_fp16
from pgolf.tokenizer.bytes import BytesTokenizer
from tests.artifact_files import FAST, MODEL
from tests.model.tiny import random_ids, tiny_baseline, tiny_recurrent

PROMPT = [1, *random_ids(6, seed=3).tolist()]
GREEDY = Sampling(temperature=0.0)


def models() -> Iterator[Any]:
    """Every structure that a cache meets: loops on and off, XSA, parallel layers, documents."""
    yield "recurrence on", tiny_recurrent(), True
    yield "recurrence off", tiny_recurrent(), False
    yield "loop of all", tiny_recurrent(loop_start=0, loop_end=4, xsa_last_n=5), True
    yield "rounded frequencies", tiny_recurrent(rope_freq_dtype="bf16"), True
    yield "documents", tiny_recurrent(attention_scope="document"), True
    yield "baseline", tiny_baseline(), False
    yield "baseline, documents", tiny_baseline(attention_scope="document"), False


MODELS = list(models())


@pytest.mark.parametrize(("name", "model", "on"), MODELS, ids=[name for name, _, _ in MODELS])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["fp64", "fp32"])
def test_cached_logits_are_those_of_the_whole_text(
    name: str, model: Any, on: bool, dtype: torch.dtype
) -> None:
    """In fp64 to the last digits; in fp32 within 1e-5, with weights of an ordinary size."""
    model = copy.deepcopy(model).to(dtype).eval()
    model.recurrence(on)
    ids = random_ids(1, model.train_seq_len, seed=5)
    ids[0, 0] = ids[0, 7] = ids[0, 11] = 1  # documents begin
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(0.4 if parameter.ndim > 1 and dtype == torch.float32 else 1.0)
        expected = model.logits(ids)[0]
        with cached(model) as cache:
            found = []
            for part in ids.split([5, 1, 1, 3, 1, 1, 4], dim=1):  # several at once, and one by one
                cache.begin(part)
                found.append(model.logits(part)[0])
                cache.end()
        tolerance = 1e-5 if dtype == torch.float32 else 1e-9
        torch.testing.assert_close(torch.cat(found), expected, atol=tolerance, rtol=0)
        assert float(expected.std()) > 0.05
        again = model.logits(ids)[0]  # outside nothing is left of it
    assert torch.equal(again, expected)


def test_each_pass_of_a_looped_layer_has_its_own_keys() -> None:
    model = tiny_recurrent().eval()
    model.recurrence(True)
    with torch.no_grad(), cached(model) as cache:
        cache.begin(random_ids(1, 4))
        model.logits(random_ids(1, 4), last_n=1)
        cache.end()
        passes = [len(layer.passes) for layer in cache.layers]
        assert passes == [1, 3, 3, 1, 1]
        first, second, _ = cache.layers[1].passes
        assert not torch.allclose(first[0], second[0], atol=1e-3)


@pytest.mark.parametrize(("name", "model", "on"), MODELS, ids=[name for name, _, _ in MODELS])
@pytest.mark.parametrize("sampling", [GREEDY, Sampling(1.0, 0.9, seed=4)], ids=["greedy", "drawn"])
def test_texts_are_equal_beyond_the_window(
    name: str, model: Any, on: bool, sampling: Sampling
) -> None:
    """60 tokens of a model whose windows have 16: the window begins anew several times."""
    model.eval().recurrence(on)
    found = list(continuation(model, PROMPT, 60, sampling))
    assert found == list(continuation(model, PROMPT, 60, sampling, use_cache=False))
    assert len(found) == 60 and len(set(found)) > 1


def test_a_window_keeps_its_newer_half() -> None:
    model = tiny_baseline().eval()
    window = Window(model, None)
    window.add(list(range(16)))
    assert window.ids == list(range(16))
    window.add([16])
    assert window.ids == list(range(9, 17))
    long = Window(model, None)
    long.add(list(range(50)))
    assert long.ids == list(range(42, 50))
    expected = long.logits()
    with cached(model) as cache:
        again = Window(model, cache)
        again.add(list(range(12)))
        again.logits()
        again.add(list(range(12, 50)))
        torch.testing.assert_close(again.logits(), expected, atol=1e-4, rtol=0)


LOGITS = torch.tensor([0.1, 0.5, 0.25, 0.15]).log()


@pytest.mark.parametrize(
    ("temperature", "top_p", "expected"),
    [
        (1.0, 1.0, [0.1, 0.5, 0.25, 0.15]),
        (1.0, 0.4, [0.0, 1.0, 0.0, 0.0]),
        (1.0, 0.6, [0.0, 2 / 3, 1 / 3, 0.0]),
        (1.0, 0.76, [0.0, 5 / 9, 2.5 / 9, 1.5 / 9]),
        (0.5, 1.0, [p * p / 0.345 for p in (0.1, 0.5, 0.25, 0.15)]),
        (1e-6, 1.0, [0.0, 1.0, 0.0, 0.0]),
        (0.0, 1.0, [0.0, 1.0, 0.0, 0.0]),
    ],
)
def test_a_known_distribution(temperature: float, top_p: float, expected: list[float]) -> None:
    found = probabilities(LOGITS, temperature, top_p)
    torch.testing.assert_close(found, torch.tensor(expected).double(), atol=1e-6, rtol=0)


class Fixed(nn.Module):
    """Says the same, whatever it reads."""

    train_seq_len = 8

    def __init__(self) -> None:
        super().__init__()
        self.tok_emb = nn.Embedding(4, 1)

    def logits(self, ids_BT: torch.Tensor, last_n: int) -> torch.Tensor:
        return LOGITS.expand(1, last_n, -1)


def test_draws_follow_the_distribution() -> None:
    model = Fixed()
    drawn = list(continuation(model, [0], 4000, Sampling(1.0, 0.76, seed=1), use_cache=False))
    shares = torch.tensor(drawn).bincount(minlength=4) / len(drawn)
    expected = torch.tensor([0.0, 5 / 9, 2.5 / 9, 1.5 / 9])
    assert shares[0] == 0
    assert float((shares - expected).abs().max()) < 0.03  # four standard deviations
    again = list(continuation(model, [0], 4000, Sampling(1.0, 0.76, seed=1), use_cache=False))
    other = list(continuation(model, [0], 4000, Sampling(1.0, 0.76, seed=2), use_cache=False))
    assert drawn == again != other


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"temperature": -0.1}, "--temperature -0.1"),
        ({"temperature": float("nan")}, "--temperature nan"),
        ({"top_p": 0.0}, "--top-p 0.0"),
        ({"top_p": 1.1}, "--top-p 1.1"),
        ({"seed": -1}, "--seed -1"),
    ],
)
def test_values_outside_their_range(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Sampling(**settings)


def test_a_model_that_cannot_be_cached_is_named() -> None:
    model = tiny_baseline()
    for block in model.blocks:
        block.attn = nn.Identity()
    with pytest.raises(UserError, match="Identity has no queries_keys_values and output"):
        list(continuation(model, [1], 1, GREEDY))
    with pytest.raises(UserError, match="Fixed cannot be cached: use --no-cache"):
        list(continuation(Fixed(), [1], 1, GREEDY))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An artifact of a model of bytes, and its tokenizer beside it."""
    from pgolf.artifact import write_artifact

    model = tiny_recurrent(vocab_size=264, train_seq_len=16)
    codes = Codes({name: to_fp16(value) for name, value in model.state_dict().items()})
    tokenizer = BytesTokenizer(vocab_size=264)
    tokenizer.fit(())
    (tmp_path / "artifact").mkdir()
    config = {**MODEL, "vocab_size": 264, "train_seq_len": 16}
    write_artifact(tmp_path / "artifact", config, codes, FAST, tokenizer.fingerprint)
    tokenizer.save(tmp_path / "tokenizer")
    return tmp_path


def test_a_text_from_an_artifact(folder: Path) -> None:
    pieces: list[str] = []
    settings: dict[str, Any] = {"num_tokens": 40, "device": "cpu"}
    first = generate(folder, "Hé", sampling=Sampling(), on_text=pieces.append, **settings)
    assert first["prompt"] == "Hé" and 0 < first["tokens"] <= 40
    assert "".join(pieces) == first["text"]
    alone = generate(folder / "artifact", "Hé", sampling=Sampling(), use_cache=False,
                     tokenizer=folder / "tokenizer", **settings)  # fmt: skip
    assert (alone["ids"], alone["text"]) == (first["ids"], first["text"])
    other = generate(folder, "Hé", sampling=Sampling(seed=1), **settings)
    assert other["ids"] != first["ids"]
    empty = generate(folder, "", sampling=GREEDY, **settings)
    assert empty["tokens"] > 0


def test_what_is_missing_is_named(folder: Path, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"num_tokens": 1, "device": "cpu", "sampling": GREEDY}
    with pytest.raises(UserError, match="no artifact"):
        generate(tmp_path / "nowhere", "x", **settings)
    with pytest.raises(UserError, match="--tokens 0"):
        generate(folder, "x", num_tokens=0, sampling=GREEDY)
    (folder / "tokenizer").rename(folder / "elsewhere")
    with pytest.raises(UserError, match="name it by --tokenizer"):
        generate(folder, "x", **settings)
    assert generate(folder, "x", tokenizer=folder / "elsewhere", **settings)["tokens"] <= 1
    (folder / "wrong").mkdir()
    with pytest.raises(UserError, match="tokenizer"):
        generate(folder, "x", tokenizer=folder / "wrong", **settings)
