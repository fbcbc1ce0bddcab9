"""A clean script in the manner of published ones, mutations of it by class, and a clean folder."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

TOKENS, BYTES = 47_851_520, 151_074_309

SCRIPT = '''\
"""A small stand-in for a published training script."""
import glob
import os
import numpy as np
import torch
import torch.nn.functional as F
import sentencepiece as spm


class Hyperparameters:
    train_files = os.path.join("data", "fineweb_train_*.bin")
    val_files = os.path.join("data", "fineweb_val_*.bin")
    seed = int(os.environ.get("SEED", 1337))
    ttt_enabled = bool(int(os.environ.get("TTT_ENABLED", "1")))
    prequant_ttt_enabled = bool(int(os.environ.get("PREQUANT_TTT_ENABLED", "0")))
    prequant_ttt_epochs = 21
    max_wallclock_seconds = 588.0


class ValidationData:
    def __init__(self, h, device):
        self.val_tokens = load_tokens(h.val_files, h.seq_len)
        self.base_bytes, self.has_leading_space, self.is_boundary = byte_tables(h, device)


def byte_tables(h, device):
    sp = spm.SentencePieceProcessor(model_file=h.tokenizer_path)
    base_bytes = np.zeros(8192, dtype=np.int16)
    has_leading_space = np.zeros(8192, dtype=bool)
    is_boundary = np.ones(8192, dtype=bool)
    for i in range(sp.vocab_size()):
        if sp.is_control(i) or sp.is_unknown(i):
            continue
        is_boundary[i] = False
        if sp.is_byte(i):
            base_bytes[i] = 1
            continue
        piece = sp.id_to_piece(i)
        if piece.startswith("\u2581"):
            has_leading_space[i] = True
            piece = piece[1:]
        base_bytes[i] = len(piece.encode("utf-8"))
    return torch.tensor(base_bytes), torch.tensor(has_leading_space), torch.tensor(is_boundary)


def load_tokens(pattern, seq_len):
    files = sorted(glob.glob(pattern))
    tokens = torch.cat([torch.from_numpy(np.fromfile(f, "<u2")) for f in files])
    usable = (tokens.numel() - 1) // seq_len * seq_len
    return tokens[: usable + 1]


class BigramHash(torch.nn.Module):
    def forward(self, ids):
        index = (ids[:, 1:] * 36313 ^ ids[:, :-1] * 27191) % self.table_size
        return self.embed(index) / self.scale


def collect_hessians(model, train_loader, h, device):
    hessians, hooks = {}, []

    def hook(module, inputs, output):
        x = inputs[0].flatten(0, 1).float()
        hessians[module].addmm_(x.T, x)

    for module in model.modules():
        hooks.append(module.register_forward_hook(hook))
    with torch.no_grad():
        for _ in range(h.calibration_batches):
            x, _ = train_loader.next_batch()
            model(x.to(device))
    return hessians


def eval_val(h, device, val_data, model, stride=64):
    loss_sum = byte_count = token_count = 0.0
    with torch.inference_mode():
        for start in range(0, val_data.val_tokens.numel() - 1, stride):
            chunk = val_data.val_tokens[start : start + 2049].to(device)
            x, y = chunk[:-1], chunk[1:]
            nll = F.cross_entropy(model(x), y, reduction="none")
            loss_sum += nll.sum()
            token_count += y.numel()
            step_bytes = val_data.base_bytes[y]
            step_bytes += val_data.has_leading_space[y] & ~val_data.is_boundary[x]
            byte_count += step_bytes.sum()
    val_loss = loss_sum / token_count
    bits_per_token = val_loss / 0.6931471805599453
    val_bpb = bits_per_token * token_count / byte_count
    return val_loss, val_bpb


def eval_val_ttt(h, device, val_data, model):
    loss_sum = 0.0
    optimizer = torch.optim.SGD(model.parameters(), lr=h.ttt_lr)
    chunks = [(s, s + 32768) for s in range(0, val_data.val_tokens.numel() - 1, 32768)]
    for index, (begin, end) in enumerate(chunks):
        model.eval()
        with torch.inference_mode():
            chunk = val_data.val_tokens[begin : end + 1].to(device)
            x, y = chunk[:-1], chunk[1:]
            loss_sum += F.cross_entropy(model(x), y, reduction="sum")
        if index == len(chunks) - 1:
            continue
        model.train()
        for epoch in range(h.ttt_epochs):
            optimizer.zero_grad()
            loss = F.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
    return loss_sum


def eval_val_documents(h, device, val_data, model):
    totals = torch.zeros(2)
    for begin, end in documents_of(val_data.val_tokens):
        lora = Lora(model)
        optimizer = torch.optim.Adam(lora.parameters())
        for at in range(begin, end, h.ttt_chunk):
            x = val_data.val_tokens[at : at + h.ttt_chunk]
            y = val_data.val_tokens[at + 1 : at + h.ttt_chunk + 1]
            per_token = forward_with(model, lora, x, y)
            with torch.no_grad():
                accumulate_bpb(totals, per_token, y)
            if at + h.ttt_chunk < end:
                per_token.mean().backward()
                optimizer.step()
    return totals


def prequant_ttt(h, model, device, val_tokens):
    pass


def train_model(h, device, val_data):
    model = build(h).to(device)
    optimizer = Muon(model.parameters())
    train_loader = Loader(h.train_files, device)
    best_val_bpb = float("inf")
    for step in range(h.iterations + 1):
        if step % h.val_loss_every == 0 or step == h.iterations:
            val_loss, val_bpb = eval_val(h, device, val_data, model)
            print(f"{step}/{h.iterations} val_loss: {val_loss:.4f} val_bpb: {val_bpb:.4f}")
        x, y = train_loader.next_batch()
        loss = F.cross_entropy(model(x), y)
        (loss / h.grad_accum_steps).backward()
        optimizer.step()
    return model


def serialize(h, model, code):
    import brotli

    blob = brotli.compress(pickle_of(model.state_dict()), quality=11)
    print(f"Code size: {len(code)} bytes")
    return len(blob) + len(code)


def main():
    h = Hyperparameters()
    device = torch.device("cuda")
    val_data = ValidationData(h, device)
    model = train_model(h, device, val_data)
    if h.prequant_ttt_enabled:
        prequant_ttt(h, model, device, val_data.val_tokens)
    hessians = collect_hessians(model, Loader(h.train_files, device), h, device)
    serialize(h, model, open(__file__).read())
    eval_val(h, device, val_data, model)
    if h.ttt_enabled:
        eval_val_ttt(h, device, val_data, model)
        eval_val_documents(h, device, val_data, model)


if __name__ == "__main__":
    main()
'''

PREQUANT = """\
def prequant_ttt(h, model, device, val_tokens):
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-4)
    for epoch in range(h.prequant_ttt_epochs):
        for begin in range(0, val_tokens.numel() - 1, 32768):
            local = val_tokens[begin : begin + 32769].to(device)
            x, y = local[:-1], local[1:]
            optimizer.zero_grad()
            loss = F.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
        print(f"prequant_ttt:epoch {epoch + 1}/{h.prequant_ttt_epochs}")
