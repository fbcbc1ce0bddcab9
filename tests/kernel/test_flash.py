"""FlashAttention packages: each is called as its own interface wants it, by stand-ins for them."""

from __future__ import annotations

import itertools
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from pgolf.errors import UserError
from pgolf.kernel import flash
from pgolf.kernel.attention import causal_attention
from pgolf.kernel.documents import document_borders

SHAPES = [(2, 9, 4, 8), (2, 9, 2, 8), (2, 9, 2, 8)]


def whole(q: Tensor, k: Tensor, v: Tensor, softmax_scale: Any = None, causal: bool = False) -> Any:
    assert causal and softmax_scale is None
    return causal_attention(q, k, v)


def whole_with_lse(q: Tensor, k: Tensor, v: Tensor, *, causal: bool = False) -> Any:
    return whole(q, k, v, causal=causal), torch.zeros(1)


def within(q: Tensor, k: Tensor, v: Tensor, cu_seqlens_q: Tensor, cu_seqlens_k: Tensor) -> Tensor:
    assert cu_seqlens_q.dtype == torch.int32 and torch.equal(cu_seqlens_q, cu_seqlens_k)
    cuts = cu_seqlens_q.tolist()
    spans = [slice(a, b) for a, b in itertools.pairwise(cuts) if a < b]
    return torch.cat([whole(q[None, s], k[None, s], v[None, s], causal=True)[0] for s in spans])


def varlen(
    q: Tensor, k: Tensor, v: Tensor, cu_seqlens_q: Tensor, cu_seqlens_k: Tensor,
    max_seqlen_q: int, max_seqlen_k: int, dropout_p: float = 0.0, causal: bool = False,
) -> Tensor:  # fmt: skip
    assert causal and max_seqlen_q == max_seqlen_k >= int(cu_seqlens_q.diff().max())
    return within(q, k, v, cu_seqlens_q, cu_seqlens_k)


def varlen_of_fa4(
    q: Tensor, k: Tensor, v: Tensor, cu_seqlens_q: Any = None, cu_seqlens_k: Any = None,
    causal: bool = False,
) -> tuple[Tensor, None]:  # fmt: skip
    assert causal
    return within(q, k, v, cu_seqlens_q, cu_seqlens_k), None


STANDINS = {
    "flash_attn": SimpleNamespace(flash_attn_func=whole, flash_attn_varlen_func=varlen),
    "flash_attn_interface": SimpleNamespace(
        flash_attn_func=whole_with_lse, flash_attn_varlen_func=varlen
    ),
    "flash_attn.cute": SimpleNamespace(
        flash_attn_func=whole_with_lse, flash_attn_varlen_func=varlen_of_fa4
    ),
}


@pytest.fixture(autouse=True)
def packages(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    present: dict[str, Any] = dict(STANDINS)
    monkeypatch.setattr(flash, "_imported", present.get)
    monkeypatch.setattr(flash, "_LOADED", {})
    return present


@pytest.mark.parametrize("name", ["fa2", "fa3", "fa4"])
def test_rows_and_documents(name: str) -> None:
    torch.manual_seed(0)
    q, k, v = (torch.randn(shape) for shape in SHAPES)
    torch.testing.assert_close(flash.flash_attention(name, q, k, v), causal_attention(q, k, v))
    ids_BT = torch.full((2, 9), 5)
    ids_BT[0, 4] = ids_BT[1, 8] = 1
    borders = document_borders(ids_BT, 1)
    flat = (x.flatten(0, 1) for x in (q, k, v))
    found = flash.flash_attention_varlen(name, *flat, borders, 9)
    torch.testing.assert_close(found.view_as(q), causal_attention(q, k, v, borders))


@pytest.mark.parametrize(
    ("capability", "present"),
    [((8, 0), ["fa2"]), ((9, 0), ["fa2", "fa3", "fa4"]), ((10, 0), ["fa2", "fa4"]), ((7, 5), [])],
)
def test_each_is_for_its_gpus(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], present: list[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    device = torch.device("cuda")
    assert [name for name in flash.MODULES if flash.is_installed(name, device)] == present[::-1]


def test_the_hub_kernel_takes_the_place_of_the_package(packages: dict[str, Any]) -> None:
    asked = []

    def get_kernel(name: str) -> Any:
        asked.append(name)
        return SimpleNamespace(flash_attn_func=lambda q, k, v, causal: q + 1)

    del packages["flash_attn_interface"]
    with pytest.raises(UserError, match="pip install kernels"):
        flash.fetch_fa3()
    packages["kernels"] = SimpleNamespace(get_kernel=get_kernel)
    flash.fetch_fa3()
    assert asked == [flash.HUB_KERNEL]
    q = torch.zeros(1)
    assert flash.flash_attention("fa3", q, q, q).item() == 1.0


def test_a_hub_out_of_reach_is_named_with_the_remedy(packages: dict[str, Any]) -> None:
    def get_kernel(name: str) -> Any:
        raise ConnectionError("no route to host")

    packages["kernels"] = SimpleNamespace(get_kernel=get_kernel)
    with pytest.raises(UserError, match=r"no route to host.*hardware.attention=auto"):
        flash.fetch_fa3()
