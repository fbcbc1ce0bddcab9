"""`pgolf generate ARTIFACT "prompt"`: what a model says next.

ARTIFACT is a run, a folder made by `pgolf import`, or an artifact with --tokenizer. A text that
grows beyond the model's training length is continued from its newer half.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from pgolf.commands.output import Answer

HELP = "continue a prompt"


def arguments(parser: argparse.ArgumentParser) -> None:
    """What follows the command's name."""
    parser.add_argument("artifact", type=Path, metavar="ARTIFACT")
    parser.add_argument("prompt", nargs="?", default="", help='default: "", a new document')
    parser.add_argument("--tokens", type=int, default=100, metavar="N", help="at most (100)")
    parser.add_argument(
        "--temperature", type=float, default=0.8, help="0: always the likeliest token (0.8)"
    )
    parser.add_argument(
        "--top-p", type=float, default=0.95, help="share of probability that is drawn from (0.95)"
    )
    parser.add_argument("--seed", type=int, default=0, help="equal seeds, equal text (0)")
    parser.add_argument("--stream", action="store_true", help="print words as they come")
    parser.add_argument("--tokenizer", type=Path, metavar="PATH", help="a folder or .model file")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument(
        "--no-cache", action="store_true", help="read the whole window for every token"
    )


def run(options: argparse.Namespace) -> Answer:
    """`{prompt, text, tokens, tokens_per_s, ids}`."""
    from pgolf.generate import Sampling, generate

    streams = options.stream and not options.json
    if streams:
        _write(options.prompt)
    answer = generate(
        options.artifact,
        options.prompt,
        num_tokens=options.tokens,
        sampling=Sampling(options.temperature, options.top_p, options.seed),
        tokenizer=options.tokenizer,
        device=options.device,
        use_cache=not options.no_cache,
        on_text=_write if streams else None,
    )
    return {**answer, "streamed": streams}


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def show(answer: Answer) -> None:
    """Prompt and continuation, then a line on the side about the speed."""
    print("" if answer["streamed"] else f"{answer['prompt']}{answer['text']}")
    print(f"{answer['tokens']} tokens, {answer['tokens_per_s']} a second", file=sys.stderr)
