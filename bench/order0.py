"""Has the model learned? Its bits per byte beside those of an order-0 byte model of the same text.

python bench/order0.py RUN [--json] [--save]: RUN is a run folder. The order-0 model is given the
byte frequencies of the very validation text, so it is the best of its kind.
"""

from __future__ import annotations

import argparse
import math
from collections import Counter
from pathlib import Path

import record

from pgolf.clock import Clock
from pgolf.config import load_config
from pgolf.data.corpus import documents_of
from pgolf.events import EventLog
from pgolf.pipeline import cache_folder, checked_inputs
from pgolf.prepare import prepare
from pgolf.report.rundata import load_run
from pgolf.say import Say


def order0_bits_per_byte(run_folder: Path) -> float:
    """Entropy of the byte frequencies of the run's validation documents."""
    source, tokenizer = checked_inputs(load_config(run_folder))
    prepared = prepare(source, tokenizer, cache_folder(), EventLog(None), Clock({}), Say(None))
    counts: Counter[int] = Counter()
    for document in documents_of(prepared.documents, "validation"):
        counts.update(document.encode("utf-8"))
    total = sum(counts.values())
    return -sum(n / total * math.log2(n / total) for n in counts.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run_folder", type=Path, metavar="RUN")
    record.add_options(parser)
    options = parser.parse_args()
    bpb = load_run(options.run_folder).result["bpb"]
    order0 = order0_bits_per_byte(options.run_folder)
    figures = {
        "order-0 byte model, BPB": order0,
        "after training (average), BPB": bpb["ema"]["bpb"],
        "ratio after training": bpb["ema"]["bpb"] / order0,
        "from the artifact, BPB": bpb["final"]["bpb"],
        "cost of quantization, BPB": bpb["quantized"]["bpb"] - bpb["adapted"]["bpb"],
        "bytes of text": bpb["final"]["bytes"],
    }
    record.finish("order0", figures, options)


if __name__ == "__main__":
    main()
