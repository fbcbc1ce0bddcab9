"""Stand-ins for the groups that a check of the configuration does not look into."""

from __future__ import annotations

import copy
from typing import Any


class Part:
    def __init__(self, *, settings: int = 0) -> None:
        self.settings = settings


class Tokenizer:
    def __init__(self, *, vocab_size: int) -> None:
        self.vocab_size = vocab_size


class BytesTokenizer:
    def __init__(self, *, vocab_size: int) -> None:
        self.vocab_size = vocab_size


class Window:
    """Test-time training or evaluation: has lengths."""

    def __init__(
        self,
        *,
        seq_len: int = 64,
        batch_seqs: int = 4,
        stride: int | None = None,
        chunk_tokens: int | None = None,
    ) -> None:
        self.seq_len, self.batch_seqs = seq_len, batch_seqs
        self.stride, self.chunk_tokens = stride, chunk_tokens


PARTS = "tests.config.parts"
CONFIG: dict[str, Any] = {
    "name": "a-run",
    "seed": 1,
    "out_dir": "outputs",
    "limits": {"artifact_bytes": 16_000_000, "train_s": 600, "evaluate_s": 600.0},
    "scale": {"model_dim": 32},
    "hardware": {"_target_": "pgolf.hardware.Hardware", "device": "cpu"},
    "tracking": {"_target_": "pgolf.tracking.none.NoTracking"},
    "audit": {"_target_": "pgolf.audit.auditor.Auditor", "mode": "none", "probes": []},
    "data": {"_target_": f"{PARTS}.Part"},
    "tokenizer": {"_target_": f"{PARTS}.Tokenizer", "vocab_size": 512},
    "model": {
        "_target_": "pgolf.model.recurrent.RecurrentGPT",
        **{"vocab_size": 512, "num_layers": 6, "model_dim": 32, "num_heads": 4},
        **{"num_kv_heads": 2, "rope_dims": 4, "train_seq_len": 64, "num_loops": 2},
        **{"loop_start": 2, "loop_end": 3, "parallel_start": 4, "xsa_last_n": 6},
    },
    "optim": {"_target_": "pgolf.optim.muon_adamw.MuonAdamW"},
    "train": {
        "_target_": "pgolf.train.trainer.Trainer",
        **{"seq_len": 64, "train_batch_tokens": 512, "micro_batch_seqs": 4},
        **{"num_steps": 4000, "max_seconds": 60},
    },
    "ttt": {"_target_": f"{PARTS}.Window", "seq_len": 64, "chunk_tokens": 512},
    "quant": {"_target_": f"{PARTS}.Part"},
    "codec": {"_target_": f"{PARTS}.Part"},
    "eval": {"_target_": f"{PARTS}.Window", "seq_len": 64, "stride": 32},
}


def config_with(**changes: Any) -> dict[str, Any]:
    """A valid configuration with changes; `model__num_heads=3` stands for model.num_heads=3."""
    config = copy.deepcopy(CONFIG)
    for path, value in changes.items():
        *groups, key = path.split("__")
        node = config
        for group in groups:
            node = node[group]
        node[key] = value
    return config
