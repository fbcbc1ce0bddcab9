"""Faults of bytes, of what is scored, and of text that must not be seen."""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import zstandard

from pgolf.audit.pieces import read_pieces
from tests.audit.faults import change_config, fault, ship
from tests.audit.made import Made, training_of

# Bytes


def _pieces(made: Made) -> Any:
    return read_pieces(made.data / "tokenizer")


@fault("leading space counted twice", "sidecar, manifest and score in step", "RECOUNT")
def spaces_twice(made: Made) -> None:
    ids, pieces = made.values(), _pieces(made)
    made.rewrite(made.values(True) + [pieces.has_space(t) for t in ids], sidecar=True)


@fault("no space piece, or corrupted", "spaces count nothing", "RECOUNT")
def spaces_never(made: Made) -> None:
    ids, pieces = made.values(), _pieces(made)
    spaces = np.array([pieces.has_space(t) for t in ids]) & (made.values(True) > 0)
    made.rewrite(made.values(True) - spaces, sidecar=True)


@fault("byte-fallback pieces counted as 3", "sidecar", "RECOUNT")
def three_bytes(made: Made) -> None:
    is_byte = _pieces(made).byte[made.values()] >= 0
    made.rewrite(np.where(is_byte, 3, made.values(True)), sidecar=True)


@fault("case controls counted", "3 bytes for each control", "RECOUNT")
def controls(made: Made) -> None:
    pieces = _pieces(made)
    counted = np.array([pieces.has_control(t) for t in made.values()])
    made.rewrite(made.values(True) + 3 * counted, sidecar=True)


@fault("constant bytes per token", "4 for each", "RECOUNT")
def constant(made: Made) -> None:
    ids = made.values()
    made.rewrite(np.where(ids == ids[0], 0, 4), sidecar=True)


@fault("more: bytes", "characters are counted, not bytes", "RECOUNT")
def characters(made: Made) -> None:
    ids, pieces, counts = made.values(), _pieces(made), made.values(True).astype(np.int64)
    borders = _borders(made)
    for start, end in pairwise(borders.tolist()):
        text, _ = pieces.decode(ids[start + 1 : end])
        for place in range(start, end):
            left = int(counts[start:end].sum()) - len(text)
            counts[place] -= min(left, max(0, counts[place] - 1))
    made.rewrite(counts, sidecar=True)


@fault("more: bytes", "a byte more in one document", "RECOUNT")
def one_document(made: Made) -> None:
    counts = made.values(True)
    counts[int(np.flatnonzero(made.values() == made.values()[0])[5]) + 4] += 1
    made.rewrite(counts, sidecar=True)


@fault("lossy text scored as if raw", "documents of before a casefold", "ROUNDTRIP")
def lossy(made: Made) -> None:
    change_documents(made, lambda texts: [text.replace("a", "A") for text in texts])


def change_documents(made: Made, change: Callable[[list[str]], list[str]]) -> None:
    path = made.data / "documents" / "validation.jsonl.zst"
    rows = zstandard.ZstdDecompressor().decompressobj().decompress(path.read_bytes())
    texts = change([json.loads(line)["text"] for line in rows.splitlines()])
    lines = "".join(json.dumps({"text": text}) + "\n" for text in texts)
    path.write_bytes(zstandard.ZstdCompressor().compress(lines.encode()))


# What is scored


def _borders(made: Made) -> np.ndarray:
    ids = made.values()
    return np.append(np.flatnonzero(ids == ids[0]), len(ids))


def _keep(made: Made, places: np.ndarray, documents: int) -> None:
    ids, counts = made.values()[places], made.values(True)[places]
    made.rewrite(ids)
    made.rewrite(counts, sidecar=True)
    raw = json.loads((made.data / "manifest.json").read_text())
    raw["validation"]["num_documents"] = documents
    raw["validation"]["document_bytes"] = int(counts.sum())
    (made.data / "manifest.json").write_text(json.dumps(raw))
    made.settle()


@fault("sidecar read as tokens", "listed as one more shard", "COVER")
def sidecar_as_tokens(made: Made) -> None:
    raw = json.loads((made.data / "manifest.json").read_text())
    shard = raw["validation"]["shards"][0]
    raw["validation"]["shards"].append({**shard, "tokens": shard["sidecar"]})
    (made.data / "manifest.json").write_text(json.dumps(raw))


@fault("partial validation, dropped tail", "without the last three documents", "COVER")
def truncated(made: Made) -> None:
    borders = _borders(made)
    _keep(made, np.arange(borders[-4]), len(borders) - 4)


