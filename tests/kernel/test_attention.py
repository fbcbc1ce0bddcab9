"""All attention backends that this machine has, against float64 written out."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.attention import SDPBackend

from pgolf.errors import UserError
from pgolf.kernel import attention
from pgolf.kernel.attention import (
    WITHOUT_PLANS,
    attention_of_last,
    available_backends,
    causal_attention,
    select_backend,
    set_backend,
    varying_shapes,
)
from pgolf.kernel.documents import document_borders, document_mask

DEVICES = [torch.device("cpu")] + [torch.device("cuda")] * torch.cuda.is_available()
# (device, dtype, backend)
PRESENT = [
    (device, dtype, backend)
    for device in DEVICES
    for dtype in (torch.float32, torch.bfloat16)
    for backend in available_backends(device, dtype)
]
TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 3e-2}


def reference(q_BTHK: torch.Tensor, k_BTGK: torch.Tensor, v_BTGK: torch.Tensor) -> torch.Tensor:
    q, k, v = q_BTHK.double(), k_BTGK.double(), v_BTGK.double()
    group = q.size(2) // k.size(2)
    outputs = []
    for head in range(q.size(2)):
        k_BTK, v_BTK = k[:, :, head // group], v[:, :, head // group]
        scores_BTT = q[:, :, head] @ k_BTK.mT / math.sqrt(q.size(-1))
        future = torch.ones_like(scores_BTT[0]).triu(1).bool()
        outputs.append(scores_BTT.masked_fill(future, -math.inf).softmax(-1) @ v_BTK)
    return torch.stack(outputs, 2)


@pytest.fixture(autouse=True)
def restore_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "_backend", attention.current_backend())


@pytest.mark.parametrize(("device", "dtype", "backend"), PRESENT, ids=str)
@pytest.mark.parametrize("num_kv_heads", [1, 2, 4])
@pytest.mark.parametrize("last_n", [70, 9])
@pytest.mark.parametrize("shapes_vary", [False, True])
def test_backend_equals_float64_forward_and_backward(
    device: torch.device,
    dtype: torch.dtype,
    backend: str,
    num_kv_heads: int,
    last_n: int,
    shapes_vary: bool,
) -> None:
    torch.manual_seed(0)
    shapes = [(2, 70, 4, 64), (2, 70, num_kv_heads, 64), (2, 70, num_kv_heads, 64)]
    inputs = [torch.randn(s, device=device).to(dtype).requires_grad_() for s in shapes]
    exact = [x.detach().double().requires_grad_() for x in inputs]
    assert set_backend(backend, device, dtype) == backend
    q, k, v = inputs
    with varying_shapes() if shapes_vary else nullcontext():
        whole = last_n == q.size(1)
        found = causal_attention(q, k, v) if whole else attention_of_last(q[:, -last_n:], k, v)
    expected = reference(*exact)[:, -last_n:]
    grad = torch.randn_like(expected)
    found.backward(grad.to(dtype))
    expected.backward(grad)
    assert found.dtype == dtype
    pairs = [(found, expected)] + [(x.grad, y.grad) for x, y in zip(inputs, exact, strict=True)]
    for a, b in pairs:
        assert (a.double() - b).abs().max() < TOLERANCE[dtype] * max(1.0, b.abs().max().item())


def test_where_shapes_vary_cudnn_gives_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """What each call allows SDPA to take: [] is its own choice."""
    allowed: list[list[SDPBackend]] = [[]]

    @contextmanager
    def allow(backends: SDPBackend | list[SDPBackend]) -> Iterator[None]:
        allowed.append(backends if isinstance(backends, list) else [backends])
        yield
        allowed.pop()

    def taken(q: torch.Tensor, *_: object, **__: object) -> list[SDPBackend]:
        return allowed[-1]

    monkeypatch.setattr(attention, "sdpa_kernel", allow)
    monkeypatch.setattr(attention, "_sdpa", taken)
    cudnn, flash, own = [SDPBackend.CUDNN_ATTENTION], [SDPBackend.FLASH_ATTENTION], []
    with FakeTensorMode():
        half = torch.empty(3, 1, 8, 2, 8, device="cuda", dtype=torch.bfloat16).unbind()
        full = torch.empty(3, 1, 8, 2, 8, device="cuda").unbind()
        for chosen, inside in (("cudnn", flash), (attention.CPU, flash), ("math", None)):
            monkeypatch.setattr(attention, "_backend", chosen)
            usual = causal_attention(*half)
            with varying_shapes():
                assert causal_attention(*half) == (usual if inside is None else inside)
                assert causal_attention(*full) == (usual if inside is None else own)
                assert attention_of_last(*half) == WITHOUT_PLANS
            assert causal_attention(*half) == usual
            assert attention_of_last(*half) == own
        monkeypatch.setattr(attention, "_backend", "cudnn")
        assert causal_attention(*half) == cudnn
        with pytest.raises(KeyError), varying_shapes():
            raise KeyError
        assert causal_attention(*half) == cudnn


def test_queries_and_keys_take_the_dtype_of_the_values() -> None:
    q, k, v = torch.randn(3, 1, 5, 2, 8)
    assert causal_attention(q, k, v.bfloat16()).dtype == torch.bfloat16


@pytest.mark.parametrize("device", DEVICES, ids=str)
def test_an_unknown_backend_names_those_that_are_there(device: torch.device) -> None:
    with pytest.raises(UserError, match=available_backends(device)[0]) as error:
        select_backend(device, torch.bfloat16, "fa9")
    assert "hardware.attention=fa9" in str(error.value)


def test_flash_on_the_cpu_is_refused() -> None:
    with pytest.raises(UserError, match="cpu"):
        set_backend("fa3", torch.device("cpu"))
    assert set_backend("auto", torch.device("cpu")) == "cpu"


@pytest.mark.parametrize(("device", "dtype", "backend"), PRESENT, ids=str)
def test_within_documents_it_equals_float64_of_each_document_alone(
    device: torch.device, dtype: torch.dtype, backend: str
) -> None:
    torch.manual_seed(0)
    shapes = [(2, 70, 4, 64), (2, 70, 2, 64), (2, 70, 2, 64)]
    inputs = [torch.randn(s, device=device).to(dtype).requires_grad_() for s in shapes]
    exact = [x.detach().double().requires_grad_() for x in inputs]
    ids_BT = torch.full((2, 70), 9, device=device)
    ids_BT[0, [20, 21, 60]] = 1
    ids_BT[1, [0, 69]] = 1
    set_backend(backend, device, dtype)
    found = causal_attention(*inputs, document_borders(ids_BT, 1))
    rows = []
    for row, cuts in enumerate(([0, 20, 21, 60, 70], [0, 69, 70])):
        spans = [slice(a, b) for a, b in itertools.pairwise(cuts)]
        parts = [reference(*(x[row : row + 1, span] for x in exact)) for span in spans]
        rows.append(torch.cat(parts, 1))
    expected = torch.cat(rows)
    grad = torch.randn_like(expected)
    found.backward(grad.to(dtype))
    expected.backward(grad)
    pairs = [(found, expected)] + [(x.grad, y.grad) for x, y in zip(inputs, exact, strict=True)]
    for a, b in pairs:
        assert (a.double() - b).abs().max() < TOLERANCE[dtype] * max(1.0, b.abs().max().item())


@given(
    st.integers(1, 4).flatmap(
        lambda width: st.lists(
            st.lists(st.integers(0, 3), min_size=width, max_size=width), min_size=1, max_size=5
        )
    )
)
def test_borders_cut_rows_at_their_begin_and_at_bos(rows: list[list[int]]) -> None:
    found, width = document_borders(torch.tensor(rows), bos_id=0), len(rows[0])
    flat = [token for row in rows for token in row]
    begins = [i for i, token in enumerate(flat) if token == 0 or i % width == 0]
    assert found.dtype == torch.int32 and found.numel() == 1 << len(begins).bit_length()
    assert found.tolist() == begins + [len(flat)] * (found.numel() - len(begins))
    mask = document_mask(found, len(rows), width)[:, 0]
    number = torch.tensor([sum(b <= i for b in begins) for i in range(len(flat))])
    number = number.view(len(rows), width)
    expected = number[:, :, None] == number[:, None, :]
    assert torch.equal(mask, expected & torch.ones(width, width).tril().bool())
