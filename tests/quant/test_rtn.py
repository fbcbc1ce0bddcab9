"""Round to nearest, and which tensors it leaves alone."""

from __future__ import annotations

import numpy as np
import torch

from pgolf.distributed import World
from pgolf.quant.codes import IntTensor
from pgolf.quant.engine import quantize_weights
from pgolf.quant.rtn import RTNQuantizer
from tests.model.tiny import tiny_recurrent
from tests.quant.made import unasked


def test_codes_are_the_nearest_points_of_the_grid() -> None:
    model = tiny_recurrent()
    quantizer = RTNQuantizer(
        bits=4, embed_bits=5, clip_sigmas=3.0, embed_clip_sigmas=4.0, min_elements=300
    )
    codes = quantizer.quantize(model, [], World(), unasked)
    assert list(codes.tensors) == list(model.state_dict())
    quantized = {n: v for n, v in codes.tensors.items() if isinstance(v, IntTensor)}
    sizes = {n: v.numel() for n, v in model.state_dict().items()}
    assert set(quantized) == {n for n in sizes if n.endswith(".weight") and sizes[n] >= 300}
    for name, value in quantized.items():
        assert value.bits == (5 if name == "tok_emb.weight" else 4)
        limit = 2 ** (value.bits - 1) - 1
        grid = np.arange(-limit, limit + 1) * value.scales.double().numpy()[:, None, None]
        weight = model.state_dict()[name].double().numpy()
        nearest = np.abs(weight[:, :, None] - grid).min(axis=2)
        found = np.abs(weight - value.dequantize().double().numpy())
        np.testing.assert_allclose(found, nearest, atol=1e-6)


def test_a_finer_grid_has_smaller_errors() -> None:
    weight = torch.randn(20, 90, generator=torch.Generator().manual_seed(0))
    errors = []
    for bits in range(2, 9):
        quantizer = RTNQuantizer(
            bits=bits, embed_bits=8, clip_sigmas=4.0, embed_clip_sigmas=4.0, min_elements=1
        )
        codes = quantize_weights({"a.weight": weight}, {}, quantizer.rules, World())
        found = codes.weights()["a.weight"]
        errors.append(float((found - weight).norm()))
    assert errors == sorted(errors, reverse=True)