@fault("partial validation, dropped tail", "the last document has half its tokens", "RECOUNT")
def half_a_document(made: Made) -> None:
    borders = _borders(made)
    _keep(made, np.arange((borders[-2] + borders[-1]) // 2), len(borders) - 1)


@fault("partial validation, dropped tail", "the last 17 tokens are not scored", "COVER")
def dropped_tail(made: Made) -> None:
    result = made.result()
    result["bpb"]["final"]["tokens"] -= 17
    made.save(result)


@fault("more: what is scored", "an easy document in the place of others, texts too", "COVER")
def repeated(made: Made) -> None:
    borders = _borders(made)
    count = len(borders) - 1
    chosen = [*range(count - 6), *[1] * 6]
    _keep(made, np.concatenate([np.arange(borders[n], borders[n + 1]) for n in chosen]), count)
    change_documents(made, lambda texts: [texts[n] for n in chosen])


@fault("more: what is scored", "windows that leave tokens out and score others twice", "COVER")
def gaps(made: Made) -> None:
    from pgolf.eval import standard

    def windows(self: Any, count: int) -> Any:
        starts = np.arange(0, count, self.seq_len)
        return standard.Windows(starts, starts[[0, *range(len(starts) - 1)]], self.seq_len, 2)

    class Gaps(standard.StandardEvaluator):
        pass

    Gaps.windows = windows  # type: ignore[method-assign]
    standard.Gaps = Gaps  # type: ignore[attr-defined]
    change_config(
        made, eval={"_target_": "pgolf.eval.standard.Gaps", "seq_len": 64, "batch_seqs": 2}
    )


@fault("more: what is scored", "one token of a shard is another", "COVER")
def flipped_token(made: Made) -> None:
    path = made.data / made.manifest.validation.shards[0].tokens.path
    data = bytearray(path.read_bytes())
    data[1024 + 40] ^= 1
    path.unlink()
    path.write_bytes(bytes(data))


# Text that must not be seen


@fault("trained on validation, then scored", "ttt=prequant21 on validation", "LEDGER")
def prequant(made: Made) -> None:
    target = "pgolf.ttt.prequant.PreQuantTTT"
    change_config(made, ttt={"_target_": target, "source": "validation", "epochs": 21})


@fault("trained on validation, then scored", "its configuration named another method", "LEDGER")
def renamed_method(made: Made) -> None:
    epochs = [
        {"time": event["time"], "event": "ttt_epoch", "stage": "ttt", "epoch": 1, "train/loss": 1.0}
        for event in made.events()
        if event["event"] == "stage" and event["stage"] == "ttt" and event["status"] == "done"
    ]
    made.save_events([*made.events(), *epochs])


@fault("trained on validation, then scored", "adapted weights, no event of it", "LEDGER")
def adapted_in_silence(made: Made) -> None:
    result, events = made.result(), made.events()
    for event in events:
        if event["event"] == "score" and event["name"] == "adapted":
            for key in ("nats", "bpb", "nats_per_token"):
                event[key] *= 0.9
                result["bpb"]["adapted"][key] = event[key]
    made.save(result)
    made.save_events(events)


@fault("trained on validation, then scored", "validation text among the training text", "DISJOINT")
def validation_in_training(made: Made) -> None:
    training_of(made, np.concatenate([made.values(split="training"), made.values()]))


@fault("training and validation overlap", "one document in both", "DISJOINT")
def overlap(made: Made) -> None:
    borders, ids = _borders(made), made.values()
    shared = ids[borders[2] : borders[3]]
    training_of(made, np.concatenate([made.values(split="training"), shared]))


@fault("training and validation overlap", "copies with a token changed", "DISJOINT")
def edited_copies(made: Made) -> None:
    ids, starts = made.values(), _borders(made)[:-1]
    ids[starts + 2] = ids[starts + 1]
    training_of(made, np.concatenate([made.values(split="training"), ids]))


@fault("training and validation overlap", "copies without borders between them", "DISJOINT")
def joined_copies(made: Made) -> None:
    ids = made.values()
    joined = np.append(ids[0], ids[ids != ids[0]])
    training_of(made, np.concatenate([made.values(split="training"), joined]))


def _text(made: Made) -> bytes:
    path = made.data / "documents" / "validation.jsonl.zst"
    rows = zstandard.ZstdDecompressor().decompressobj().decompress(path.read_bytes())
    return "\n".join(json.loads(line)["text"] for line in rows.splitlines()).encode()


@fault("validation text stored in the artifact", "as text", "STORED")
def stored_text(made: Made) -> None:
    ship(made, "pgolf/table.bin", _text(made))


@fault("validation text stored in the artifact", "as token ids", "STORED")
def stored_ids(made: Made) -> None:
    ship(made, "pgolf/table.bin", made.values().astype("<i4").tobytes())


@fault("validation text stored in the artifact", "deflated, base85, a string of code", "STORED")
def stored_string(made: Made) -> None:
    packed = base64.b85encode(zlib.compress(_text(made))).decode()
    ship(made, "pgolf/table.py", f"TABLE = {packed!r}\n".encode())


@fault("quantization calibrated on validation", "the run says so", "LEDGER")
def calibration(made: Made) -> None:
    result, path = made.result(), made.run / "provenance.json"
    result["provenance"]["calibration"] = "validation text"
    made.save(result)
    path.write_text(json.dumps(json.loads(path.read_text()) | {"calibration": "validation text"}))
