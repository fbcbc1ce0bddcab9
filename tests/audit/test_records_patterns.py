"""Each known fault is found in a script that has it, at its line, and in no clean script."""

from __future__ import annotations

import ast
import difflib

import pytest

from pgolf.audit.records.patterns import find_faults
from tests.audit.upstream_scripts import EMPTY, MUTATIONS, OFF, ON, PREQUANT, SCRIPT, mutated


def test_the_clean_script_has_no_fault() -> None:
    assert find_faults(ast.parse(SCRIPT)) == []


@pytest.mark.parametrize("name", MUTATIONS)
def test_each_fault_is_found_and_no_other(name: str) -> None:
    fault, certainty, _ = MUTATIONS[name]
    text = mutated(name)
    hits = find_faults(ast.parse(text))
    assert {(hit.fault, hit.certainty) for hit in hits} == {(fault, certainty)}, hits
    # The line is one that the mutation changed or stands near; calibration is seen in its function.
    matcher = difflib.SequenceMatcher(None, SCRIPT.splitlines(), text.splitlines(), autojunk=False)
    changed = [j for kind, *_, a, b in matcher.get_opcodes() if kind != "equal" for j in (a, b)]
    for hit in hits:
        assert min(abs(hit.line - 1 - j) for j in changed) <= 10 or "calibrated" in fault, hit


def test_a_switch_decides_by_the_log_and_else_by_its_default() -> None:
    off = SCRIPT.replace(EMPTY, PREQUANT)
    assert find_faults(ast.parse(off)) == []
    (hit,) = find_faults(ast.parse(off), {"prequant_ttt_enabled": "True"})
    assert hit.fault == "trained on validation, then scored" and hit.certainty == "CERTAIN"
    on = off.replace(OFF, ON)
    assert find_faults(ast.parse(on))
    assert find_faults(ast.parse(on), {"prequant_ttt_enabled": "False"}) == []


def test_names_may_be_shortened_and_lines_joined() -> None:
    text = (
        "import torch\n"
        "def f(A,B,C):\n"
        "\tE=torch.optim.AdamW(B.parameters())\n"
        "\tfor G in range(A.epochs):\n"
        "\t\tD=C[G:G+2049].to('cuda');H=D[:-1];I=D[1:];J=B(H,I);E.zero_grad();J.backward();E.step()\n"
        "def g(A):B=make(A);D=load(A.val_files);f(A,B,D)\n"
        "g(1)\n"
    )
    (hit,) = find_faults(ast.parse(text))
    assert hit.fault == "trained on validation, then scored" and hit.line == 5
    clean = text.replace("val_files", "train_files")
    assert find_faults(ast.parse(clean)) == []


def test_code_that_is_never_called_is_no_fault() -> None:
    text = SCRIPT.replace(EMPTY, PREQUANT).replace(OFF, ON)
    text = text.replace(
        "        prequant_ttt(h, model, device, val_data.val_tokens)\n", "        pass\n"
    )
    assert find_faults(ast.parse(text)) == []


@pytest.mark.parametrize(
    "line",
    [
        # A diagnostic that keeps the best checkpoint's number is no score.
        "            best_val_bpb = min(best_val_bpb, float(val_bpb))\n",
        # A learning rate schedule takes minima and powers.
        "            scale = min(1.0, step / 20) ** (1 / 2)\n",
        # Training text is read while training.
        "            more = load_tokens(h.train_files, 2048)\n",
        # A scaling of probabilities that is normalised afterwards.
        "            p = torch.softmax(model(step) / h.temperature, -1)\n",
        # Counts of exact n-grams, divided by their exact context.
        "            q = counts[step] / contexts[step]\n",
        # A size is no content.
        "            total = val_data.val_tokens.numel() / 8\n",
    ],
)
def test_look_alikes_are_no_faults(line: str) -> None:
    mark = "            val_loss, val_bpb = eval_val(h, device, val_data, model)\n            print"
    assert mark in SCRIPT
    text = SCRIPT.replace(mark, mark.replace("            print", line + "            print"))
    assert find_faults(ast.parse(text)) == []


def test_scoring_helpers_called_before_the_update_are_score_first() -> None:
    text = (
        "import torch\n"
        "def score_chunk(model, x, y):\n"
        "    with torch.no_grad():\n"
        "        return loss_of(model(x), y)\n"
        "def train_chunk(model, opt, x, y):\n"
        "    loss = loss_of(model(x), y)\n"
        "    loss.backward()\n"
        "    opt.step()\n"
        "def run(model, opt, val_tokens):\n"
        "    total = 0\n"
        "    for i in range(10):\n"
        "        x, y = val_tokens[i], val_tokens[i + 1]\n"
        "        total += score_chunk(model, x, y)\n"
        "        train_chunk(model, opt, x, y)\n"
        "run(a, b, load('fineweb_val_0.bin'))\n"
    )
    assert find_faults(ast.parse(text)) == []
    lines = text.splitlines(keepends=True)
    swapped = "".join([*lines[:12], lines[13], lines[12], lines[14]])
    (hit,) = find_faults(ast.parse(swapped))
    assert hit.fault == "adapts on a chunk, then scores it" and hit.line == 7


