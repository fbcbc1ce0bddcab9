"""`pgolf generate`: a continuation of a prompt, token by token, from an artifact.

Legend: B batch, N new positions, V vocab_size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pgolf.artifact import build_model, read_artifact
from pgolf.clock import Clock
from pgolf.errors import UserError
from pgolf.hardware import Hardware
from pgolf.kernel.attention import varying_shapes
from pgolf.model.kv_cache import Cache, cached
from pgolf.opened import find_tokenizer, open_folder

REPLACEMENT = "\ufffd"  # what half a character decodes to


@dataclass(frozen=True)
class Sampling:
    """How a token is chosen.

    Args:
        temperature: divides the logits; 0 takes the likeliest token.
        top_p: keep the likeliest tokens that together have this probability, at least one.
        seed: of the draws.

    Raises:
        UserError: a value outside its range.
    """

    temperature: float = 0.8
    top_p: float = 0.95
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0.0 <= self.temperature < float("inf"):
            raise UserError(f"--temperature {self.temperature}: expected 0 or more")
        if not 0.0 < self.top_p <= 1.0:
            raise UserError(f"--top-p {self.top_p}: expected a share above 0, at most 1")
        if not 0 <= self.seed < 2**63:
            raise UserError(f"--seed {self.seed}: expected a whole number, 0 or more")


def probabilities(logits_V: Tensor, temperature: float, top_p: float) -> Tensor:
    """The distribution that is drawn from, float64 [V] on the CPU.

    Args:
        logits_V: of the model; at temperature 0 all weight lies on the first of the largest.
    """
    logits_V = logits_V.double().cpu()
    if temperature == 0.0:
        return torch.zeros_like(logits_V).index_fill(0, logits_V.argmax(), 1.0)
    # The largest is taken off first: a tiny temperature must not make infinity minus infinity.
    scaled_V = (logits_V - logits_V.max()) / temperature
    probability_V = scaled_V.softmax(0)
    ordered_V, order_V = probability_V.sort(descending=True, stable=True)
    before_V = ordered_V.cumsum(0) - ordered_V
    kept_V = torch.zeros_like(ordered_V).index_copy(0, order_V, ordered_V * (before_V < top_p))
    return kept_V / kept_V.sum()


class Window:
    """What the model sees of a text that may grow longer than its windows of training.

    When the next token would not fit, the older half is dropped and the rest read anew.

    Args:
        model: ready for evaluation, recurrence on.
        cache: of `pgolf.model.kv_cache.cached`; None reads the whole window for every token.
    """

    def __init__(self, model: Any, cache: Cache | None) -> None:
        self.model, self.cache = model, cache
        self.limit: int = model.train_seq_len
        self.ids: list[int] = []
        self.read = 0

    def add(self, ids: list[int]) -> None:
        """Append tokens; what is beyond the window falls off its beginning."""
        self.ids += ids
        if len(self.ids) > self.limit:
            self.ids = self.ids[-max(1, self.limit // 2) :]
            self.read = 0
            if self.cache is not None:
                self.cache.clear()

    @torch.no_grad()
    def logits(self) -> Tensor:
        """Of the token that follows, fp32 [V]."""
        device = self.model.tok_emb.weight.device
        ids_BN = torch.tensor([self.ids[self.read :]], device=device)
        if self.cache is not None:
            self.cache.begin(ids_BN)
        with varying_shapes():
            logits_V: Tensor = self.model.logits(ids_BN, last_n=1)[0, -1]
        if self.cache is not None:
            self.cache.end()
            self.read = len(self.ids)
        return logits_V


def continuation(
    model: Any, prompt: list[int], num_tokens: int, sampling: Sampling, *, use_cache: bool = True
) -> Iterator[int]:
    """Ids that follow a prompt, one by one.

    Args:
        prompt: at least one id, BOS included.
        num_tokens: how many.

    Raises:
        UserError: the model cannot be cached.
    """
    generator = torch.Generator().manual_seed(sampling.seed)
    with ExitStack() as stack:
        window = Window(model, stack.enter_context(cached(model)) if use_cache else None)
        window.add(prompt)
        for _ in range(num_tokens):
            weights_V = probabilities(window.logits(), sampling.temperature, sampling.top_p)
            token = int(torch.multinomial(weights_V, 1, generator=generator))
            yield token
            window.add([token])


def generate(
    path: Path,
    prompt: str,
    *,
    num_tokens: int,
    sampling: Sampling,
    tokenizer: Path | None = None,
    device: str = "auto",
    use_cache: bool = True,
    on_text: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Continue a prompt; returns the text, ids and speed.

    Args:
        path: a run, an imported folder or an artifact.
        tokenizer: where the folder has none; see `find_tokenizer`.
        device: "auto" takes a GPU where there is one; computed in fp32 on either.
        on_text: is told each piece of new text as it comes.

    Raises:
        UserError: no artifact, no tokenizer, or a number outside its range.
    """
    if num_tokens < 1:
        raise UserError(f"--tokens {num_tokens}: expected 1 or more")
    opened = open_folder(path)
    artifact = read_artifact(opened.artifact)
    reader = find_tokenizer(opened, artifact.tokenizer_fingerprint, tokenizer)
    settled = Hardware(device=device).settle().device  # type: ignore[arg-type]
    model = build_model(artifact).to(settled)
    ids = [int(i) for i in reader.encode(prompt)[0]] if prompt else []
    if not ids or ids[0] != reader.bos_id:
        ids = [reader.bos_id, *ids]
    found: list[int] = []
    told = _text(reader, ids)
    start = len(told)
    clock = Clock({})
    with clock.phase("generate", "diagnostic"):
        tokens = continuation(model, ids, num_tokens, sampling, use_cache=use_cache)
        for token in tokens:
            if token == reader.bos_id:  # the document is over
                break
            found.append(token)
            if on_text is not None:
                told = _tell(_text(reader, [*ids, *found]), told, on_text)
    whole = _text(reader, [*ids, *found])
    if on_text is not None and whole != told:
        on_text(whole[len(told) :])
    return {
        "prompt": prompt,
        "text": whole[start:],
        "tokens": len(found),
        "tokens_per_s": round(len(found) / max(clock.seconds("generate"), 1e-9), 1),
        "ids": found,
    }


def _text(reader: Any, ids: list[int]) -> str:
    """Decoded; bytes may make half of a surrogate pair, which no terminal takes."""
    text: str = reader.decode(ids)
    return text.encode("utf-8", "replace").decode("utf-8")


def _tell(text: str, told: str, on_text: Callable[[str], None]) -> str:
    """Hand on what is new and will not change any more; returns all that was handed on."""
    text = text.rstrip(REPLACEMENT)
    if len(text) <= len(told) or not text.startswith(told):
        return told  # half a character, or a control that waits for its letters
    on_text(text[len(told) :])
    return text
