"""No quantization: fp16."""

from __future__ import annotations

import torch

from pgolf.distributed import World
from pgolf.quant.none import NoQuantizer
from tests.model.tiny import tiny_recurrent
from tests.quant.made import unasked


def test_every_weight_becomes_its_fp16_value() -> None:
    model, quantizer = tiny_recurrent(embed_dtype="bf16"), NoQuantizer()
    codes = quantizer.quantize(model, [], World(), unasked)
    for name, value in codes.weights().items():
        assert value.dtype == torch.float32
        assert torch.equal(value, model.state_dict()[name].half().float()), name


def test_what_fp16_cannot_hold_does_not_become_infinite() -> None:
    model = torch.nn.Linear(3, 1, bias=False)
    model.weight.data = torch.tensor([[1e6, -1e38, 1e-12]])
    codes = NoQuantizer().quantize(model, [], World(), unasked)
    assert codes.weights()["weight"].tolist() == [[65504.0, -65504.0, 0.0]]
