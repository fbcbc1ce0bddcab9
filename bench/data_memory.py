"""Memory and speed of `pgolf data prepare` on much text, over all of its processes.

python bench/data_memory.py [TEXT] [--mb 200] [--txt] [--tokenizer "tokenizer=bytes ..."] [--json]

TEXT's documents are repeated, each time with another first line, until there are so many MB; by
default it is the text of the reference data. With --txt they are one .txt file. Memory is the sum
of resident sizes over all processes, ten times a second, so pages that they share count in each.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import record

from pgolf.data.documents import read_documents

DEFAULT = Path(__file__).resolve().parents[2] / "shared" / "data" / "train_docs.jsonl.zst"
EVERY_S = 0.1


def write_text(source: Path, target: Path, num_bytes: float) -> None:
    """Documents as .jsonl, or one .txt, until there are num_bytes of text."""
    written, round_number = 0, 0
    with open(target, "w", encoding="utf-8") as file:
        while written < num_bytes:
            for text in read_documents(source):
                text = f"Round {round_number}\n{text}"
                is_txt = target.suffix == ".txt"
                line = f"{text}\n" if is_txt else json.dumps({"text": text}, ensure_ascii=False)
                file.write(f"{line}\n")
                written += len(text.encode("utf-8"))
                if written >= num_bytes:
                    break
            round_number += 1


def processes_below(pid: int) -> Iterator[int]:
    """A process and all that it has started."""
    yield pid
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return
    for child in children:
        yield from processes_below(int(child))


def resident_mib(pid: int) -> float:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return sum(int(line.split()[1]) for line in lines if line.startswith("VmRSS:")) / 1024


def run_and_watch(command: list[str]) -> tuple[dict, float, int]:
    """The command's answer, its peak of memory in MiB and its most processes."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        peak, most = 0.0, 0
        while process.poll() is None:
            pids = list(processes_below(process.pid))
            peak, most = max(peak, sum(map(resident_mib, pids))), max(most, len(pids))
            time.sleep(EVERY_S)
        assert process.stdout is not None
        answer = json.loads(process.stdout.read() or "{}")
    if process.returncode:
        raise SystemExit(process.returncode)
    return answer, peak, most


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("text", type=Path, nargs="?", default=DEFAULT, help="file or folder")
    parser.add_argument("--mb", type=float, default=200.0, help="of text")
    parser.add_argument("--txt", action="store_true", help="as one .txt file")
    parser.add_argument("--tokenizer", default="tokenizer=caseops_lossless scale.vocab_size=8192")
    parser.add_argument("--processes", type=int)
    record.add_options(parser)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        text = Path(folder) / ("text.txt" if options.txt else "text.jsonl")
        write_text(options.text, text, options.mb * 1e6)
        command = [sys.executable, "-m", "pgolf.cli", "data", "prepare", str(text), "--json"]
        command += ["-o", f"{folder}/shards", "--validation", "hash:0.02"]
        command += ["--processes", str(options.processes)] if options.processes else []
        answer, peak, most = run_and_watch([*command, *options.tokenizer.split()])
    splits = [answer["training"], answer["validation"]]
    figures = {
        "text, MB": sum(split["bytes"] for split in splits) / 1e6,
        "tokens": sum(split["tokens"] for split in splits),
        "peak memory over all processes, MiB": peak,
        "processes": most,
        "reading and dividing, s": answer["seconds"]["documents"],
        "tokenizer and encoding, s": answer["seconds"]["tokens"],
        "MB/s in all": answer["mb_per_s"],
    }
    record.finish("data_memory_txt" if options.txt else "data_memory", figures, options)


if __name__ == "__main__":
    main()
