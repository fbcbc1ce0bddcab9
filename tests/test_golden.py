"""The comparisons of tests/golden.py as tests, and the command itself on folders made here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pgolf.distributed import World
from pgolf.eval.sliding import SlidingEvaluator
from pgolf.eval.standard import StandardEvaluator
from tests.golden import FILES, build_model, compare, cut_stream, main
from tests.model.tiny import tiny_recurrent
from tests.reference import require_reference


@pytest.mark.parametrize("file", FILES)
def test_published_outputs(file: str) -> None:
    folder = require_reference() / "golden"
    try:
        rows = compare(file, folder)
    except LookupError as reason:
        pytest.skip(str(reason))
    missed = [f"{r.name}: {r.deviation:.2e} > {r.tolerance:.0e}" for r in rows if not r.ok]
    assert rows and not missed


# Other heads, one loop, evaluation longer than training, XSA on the last layers, options off.
SIZES: dict[str, Any] = {
    "vocab_size": 61, "num_layers": 5, "model_dim": 24, "num_heads": 4, "num_kv_heads": 1,
    "mlp_mult": 3.0, "rope_base": 1000.0, "rope_dims": 4, "train_seq_len": 8, "eval_seq_len": 16,
    "eval_stride": 4, "num_loops": 1, "loop_start": 2, "loop_end": 2,
    "parallel_residual_start": 4, "xsa_last_n": 2, "qk_gain_init": 2.0, "logit_softcap": 20.0,
    "ln_scale": False, "skip_gates_enabled": False,
}  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of this project's own outputs: they are no reference, but the command is tested."""
    (tmp_path / "config.json").write_text(json.dumps(SIZES))
    source = tiny_recurrent(
        num_kv_heads=1, mlp_mult=3.0, num_loops=1, loop_start=2, loop_end=2, skip_gates=False
    )
    arrays = {f"w/{name}": value.numpy() for name, value in source.state_dict().items()}
    random = np.random.default_rng(0)
    arrays["ids"] = random.integers(0, 61, (2, 9))
    arrays["val_tokens"] = random.integers(0, 61, 70).astype(np.uint16)
    arrays["val_bytes"] = random.integers(0, 5, 70).astype(np.int32)
    model, ids = build_model(SIZES, arrays), torch.from_numpy(arrays["ids"])
    for on in (0, 1):
        model.recurrence(bool(on))
        with torch.no_grad():
            arrays[f"logits_loop{on}"] = model.logits(ids[:, :-1]).numpy()
            arrays[f"loss_loop{on}"] = model(ids[:, :-1], ids[:, 1:]).numpy()
    stream = cut_stream(arrays, 16)
    assert stream.num_tokens == 65
    for name, evaluator in (
        ("standard", StandardEvaluator(seq_len=16, batch_seqs=1)),
        ("sliding", SlidingEvaluator(seq_len=16, stride=4, batch_seqs=2)),
    ):
        score = evaluator.evaluate(model, stream, World())
        arrays[name] = np.array([score.nats_per_token, score.bpb])
    np.savez(tmp_path / "forward.npz", **arrays)
    np.savez(tmp_path / "evaluate.npz", **arrays)
    return tmp_path


def test_the_command_takes_sizes_from_the_folder(folder: Path, capsys: Any) -> None:
    assert main([str(folder)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert sum(line.startswith("PASS") for line in lines) == 8
    assert sum(line.startswith("SKIP") for line in lines) == 4


def test_the_command_exits_1_on_a_miss(folder: Path, capsys: Any) -> None:
    with np.load(folder / "evaluate.npz") as archive:
        arrays = {name: archive[name] for name in archive.files}
    arrays["sliding"] = arrays["sliding"] * (1 + 3e-6)
    np.savez(folder / "evaluate.npz", **arrays)
    assert main([str(folder)]) == 1
    failed = [line for line in capsys.readouterr().out.splitlines() if line.startswith("FAIL")]
    assert len(failed) == 2 and all("sliding" in line for line in failed)


def test_the_command_exits_2_where_there_is_nothing_to_compare(tmp_path: Path, capsys: Any) -> None:
    assert main([str(tmp_path)]) == 2
    (tmp_path / "config.json").write_text("{}")
    assert main([str(tmp_path)]) == 2
    assert "nothing to compare" in capsys.readouterr().err
