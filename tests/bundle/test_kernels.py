"""Fused kernels of a short script compute what pgolf's do, to the last bit."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

import pytest
import torch
from torch import Tensor

from pgolf.bundle.emit import bundle
from pgolf.bundle.minify import minify
from pgolf.bundle.reach import Reach
from pgolf.bundle.wrap import wrap
from pgolf.config import compose
from pgolf.kernel.enter_block import Skip, Stream
from pgolf.pack.script import sources_of

pytest.importorskip("triton", reason="the fused kernels are written in Triton")
FUSED = "pgolf.kernel.fused"
# Triton's interpreter; on a GPU it would be off and these inputs on the wrong device.
pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="written for the interpreter")

B, T, D, H, G, K = 2, 5, 32, 4, 2, 8


def random(*shape: int) -> Tensor:
    return torch.randn(shape).bfloat16().requires_grad_()


def xsa(kernel: Callable[..., Any]) -> Any:
    return kernel(random(B, T, H, K), random(B, T, G, K))


def qk_prep(kernel: Callable[..., Any]) -> Any:
    tables = torch.rand(2, 1, T, 1, 2).unbind()
    return kernel(random(B, T, (H + 2 * G) * K), random(H), *tables, H, G)


def add_norm(kernel: Callable[..., Any]) -> Any:
    return kernel(random(B, T, D), random(B, T, D), random(D), 0.5)


def scaled_add(kernel: Callable[..., Any]) -> Any:
    return kernel(random(B, T, D), (random(B, T, D), random(B, T, D)), (random(D), random(D)))


def enter_block(kernel: Callable[..., Any]) -> Any:
    branches = (random(B, T, D), random(B, T, D))
    stream = Stream(random(B, T, D), branches, (random(D), random(D)))
    skip = Skip(random(B, T, D), random(D), random(D))
    return kernel(tuple(stream), random(B, T, D), random(2, D), 0.5, tuple(skip), True)


def head_loss(kernel: Callable[..., Any]) -> Any:
    return kernel(random(B, T, D), random(40, D), torch.randint(40, (B, T)), 30.0)


def mlp(kernel: Callable[..., Any]) -> Any:
    return kernel(random(B, T, 16), random(64, 16), random(16, 64))


KERNELS: dict[str, tuple[str, Callable[..., Any]]] = {
    "xsa.exclude_own_value_fused": ("xsa", xsa),
    "qk_prep.prepare_qkv_fused": ("qk_prep", qk_prep),
    "add_norm.add_norm_fused": ("add_norm", add_norm),
    "scaled_add.scaled_add_fused": ("scaled_add", scaled_add),
    "enter_block.enter_block_fused": ("enter_block", enter_block),
    "head_loss.softcapped_loss_fused": ("head_loss", head_loss),
    "mlp.leaky_square_mlp_fused": ("mlp", mlp),
}


@pytest.fixture(scope="module")
def packed() -> dict[str, Callable[..., Any]]:
    """The kernels of a short, wrapped program, by their places in pgolf."""
    config = compose(["experiment=v15", "hardware.kernels=fused", "tracking=none"])
    roots = [f"{FUSED}.{name}" for name in KERNELS]
    made = bundle(Reach(sources_of(config, short=True), roots, annotations=False), roots)
    table = "".join(f"{name!r}: {made.names[f'{FUSED}.{name}']}," for name in KERNELS)
    space: dict[str, Any] = {"__name__": "packed"}
    data = wrap(minify(f"{made.text}\nglobals()['found'] = {{{table}}}\n"), "brotli")
    exec(compile(data, "packed.py", "exec"), space)
    return space["found"]


@pytest.fixture(autouse=True)
def repaired_interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.kernel.interpreter import repair

    repair(monkeypatch)


def outcome(kernel: Callable[..., Any], run: Callable[..., Any]) -> list[Tensor]:
    """What a kernel gives, and the gradients of all that it was given."""
    torch.manual_seed(0)
    given: list[Tensor] = []

    def recorded(*values: Any) -> Any:
        flat = [x for v in values for x in _flat(v)]
        given.extend(v for v in flat if isinstance(v, Tensor) and v.requires_grad)
        return kernel(*values)

    results = [x for x in _flat(run(recorded)) if isinstance(x, Tensor)]
    differentiable = [x for x in results if x.requires_grad]
    grads = torch.autograd.grad([x.float().square().sum() for x in differentiable], given)
    return [*results, *grads]


def _flat(value: Any) -> list[Any]:
    return [x for v in value for x in _flat(v)] if isinstance(value, tuple) else [value]


@pytest.mark.parametrize("name", KERNELS)
def test_a_packed_kernel_computes_the_same(
    name: str, packed: dict[str, Callable[..., Any]]
) -> None:
    module, run = KERNELS[name]
    function = name.rpartition(".")[2]
    expected = outcome(getattr(import_module(f"{FUSED}.{module}"), function), run)
    found = outcome(packed[name], run)
    assert len(found) == len(expected) > 1
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    assert any(x.abs().max() > 0 for x in expected)
