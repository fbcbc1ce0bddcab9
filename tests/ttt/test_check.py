"""Bad values of ttt are found before anything starts, with their key and remedy."""

from __future__ import annotations

import pytest

from pgolf.config import compose
from pgolf.errors import UserError


@pytest.mark.parametrize(
    "override",
    [
        "ttt=none", "ttt=prequant21", "ttt=score_first ttt.momentum=0 ttt.epochs=0",
        "ttt=phased_lora scale.lora_chunk_tokens=256 ttt.prefix_docs=0", "ttt=slot_causal ttt.l2=0",
    ],
)  # fmt: skip
def test_good_values_pass(override: str) -> None:
    compose(["scale=nano", *override.split()])


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("ttt=score_first ttt.lr=-0.1", "ttt.lr=-0.1: expected a number, 0 or more"),
        ("ttt=score_first ttt.lr=nan", "ttt.lr=nan: expected"),
        ("ttt=score_first ttt.epochs=-1", "ttt.epochs=-1: expected"),
        ("ttt=score_first ttt.momentum=1", "ttt.momentum=1: expected a number from 0 to below 1"),
        ("ttt=score_first_phased ttt.grad_clip_norm=0", "ttt.grad_clip_norm=0: .* above 0"),
        ("ttt=score_first_phased ttt.reserve_s=-1", "ttt.reserve_s=-1: expected"),
        ("ttt=phased_lora ttt.lora_beta2=1.0", "ttt.lora_beta2=1.0: expected"),
        ("ttt=phased_lora ttt.lora_weight_decay=-0.5", "ttt.lora_weight_decay=-0.5: expected"),
        ("ttt=phased_lora ttt.prefix_docs=-1", "ttt.prefix_docs=-1: expected"),
        (
            "ttt=phased_lora scale.lora_chunk_tokens=257",
            r"ttt.lora_chunk_tokens=257 .* eval.seq_len=256 \(scale.lora_chunk_tokens",
        ),
        ("ttt=slot_causal ttt.l2=-1", "ttt.l2=-1: expected"),
        ("ttt=slot_causal scale.slot_chunk_tokens=255", "ttt.chunk_tokens=255 .*scale.slot_chunk"),
        ("ttt=score_first scale.ttt_chunk_tokens=255", "ttt.chunk_tokens=255 .*scale.ttt_chunk"),
        ("ttt=prequant21 ttt.ema_decay=1.0", "ttt.ema_decay=1.0: expected"),
        ("ttt=prequant21 ttt.freeze_blocks=-1", "ttt.freeze_blocks=-1: expected"),
    ],
)
def test_a_bad_value_fails_with_its_key(override: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        compose(["scale=nano", *override.split()])
