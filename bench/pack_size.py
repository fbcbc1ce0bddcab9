"""Bytes of the packed script: what each step of shortening saves, and what each module costs.

python bench/pack_size.py [OVERRIDE ...] [--modules] [--json] [--save]: of experiment=v15 with fused
kernels unless overrides say otherwise, e.g. `hardware.kernels=plain`. Everything but the first two
lines is wrapped with brotli. With --modules, how much smaller the wrapped script would be without
each module (a minute).
"""

from __future__ import annotations

import argparse
import ast
import base64
import re
from typing import Any

import brotli
import record

from pgolf.bundle.compact import compact
from pgolf.bundle.minify import strip
from pgolf.bundle.rename import rename
from pgolf.bundle.wrap import wrap
from pgolf.config import compose
from pgolf.pack.script import Script, make_script

PUBLISHED = 24_893  # train_gpt.py of PR #1738, wrapped
DEFAULT = ["experiment=v15", "hardware.kernels=fused"]
# A run has the digest of its tokenizer here, which does not compress.
FINGERPRINT = "8ea9b5d3f1c2704e6a98d10bb47f35c29e6d01f83ba4c75e2098bd6f14a37c5e"


def script(config: dict[str, Any], **options: Any) -> Script:
    return make_script(
        config, label="eligible", tokenizer_fingerprint=FINGERPRINT, code_bytes=PUBLISHED, **options
    )


def wrapped(text: str) -> int:
    return len(wrap(text, "brotli"))


def steps(config: dict[str, Any]) -> dict[str, Any]:
    """Bytes after each step, each on top of those before it."""
    readable, short = script(config), script(config, short=True)
    in_letters = base64.b85encode(brotli.compress(ast.unparse(strip(readable.source)).encode()))
    folded = strip(short.source)
    found = {
        "readable": len(readable.data),
        "minified": len(short.data),
        "without docstrings, comments, annotations; data as base85": len(in_letters),
        "data as Latin-1": wrapped(ast.unparse(strip(readable.source))),
        "without what the configuration settles": wrapped(ast.unparse(folded)),
        "short names": wrapped(ast.unparse(rename(folded))),
        "no needless spaces, lines and brackets": wrapped(short.text),
        "lzma instead of brotli": len(wrap(short.text, "lzma")),
    }
    found["ratio to the published script"] = wrapped(short.text) / PUBLISHED
    return found


def modules(config: dict[str, Any]) -> dict[str, int]:
    """Bytes that each module and the configuration add to the wrapped script, most first."""
    parts = re.split(r"(?m)^(?=# -- )", script(config, short=True).source)
    texts = [compact(ast.unparse(strip(part))) for part in parts]
    whole = wrapped("".join(texts))
    found = {}
    for index, part in enumerate(parts[1:], 1):
        name = part.removeprefix("# -- ").partition(" --")[0]
        found[name] = whole - wrapped("".join(texts[:index] + texts[index + 1 :]))
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("overrides", nargs="*", default=DEFAULT)
    parser.add_argument("--modules", action="store_true", help="bytes that each module adds")
    record.add_options(parser)
    options = parser.parse_args()
    config = compose(["tracking=none", *options.overrides])
    figures: dict[str, Any] = {"overrides": " ".join(options.overrides), **steps(config)}
    if options.modules:
        figures["modules"] = modules(config)
    record.finish("pack_size", figures, options)


if __name__ == "__main__":
    main()
