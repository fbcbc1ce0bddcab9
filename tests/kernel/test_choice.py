"""Which kernels run: the choice, its reasons, and blocks compiled one by one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import nn

from pgolf.errors import UserError
from pgolf.kernel import choice
from pgolf.kernel.choice import compile_blocks, compiles, set_kernels, use_fused, why_not_fused
from tests.model.tiny import random_ids, tiny_recurrent

CPU, GPU = torch.device("cpu"), torch.device("cuda")


@pytest.fixture(autouse=True)
def restored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "_choice", choice.PLAIN)


def test_on_the_cpu_kernels_are_plain_and_nothing_is_compiled_unasked() -> None:
    assert set_kernels("auto", CPU, "bf16") == "plain"
    assert not use_fused(torch.zeros(1, dtype=torch.bfloat16))
    assert not compiles(None, CPU) and compiles(True, CPU)
    with pytest.raises(UserError, match=r"hardware.kernels=fused .*CUDA; use auto or plain"):
        set_kernels("fused", CPU, "bf16")


@pytest.mark.parametrize(
    ("precision", "capability", "reason"),
    [("fp32", (9, 0), "precision=bf16"), ("bf16", (7, 5), "8.0 or newer"), ("bf16", (9, 0), "")],
)
def test_reasons(
    monkeypatch: pytest.MonkeyPatch, precision: str, capability: tuple[int, int], reason: str
) -> None:
    pytest.importorskip("triton", reason="without it, that is the reason")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    found = why_not_fused(GPU, precision)
    assert reason in found and bool(found) == bool(reason)


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Graphs as torch.compile makes them, run as they are: no C++ compiler is needed."""
    graphs: list[int] = []
    compile_module = nn.Module.compile

    def backend(graph: torch.fx.GraphModule, inputs: object) -> object:
        graphs.append(len(graph.graph.nodes))
        return graph.forward

    monkeypatch.setattr(
        nn.Module, "compile", lambda self: compile_module(self, backend=backend, fullgraph=True)
    )
    torch.compiler.reset()
    yield graphs
    torch.compiler.reset()


@pytest.mark.slow
def test_blocks_share_graphs_and_compute_the_same(counted: list[int]) -> None:
    tokens = random_ids(2, 17)
    sizes = {"num_layers": 8, "loop_start": 2, "loop_end": 3, "parallel_start": 6}
    plain, compiled = tiny_recurrent(**sizes), tiny_recurrent(**sizes)
    compile_blocks(compiled)
    for on in (False, True, False):
        for model in (plain, compiled):
            model.recurrence(on)
            model.zero_grad()
            model(tokens[:, :-1], tokens[:, 1:]).backward()
        for a, b in zip(plain.parameters(), compiled.parameters(), strict=True):
            torch.testing.assert_close(b.grad, a.grad, rtol=1e-4, atol=1e-5)
    # 12 and 8 blocks a pass, in no more than half as many graphs.
    assert 0 < len(counted) <= 10
