"""Properties of recurrent3 that hold for any weights."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from pgolf.errors import UserError
from pgolf.kernel.documents import document_borders
from pgolf.model.recurrent import RecurrentGPT
from tests.model.tiny import random_ids, tiny_baseline, tiny_recurrent

FULL_SIZE = {
    "vocab_size": 8192, "num_layers": 11, "model_dim": 512, "num_heads": 8, "num_kv_heads": 4,
    "rope_dims": 16, "train_seq_len": 2048, "num_loops": 2, "loop_start": 3, "loop_end": 5,
    "parallel_start": 7, "xsa_last_n": 11,
}  # fmt: skip


def test_full_size_has_the_published_number_of_parameters() -> None:
    with torch.device("meta"):
        model = RecurrentGPT(**FULL_SIZE)
    assert sum(p.numel() for p in model.parameters()) == 35_944_536
    assert model.skip_weights.shape == (8, 512)
    assert model.tok_emb.weight.dtype == torch.bfloat16
    assert model.recurrent.encoder == (0, 1, 2, 3, 4, 5, 3, 4)
    assert model.recurrent.decoder == (5, 3, 4, 5, 6, 7, 8, 9, 10)
    assert model.plain.encoder == (0, 1, 2, 3, 4)


def test_state_dict_has_the_published_names() -> None:
    names = set(tiny_recurrent(num_layers=1, num_loops=0).state_dict())
    block = {"attn_scale", "mlp_scale", "resid_mix", "attn.q_gain", "mlp.fc.weight"}
    block |= {"mlp.proj.weight", *(f"attn.{n}.weight" for n in ("c_q", "c_k", "c_v", "proj"))}
    expected = {"tok_emb.weight", "skip_weights", "skip_gates"}
    assert names == expected | {f"blocks.0.{name}" for name in block}


@pytest.mark.parametrize("on", [False, True])
@pytest.mark.parametrize("build", [tiny_recurrent, tiny_baseline])
@pytest.mark.parametrize("position", [0, 5, 12])
def test_later_tokens_change_no_earlier_logits(build: Any, on: bool, position: int) -> None:
    model = build()
    model.recurrence(on)
    first, second = random_ids(2, 13, seed=1), random_ids(2, 13, seed=2)
    second[:, : position + 1] = first[:, : position + 1]
    with torch.no_grad():
        a, b = model.logits(first), model.logits(second)
    torch.testing.assert_close(a[:, : position + 1], b[:, : position + 1], atol=1e-6, rtol=0)
    if position < 12:
        assert (a[:, position + 1 :] - b[:, position + 1 :]).abs().amax(-1).min() > 1e-3


@pytest.mark.parametrize("on", [False, True])
@pytest.mark.parametrize("build", [tiny_recurrent, tiny_baseline])
def test_within_documents_a_window_is_its_documents_one_by_one(build: Any, on: bool) -> None:
    model, ids_BT = build(attention_scope="document", bos_id=60), random_ids(2, 13) % 60
    ids_BT[:, 5] = 60
    model.recurrence(on)
    whole = build(attention_scope="window")
    whole.recurrence(on)
    with torch.no_grad():
        found = model.logits(ids_BT)
        parts = [whole.logits(ids_BT[:, :5]), whole.logits(ids_BT[:, 5:])]
        given = model.logits(ids_BT, borders=document_borders(ids_BT, 60))
    # Rotary angles of other positions, in fp32.
    torch.testing.assert_close(found, torch.cat(parts, 1), atol=5e-4, rtol=0)
    assert torch.equal(given, found) and not torch.allclose(found, whole.logits(ids_BT), atol=1e-2)


@pytest.mark.parametrize("on", [False, True])
@pytest.mark.parametrize("scope", ["window", "document"])
@pytest.mark.parametrize("build", [tiny_recurrent, tiny_baseline])
@pytest.mark.parametrize("last_n", [1, 4, 12])
def test_nats_of_the_last_targets_are_those_of_the_logits(
    build: Any, scope: str, on: bool, last_n: int
) -> None:
    model, tokens = build(attention_scope=scope, bos_id=7).double(), random_ids(3, 13)
    model.recurrence(on)
    ids_BT, targets_BN = tokens[:, :-1], tokens[:, -last_n:]
    with torch.no_grad():
        log_p = model.logits(ids_BT)[:, -last_n:].log_softmax(-1)
        found = model.nll(ids_BT, targets_BN)
    expected = -log_p.gather(-1, targets_BN[:, :, None])[:, :, 0]
    torch.testing.assert_close(found.double(), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("build", [tiny_recurrent, tiny_baseline])
def test_last_n_logits_are_the_end_of_all_logits(build: Any) -> None:
    model, ids_BT = build(), random_ids(2, 9)
    with torch.no_grad():
        torch.testing.assert_close(model.logits(ids_BT, last_n=3), model.logits(ids_BT)[:, -3:])


@pytest.mark.parametrize("build", [tiny_recurrent, tiny_baseline])
def test_loss_is_the_mean_cross_entropy_of_capped_logits(build: Any) -> None:
    model, tokens = build(logit_softcap=2.0), random_ids(2, 9)
    with torch.no_grad():
        logits = model.logits(tokens[:, :-1])
        loss = model(tokens[:, :-1], tokens[:, 1:])
    assert logits.abs().max() <= 2.0
    log_p = logits.double().log_softmax(-1)
    expected = -log_p.gather(-1, tokens[:, 1:, None]).mean()
    assert float(loss) == pytest.approx(float(expected), rel=1e-6)


def test_recurrence_changes_the_function_but_no_parameter() -> None:
    model, ids_BT = tiny_recurrent(), random_ids(2, 9)
    before = {name: (p.shape, p.data_ptr()) for name, p in model.named_parameters()}
    with torch.no_grad():
        off = model.logits(ids_BT)
        model.recurrence(True)
        on = model.logits(ids_BT)
        model.recurrence(False)
        off_again = model.logits(ids_BT)
    assert before == {name: (p.shape, p.data_ptr()) for name, p in model.named_parameters()}
    assert (on - off).abs().max() > 1e-2
    assert torch.equal(off, off_again)


def test_without_loops_recurrence_changes_nothing() -> None:
    model, ids_BT = tiny_recurrent(num_loops=0), random_ids(2, 9)
    with torch.no_grad():
        off = model.logits(ids_BT)
        model.recurrence(True)
        assert torch.equal(model.logits(ids_BT), off)


def test_every_parameter_gets_a_gradient_with_recurrence() -> None:
    model, tokens = tiny_recurrent(), random_ids(2, 9)
    model.recurrence(True)
    model(tokens[:, :-1], tokens[:, 1:]).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().max() > 0, name


@pytest.mark.parametrize(
    "changes",
    [
        {"ln_scale": False},
        {"skip_gates": False},
        {"parallel_start": -1},
        {"xsa_last_n": 0},
        {"num_kv_heads": 1},
        {"num_kv_heads": 4},
        {"num_layers": 1, "num_loops": 0},
    ],
)
def test_each_option_changes_the_function(changes: dict[str, Any]) -> None:
    ids_BT = random_ids(2, 9)
    with torch.no_grad():
        plain, changed = tiny_recurrent().logits(ids_BT), tiny_recurrent(**changes).logits(ids_BT)
    assert torch.isfinite(changed).all()
    assert (plain - changed).abs().max() > 1e-3


def test_a_model_equals_a_slow_one_written_from_the_recipe() -> None:
    model, ids_BT = tiny_recurrent().double(), random_ids(1, 7)
    model.recurrence(True)
    with torch.no_grad():
        found = model.logits(ids_BT)[0]
        expected = _slow_logits({k: v.double() for k, v in model.state_dict().items()}, ids_BT[0])
    # Rotary angles are fp32 in the model.
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def _slow_logits(w: dict[str, torch.Tensor], ids_T: torch.Tensor) -> torch.Tensor:
    """recipe: 5 layers, 4/2 heads of 6, rope 4, loops over 1-2, parallel from 3, XSA from 2."""

    def norm(x: torch.Tensor) -> torch.Tensor:
        return x / (x.square().mean(-1, keepdim=True) + torch.finfo(torch.float32).eps).sqrt()

    def rotate(x_TK: torch.Tensor) -> torch.Tensor:
        out = x_TK.clone()
        for t in range(len(x_TK)):
            for i in range(2):
                angle = t / 10000.0 ** (2 * i / 4)
                a, b = x_TK[t, i], x_TK[t, i + 2]
                out[t, i] = a * math.cos(angle) + b * math.sin(angle)
                out[t, i + 2] = b * math.cos(angle) - a * math.sin(angle)
        return out

    def attend(layer: int, x_TD: torch.Tensor) -> torch.Tensor:
        p = f"blocks.{layer}.attn."
        q, k, v = (x_TD @ w[f"{p}{n}.weight"].T for n in ("c_q", "c_k", "c_v"))
        heads = []
        for h in range(4):
            g = h // 2
            q_TK = rotate(norm(q[:, h * 6 : h * 6 + 6])) * w[f"{p}q_gain"][h]
            k_TK, v_TK = rotate(norm(k[:, g * 6 : g * 6 + 6])), v[:, g * 6 : g * 6 + 6]
            scores = (q_TK @ k_TK.T / math.sqrt(6)).masked_fill(
                torch.ones(len(x_TD), len(x_TD)).triu(1).bool(), -math.inf
            )
            y_TK = scores.softmax(-1) @ v_TK
            if layer >= 2:
                unit = v_TK / v_TK.norm(dim=-1, keepdim=True)
                y_TK = y_TK - (y_TK * unit).sum(-1, keepdim=True) * unit
            heads.append(y_TK)
        return torch.cat(heads, -1) @ w[f"{p}proj.weight"].T

    def feed(layer: int, x_TD: torch.Tensor) -> torch.Tensor:
        hidden = x_TD @ w[f"blocks.{layer}.mlp.fc.weight"].T
        hidden = torch.where(hidden > 0, hidden, 0.5 * hidden) ** 2
        return hidden @ w[f"blocks.{layer}.mlp.proj.weight"].T

    def block(layer: int, x: torch.Tensor) -> torch.Tensor:
        p, scale = f"blocks.{layer}.", 1 / math.sqrt(layer + 1)
        x = w[f"{p}resid_mix"][0] * x + w[f"{p}resid_mix"][1] * x0
        y = x + w[f"{p}attn_scale"] * attend(layer, norm(x) * scale)
        return y + w[f"{p}mlp_scale"] * feed(layer, norm(x if layer >= 3 else y) * scale)

    x = x0 = norm(w["tok_emb.weight"][ids_T])
    stack = []
    for layer in (0, 1, 2, 1):  # 0 (1 2) (1 2) (1 2) 3 4 split in half
        x = block(layer, x)
        stack.append(x)
    for i, layer in enumerate((2, 1, 2, 3, 4)):
        if i < 4:
            gate = torch.sigmoid(w["skip_gates"][i])
            x = gate * x + (1 - gate) * w["skip_weights"][i] * stack.pop()
        x = block(layer, x)
    return 30.0 * torch.tanh(norm(x) @ w["tok_emb.weight"].T / 30.0)


def test_initial_weights_are_those_of_the_table() -> None:
    torch.manual_seed(0)
    sizes = {**FULL_SIZE, "vocab_size": 512, "num_layers": 6, "model_dim": 128}
    model = RecurrentGPT(**{**sizes, "num_heads": 4, "num_kv_heads": 2})
    block = model.blocks[0]
    assert model.tok_emb.weight.float().std().item() == pytest.approx(0.005, rel=0.05)
    for module in (block.attn.c_q, block.attn.c_k, block.mlp.fc):
        w = module.weight.detach()
        short = w if w.size(0) <= w.size(1) else w.T
        torch.testing.assert_close(short @ short.T, torch.eye(len(short)), atol=1e-5, rtol=0)
    assert block.attn.proj.weight.abs().max() == 0 and block.mlp.proj.weight.abs().max() == 0
    assert torch.equal(block.attn.q_gain, torch.full((4,), 5.25))
    assert torch.equal(model.skip_gates, torch.zeros_like(model.skip_gates))


def test_bf16_embedding_runs_and_learns_without_autocast() -> None:
    model, tokens = tiny_recurrent(embed_dtype="bf16"), random_ids(2, 9)
    loss = model(tokens[:, :-1], tokens[:, 1:])
    loss.backward()
    assert loss.dtype == torch.float32
    assert model.tok_emb.weight.grad.dtype == torch.bfloat16
    other = tiny_recurrent()
    other.load_state_dict(model.state_dict())
    torch.testing.assert_close(other(tokens[:, :-1], tokens[:, 1:]), loss)


def test_rotary_frequencies_are_rounded_where_the_model_says_so() -> None:
    exact, rounded = tiny_recurrent(), tiny_recurrent(rope_freq_dtype="bf16")
    rounded.load_state_dict(exact.state_dict())
    ids_BT = random_ids(2, 9)
    with torch.no_grad():
        assert not torch.equal(exact.logits(ids_BT), rounded.logits(ids_BT))
    assert not torch.equal(exact.rotary(9, ids_BT.float())[0], rounded.rotary(9, ids_BT.float())[0])


def test_bf16_autocast_is_close_to_fp32() -> None:
    # A gain of 5 would make attention of random weights pick single tokens, and rounding decide.
    model, ids_BT = tiny_recurrent(qk_gain_init=0.5), random_ids(2, 9)
    model.recurrence(True)
    with torch.no_grad():
        exact = model.logits(ids_BT)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            half = model.logits(ids_BT)
    # The products are in bf16, the cap is not.
    assert half.dtype == torch.float32 and not torch.equal(half, exact)
    assert F.cosine_similarity(half.float().flatten(), exact.flatten(), dim=0) > 0.99


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"num_heads": 5}, "model_dim"),
        ({"num_kv_heads": 3}, "num_kv_heads"),
        ({"rope_dims": 3}, "rope_dims"),
        ({"rope_dims": 8}, "rope_dims"),
        ({"loop_end": 5}, "loop_end"),
        ({"num_loops": -1}, "num_loops"),
        ({"vocab_size": 0}, "vocab_size"),
    ],
)
def test_impossible_sizes_are_the_users_error(changes: dict[str, Any], key: str) -> None:
    with pytest.raises(UserError, match=key):
        tiny_recurrent(**changes)


@pytest.mark.slow
def test_compiling_breaks_no_graph_and_once_for_each_state_of_the_recurrence() -> None:
    model, tokens = tiny_recurrent(), random_ids(2, 9)
    compiled_graphs = []

    def count(graph: torch.fx.GraphModule, _: Any) -> Any:
        compiled_graphs.append(graph)
        return graph.forward

    compiled = torch.compile(model, backend=count, fullgraph=True, dynamic=False)
    for on in (False, True, False, True):
        model.recurrence(on)
        loss = compiled(tokens[:, :-1], tokens[:, 1:])
        torch.testing.assert_close(loss, model(tokens[:, :-1], tokens[:, 1:]))
    assert len(compiled_graphs) == 2