TIMED = (
    "import torch\n"
    "class H:\n"
    "    etlb_enabled = bool(int(ask('ETLB', '0')))\n"
    "def timed(label, fn, *args):\n"
    "    return fn(*args)\n"
    "def fit_and_score(h, val_data, model):\n"
    "    total = 0\n"
    "    for i in range(10):\n"
    "        x, y = val_data.val_tokens[i : i + 9], val_data.val_tokens[i + 1 : i + 10]\n"
    "        bias = torch.zeros(9)\n"
    "        loss = nll_of(model(x) + bias, y)\n"
    "        loss.backward()\n"
    "        bias.sub_(0.1 * bias.grad)\n"
    "        with torch.no_grad():\n"
    "            total += nll_of(model(x) + bias, y)\n"
    "    return total\n"
    "def main():\n"
    "    h, val_data = H(), read('fineweb_val_0.bin')\n"
    "    if h.etlb_enabled and h.sliding:\n"
    "        timed('etlb', fit_and_score, h, val_data, model)\n"
    "main()\n"
)


def test_what_is_switched_off_is_no_fault_even_when_called_through_another() -> None:
    off = TIMED.replace("bool(int(ask('ETLB', '0')))", "False")
    on = TIMED.replace("bool(int(ask('ETLB', '0')))", "True")
    assert find_faults(ast.parse(off)) == []
    (unknown,) = find_faults(ast.parse(TIMED))
    assert unknown.certainty == "POSSIBLE"
    # `sliding` is nowhere defined, so the condition as a whole stays unknown.
    (hit,) = find_faults(ast.parse(on.replace(" and h.sliding", "")))
    assert hit.fault == "adapts on a chunk, then scores it" and hit.certainty == "CERTAIN"
    part = on.replace(" and h.sliding", "").replace(
        "loss = nll_of(model(x) + bias, y)", "loss = nll_of(model(x) + bias, y)[:5].mean()"
    )
    (hit,) = find_faults(ast.parse(part))
    assert hit.certainty == "POSSIBLE"


def test_windows_gathered_in_a_buffer_are_scored_first() -> None:
    """As the accepted score-first scripts do: rows of a batch are filled from the stream."""
    text = (
        "import torch\n"
        "import torch.nn.functional as F\n"
        "def eval_ttt(h, val_data, base_model):\n"
        "    logits_of = torch.compile(base_model.forward_logits)\n"
        "    opt = torch.optim.SGD(base_model.parameters(), lr=h.lr)\n"
        "    for ci in range(h.num_chunks):\n"
        "        with torch.no_grad():\n"
        "            for starts in windows_of(ci):\n"
        "                xs = torch.zeros(len(starts), 2048)\n"
        "                ys = torch.zeros(len(starts), 2048)\n"
        "                for i, s in enumerate(starts):\n"
        "                    part = val_data.val_tokens[s : s + 2049]\n"
        "                    xs[i, :2048] = part[:-1]\n"
        "                    ys[i].copy_(part[1:])\n"
        "                nll = F.cross_entropy(logits_of(xs), ys)\n"
        "                total = total + nll\n"
        "        if ci < h.num_chunks - 1 and h.ttt_epochs > 0:\n"
        "            for _ep in range(h.ttt_epochs):\n"
        "                local = val_data.val_tokens[ci * 9 : ci * 9 + 10]\n"
        "                loss = base_model(local[:-1], local[1:])\n"
        "                loss.backward()\n"
        "                opt.step()\n"
        "def timed(label, fn, *args):\n"
        "    return fn(*args)\n"
        "timed('ttt', eval_ttt, h, read('fineweb_val_0.bin'), model)\n"
    )
    assert find_faults(ast.parse(text)) == []
    score = text[text.index("        with torch.no_grad()") : text.index("        if ci <")]
    without = text.replace(score, "")
    (hit,) = find_faults(ast.parse(without))
    assert hit.fault == "trained on validation, then scored" and hit.certainty == "CERTAIN"


@pytest.mark.parametrize(
    "branch",
    [
        # The space is taken off; further ones inside a piece become blanks.
        '            piece = piece[1:].replace("\u2581", " ")\n',
        '            piece = piece.removeprefix("\u2581")\n',
        '            piece = piece.lstrip("\u2581")\n',
    ],
)
def test_other_ways_to_take_the_space_off_are_right(branch: str) -> None:
    text = SCRIPT.replace("            piece = piece[1:]\n", branch)
    assert text != SCRIPT and find_faults(ast.parse(text)) == []


def test_pieces_turned_into_text_are_asked_for_a_blank() -> None:
    text = SCRIPT.replace("sp.id_to_piece(i)", 'sp.id_to_piece(i).replace("\u2581", " ")')
    text = text.replace('startswith("\u2581")', 'startswith(" ")')
    assert find_faults(ast.parse(text)) == []