"""
PRINT, DIAGNOSTIC = "        print(", "        eval_val(h, device, val_tokens, model)\n"
OFF, ON = '"PREQUANT_TTT_ENABLED", "0"', '"PREQUANT_TTT_ENABLED", "1"'
EMPTY = "def prequant_ttt(h, model, device, val_tokens):\n    pass\n"
SCORE = """\
        with torch.inference_mode():
            chunk = val_data.val_tokens[begin : end + 1].to(device)
            x, y = chunk[:-1], chunk[1:]
            loss_sum += F.cross_entropy(model(x), y, reduction="sum")
        if index == len(chunks) - 1:
            continue
        model.train()
        for epoch in range(h.ttt_epochs):
            optimizer.zero_grad()
            loss = F.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
"""
ADAPT_FIRST = """\
        chunk = val_data.val_tokens[begin : end + 1].to(device)
        x, y = chunk[:-1], chunk[1:]
        for epoch in range(h.ttt_epochs):
            optimizer.zero_grad()
            loss = F.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
        with torch.inference_mode():
            loss_sum += F.cross_entropy(model(x), y, reduction="sum")
"""
BY_HAND = """\
            for p in model.parameters():
                p.data -= h.ttt_lr * p.grad
"""
CLOSURE = """\
        chunk = val_data.val_tokens[begin : end + 1].to(device)
        x, y = chunk[:-1], chunk[1:]
        bias = torch.zeros(8192, requires_grad=True)
        solver = torch.optim.LBFGS([bias])

        def closure():
            solver.zero_grad()
            loss = F.cross_entropy(model(x) + bias, y)
            loss.backward()
            return loss

        solver.step(closure)
        with torch.no_grad():
            loss_sum += F.cross_entropy(model(x) + bias, y, reduction="sum")
"""
LOOP = "    for index, (begin, end) in enumerate(chunks):\n"
WARM = """\
def warm_up_ttt(h, model, val_tokens):
    optimizer = torch.optim.SGD(model.parameters(), lr=h.ttt_lr)
    for _ in range(3):
        loss = F.cross_entropy(model(val_tokens[:2048]), val_tokens[1:2049])
        loss.backward()
        optimizer.step()


