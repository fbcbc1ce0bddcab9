"""Triton's interpreter as the GPU computes: what version 3.6 does otherwise, put right for a test.

- bf16 operands of tl.dot are multiplied as the integers that they are stored in.
- fp32 to bf16 cuts bits off instead of rounding to nearest even.
- Subnormal numbers change their values from bf16 to fp32.
- Loop bounds are int() of arrays of one element, which NumPy 2.4 refuses.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
import triton.language as tl
from triton.runtime import interpreter


def repair(monkeypatch: pytest.MonkeyPatch) -> None:
    """Until the test ends; without effect on kernels that are compiled."""
    convert = interpreter._convert_float
    multiply = interpreter.InterpreterBuilder.create_dot
    patch_tensor = interpreter._patch_lang_tensor

    def converted(data, source, target, rounding_mode):
        if (source, target) == (tl.float32, tl.bfloat16):
            narrow = torch.from_numpy(np.array(data, np.float32)).bfloat16()
            return narrow.view(torch.int16).numpy().view(np.uint16)
        if (source, target) == (tl.bfloat16, tl.float32):
            return data.astype(np.uint32) << 16
        return convert(data, source, target, rounding_mode)

    def widened(handle):
        if handle.dtype.scalar != tl.bfloat16:
            return handle
        data = converted(handle.data, tl.bfloat16, tl.float32, None).view(np.float32)
        return interpreter.TensorHandle(data, tl.float32)

    def dot(self, a, b, acc, *options):
        return multiply(self, widened(a), widened(b), acc, *options)

    def tensor_with_index(tensor, scope):
        patch_tensor(tensor, scope)
        scope.set_attr(tensor, "__index__", lambda self: int(self.handle.data.item()))

    monkeypatch.setattr(interpreter, "_convert_float", converted)
    monkeypatch.setattr(interpreter.InterpreterBuilder, "create_dot", dot)
    monkeypatch.setattr(interpreter, "_patch_lang_tensor", tensor_with_index)