def main():
"""
CALL = "    if h.ttt_enabled:\n"
STRIP = "            piece = piece[1:]\n"
COUNT = '        base_bytes[i] = len(piece.encode("utf-8"))\n'
IS_BYTE = "        if sp.is_byte(i):\n            base_bytes[i] = 1\n            continue\n"
BPB = "val_bpb = bits_per_token * token_count / byte_count"
NLL = '            nll = F.cross_entropy(model(x), y, reduction="none")\n'
FEED = "            x, _ = train_loader.next_batch()\n            model(x.to(device))\n"

# Class, certainty, what is replaced in the clean script by what (several, in order).
MUTATIONS: dict[str, tuple[str, str, list[tuple[str, str]]]] = {
    "prequant": ("trained on validation, then scored", "CERTAIN", [(EMPTY, PREQUANT), (OFF, ON)]),
    "prequant with a diagnostic": (
        "trained on validation, then scored", "CERTAIN",
        [(EMPTY, PREQUANT.replace(PRINT, DIAGNOSTIC + PRINT)), (OFF, ON)],
    ),
    "prequant, the switch unknown": (
        "trained on validation, then scored", "POSSIBLE",
        [(EMPTY, PREQUANT), (f"bool(int(os.environ.get({OFF})))", 'ask("PREQUANT")')],
    ),
    "validation as training shards": (
        "trained on validation, then scored", "CERTAIN",
        [('train_files = os.path.join("data", "fineweb_train_*.bin")',
          'train_files = os.path.join("data", "fineweb_val_*.bin")')],
    ),
    "adapt first": ("adapts on a chunk, then scores it", "CERTAIN", [(SCORE, ADAPT_FIRST)]),
    "adapt first, with a closure": (
        "adapts on a chunk, then scores it", "CERTAIN", [(SCORE, CLOSURE)]
    ),
    "adapt first, by hand": (
        "adapts on a chunk, then scores it", "CERTAIN",
        [(SCORE, ADAPT_FIRST.replace("            optimizer.step()\n", BY_HAND))],
    ),
    "two passes": (
        "several passes, the last one counts", "POSSIBLE",
        [(LOOP + "        model.eval()\n" + SCORE,
          "    for epoch_index in range(2):\n" + "\n".join(
              "    " + line for line in (LOOP + "        model.eval()\n" + SCORE).splitlines()
          ) + "\n")],
    ),
    "warm-up": (
        "warm-up steps on validation", "POSSIBLE",
        [("def main():\n", WARM),
         (CALL, CALL + "        warm_up_ttt(h, model, val_data.val_tokens)\n")],
    ),
    "calibration": (
        "quantization calibrated on validation", "CERTAIN",
        [("Loader(h.train_files, device), h, device)", "Loader(h.val_files, device), h, device)")],
    ),
    "space counted in the table": (
        "leading space counted twice", "CERTAIN",
        [(STRIP, STRIP + '            base_bytes[i] = len(piece.encode("utf-8")) + 1\n'
                 "            continue\n")],
    ),
    "space not taken off": ("leading space counted twice", "CERTAIN", [(STRIP, "")]),
    "space replaced": (
        "leading space counted twice", "CERTAIN",
        [(STRIP, '            piece = piece.replace("\u2581", " ")\n')],
    ),
    "marker corrupted": ("▁ literal corrupted", "CERTAIN", [('"\u2581"', '"\u00e2\u2013\u0081"')]),
    "byte pieces by their name": (
        "byte-fallback pieces not counted as 1", "POSSIBLE", [(IS_BYTE, "")]
    ),
    "byte pieces as three": (
        "byte-fallback pieces not counted as 1", "CERTAIN",
        [("base_bytes[i] = 1\n", "base_bytes[i] = 3\n")],
    ),
    "constant bytes": (
        "constant bytes per token", "CERTAIN",
        [(BPB, "val_bpb = val_loss / 0.6931471805599453 / 3.5")],
    ),
    "min over predictors": (
        "min over predictors or passes", "CERTAIN",
        [(NLL, NLL + "            nll = torch.minimum(nll, other_nll(x, y))\n")],
    ),
    "min over predictors, by torch.min": (
        "min over predictors or passes", "CERTAIN",
        [(NLL, NLL + "            nll = torch.min(nll, other_nll(x, y))\n")],
    ),
    "min over passes": (
        "min over predictors or passes", "POSSIBLE",
        [("    return val_loss, val_bpb\n", "    return val_loss, min(val_bpb, best_bpb)\n")],
    ),
    "hashed n-grams": (
        "hashed n-gram ratio", "POSSIBLE",
        [(NLL, NLL + "            slot = (x * 36313 ^ y * 27191) % 65536\n"
               "            context = (x * 36313 ^ 7 * y) % 65536\n"
               "            p = pair_counts[slot] / context_counts[context]\n")],
    ),
    "byte root": (
        "byte mixture p^(1/n)", "POSSIBLE",
        [(NLL, NLL + "            p_byte = probs[y] ** (1.0 / n_bytes)\n")],
    ),
    "training text at evaluation": (
        "training data read at evaluation", "CERTAIN",
        [("    loss_sum = byte_count",
          "    table = load_tokens(h.train_files, 2048)\n    loss_sum = byte_count")],
    ),
    "text in the artifact": (
        "validation text stored in the artifact", "CERTAIN",
        [("    eval_val(h, device, val_data, model)\n    if",
          "    import lzma\n    some = val_data.val_tokens[:4096]\n"
          "    extra = lzma.compress(some.numpy().tobytes())\n"
          "    eval_val(h, device, val_data, model)\n    if")],
    ),
    "partial": (
        "partial validation", "POSSIBLE",
        [("    return tokens[: usable + 1]", "    return tokens[: usable + 1]\n\n\n"
          "def shorter(val_tokens):\n    return val_tokens[:8000000]\n\n\nx = shorter(y)")],
    ),
    "download": (
        "not self-contained", "POSSIBLE",
        [("    h = Hyperparameters()\n",
          "    h = Hyperparameters()\n    hf_hub_download('a/b', 'c')\n")],
    ),
}  # fmt: skip


def mutated(name: str) -> str:
    """The script with one fault."""
    text = SCRIPT
    for old, new in MUTATIONS[name][2]:
        if old not in text:
            raise AssertionError(f"{name}: the clean script has no {old!r}")
        text = text.replace(old, new)
    compile(text, name, "exec")
    return text


def log_text(seed: int, bpb: float, **change: Any) -> str:
    """A log in the form that published scripts of April 2026 write."""
    at = {
        "tokens": TOKENS, "bytes": BYTES, "train_ms": 588_070, "eval_ms": 122_000,
        "model": 15_950_000, "code": 20_000, "total": None, "head": "",
        "after": "GPTQ:collected 67 Hessians in 11.3s",
        "settings": {}, "final": "quantized_sliding_window", "extra": "",
    } | change  # fmt: skip
    loss = bpb * math.log(2) * at["bytes"] / at["tokens"]
    settings = {"max_wallclock_seconds": "588.0", "seed": str(seed), "ttt_enabled": "True"}
    settings |= at["settings"]
    rows = "\n".join(f"  {key}: {value}" for key, value in settings.items())
    total = at["total"] or at["model"] + at["code"]
    return f"""\
{at["head"]}W0418 torchrun: *****************************************
Hyperparameters:
{rows}
{"=" * 100}
train_shards: 80
val_tokens: {at["tokens"]}
gptq:reserving 12s, effective=588000ms
0/20000 val_loss: {9.009:.4f} val_bpb: {9.009 / loss * bpb:.4f}
500/20000 train_loss: 3.3900 train_time: 1.0m tok/s: 6430000
4552/20000 val_loss: {loss + 0.02:.4f} val_bpb: {bpb * (loss + 0.02) / loss:.4f}
stopping_early: wallclock_cap train_time: {at["train_ms"]}ms step: 4552/20000
{" ".join(exact("pre-quantization post-ema", loss + 0.01, bpb * (loss + 0.01) / loss))}
Serialized model: 135431033 bytes
Code size: {at["code"]} bytes
{at["after"]}
Serialized model quantized+brotli: {at["model"]} bytes
Total submission size quantized+brotli: {total} bytes
{at["extra"]}
{" ".join(exact(at["final"], loss, bpb, at["eval_ms"]))}
"""


def exact(name: str, loss: float, bpb: float, ms: int = 7000) -> list[str]:
    return [name, f"val_loss:{loss:.8f}", f"val_bpb:{bpb:.8f}", f"eval_time:{ms}ms"]


RESULTS = {1337: 1.08034, 42: 1.08118, 999: 1.08069}


def make_records(folder: Path, script: str = SCRIPT, **change: Any) -> Path:
    """A records folder without a fault; `submission` updates the claims, the rest goes to logs."""
    folder.mkdir(parents=True, exist_ok=True)
    claims: dict[str, Any] = {
        "name": "clean", "val_bpb": 1.08074, "val_bpb_std": 0.00042, "seeds": list(RESULTS),
        "seed_results": {
            str(s): {"val_bpb": bpb, "artifact_bytes": 15_970_000} for s, bpb in RESULTS.items()
        },
    }  # fmt: skip
    claims |= change.pop("submission", {})
    (folder / "submission.json").write_text(json.dumps(claims))
    (folder / "README.md").write_text("# A record\n\nval_bpb 1.08074, 3 seeds\n")
    (folder / "train_gpt.py").write_text(script)
    for seed, bpb in RESULTS.items():
        (folder / f"train_seed{seed}.log").write_text(log_text(seed, bpb, **change))
    return folder
