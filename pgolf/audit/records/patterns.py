"""Known faults of published scripts, found in their syntax: one small function a class.

Each takes a script and gives the places it found. CERTAIN is a fault whatever the data are;
POSSIBLE is a place that a reader or a probe of the running scorer has to look at.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator

from pgolf.audit.records.flow import Flow, Function, called_name, place
from pgolf.audit.records.reach import CERTAIN, POSSIBLE, Hit, Settings, only_reached
from pgolf.audit.records.training import training_hits

SPACE_PIECE = "\u2581"
SCORE_NAME = re.compile(r"(?<![a-z])(?:nlls?|loss(?:es)?|bpb|nats|bits|ce)(?![a-z])", re.I)
PROBABILITY = re.compile(r"(?<![a-z])(?:p|q|probs?|probability|likelihood)(?![a-z])", re.I)
EVALUATES = re.compile(r"^_*(?:eval|score|validate|ttt|test_time)", re.I)
# `ttt_train_tokens` are validation tokens that were scored.
TRAIN_TEXT = re.compile(
    r"(?<!ttt_)(?<![a-z])train_(?:files?|shards?|loader|data|tokens|stream|path)", re.I
)
OPENS = re.compile(r"^_*(?:open|glob|fromfile|memmap|load|read|next_batch)|loader$", re.I)
FETCHES = frozenset({
    "urlopen", "urlretrieve", "hf_hub_download", "snapshot_download", "load_dataset", "get_kernel",
})  # fmt: skip
PACKERS = frozenset({"zlib", "lzma", "brotli", "bz2", "gzip", "zstandard", "zstd"})
HASHING = (ast.BitXor, ast.Mult)
# Longer than any window or chunk of a scorer.
MIN_LITERAL_TOKENS = 1 << 18

Pattern = Callable[[Flow], Iterator[Hit]]


def find_faults(tree: ast.Module, logged: dict[str, str] | None = None) -> list[Hit]:
    """All hits in a script, by line.

    Args:
        tree: the innermost layer.
        logged: settings that a log lists; they decide what is switched off.
    """
    flow = Flow(tree)
    settings = Settings(tree, logged or {})
    hits = training_hits(flow, settings)
    for pattern in PATTERNS:
        hits += pattern(flow)
    return sorted(only_reached(flow, settings, hits), key=lambda hit: (hit.line, hit.fault))


def byte_table(flow: Flow) -> Iterator[Hit]:
    """Bytes of tokens: a leading space counted twice, byte pieces as their names, a wrong ▁."""
    adds_space = _adds_leading_space(flow)
    for function in flow.functions:
        if "id_to_piece" not in {called_name(call) for call in function.calls()}:
            continue
        measures = [c for c in function.calls() if called_name(c) == "len" and _encodes(c)]
        if not measures:
            continue
        yield from _space_twice(function, adds_space)
        yield from _wrong_marker(function)
        yield from _byte_pieces(function, measures[0])


def _encodes(call: ast.Call) -> bool:
    return any(
        isinstance(n, ast.Call) and called_name(n) == "encode"
        for a in call.args
        for n in ast.walk(a)
    )


def _adds_leading_space(flow: Flow) -> bool:
    """Somewhere bytes grow by a table of leading spaces."""
    return any(
        isinstance(node, ast.AugAssign | ast.BinOp | ast.Assign)
        and "leading_space" in ast.unparse(node.value if not isinstance(node, ast.BinOp) else node)
        and re.search(r"boundary|prev|\[", ast.unparse(node)) is not None
        for function in flow.functions
        if "id_to_piece" not in {called_name(call) for call in function.calls()}
        for node in function.nodes
    )


def _space_twice(function: Function, adds_space: bool) -> Iterator[Hit]:
    for branch in _space_branches(function):
        text = "\n".join(ast.unparse(node) for node in branch.body)
        flagged = re.search(r"leading_space\w*\[.*?\] = (?:True|1)\b", text) is not None
        if not (flagged and adds_space):
            continue
        counted = re.search(r"len\([^\n]*encode\([^\n]*\)\) \+ 1\b|\b1 \+ len\(", text) is not None
        after = "\n".join(
            ast.unparse(node) for node in function.nodes
            if isinstance(node, ast.Assign) and place(node) > place(branch)
        )  # fmt: skip
        replaced = re.search(r"replace\(['\"]\u2581['\"], ['\"] ['\"]\)", text + after) is not None
        stripped = re.search(r"\[1:\]|lstrip\(|removeprefix\(", text + after) is not None
        taken_off = stripped or "replace(" in text + after
        if counted or (replaced and not stripped) or not taken_off:
            why = (
                f"{function.name} counts the leading space in the table, and scoring adds it again"
            )
            yield Hit("leading space counted twice", branch.lineno, CERTAIN, why, "RECOUNT")


def _space_branches(function: Function) -> Iterator[ast.If]:
    for node in function.nodes:
        if isinstance(node, ast.If) and any(
            isinstance(n, ast.Call) and called_name(n) == "startswith" for n in ast.walk(node.test)
        ):
            yield node


def _wrong_marker(function: Function) -> Iterator[Hit]:
    for branch in _space_branches(function):
        if "leading_space" not in "\n".join(ast.unparse(node) for node in branch.body):
            continue
        literals = [
            n.value for n in ast.walk(branch.test)
            if isinstance(n, ast.Constant) and isinstance(n.value, str)
        ]  # fmt: skip
        # A blank is looked for where pieces were turned into text before.
        if literals and SPACE_PIECE not in literals and " " not in literals:
            why = f"{function.name} looks for {literals[0]!r} where pieces begin with \u2581"
            yield Hit("▁ literal corrupted", branch.lineno, CERTAIN, why, "RECOUNT")


def _byte_pieces(function: Function, measure: ast.Call) -> Iterator[Hit]:
    tests = [n for n in function.nodes if isinstance(n, ast.If) and _asks_for_bytes(n.test)]
    others = [n for n in function.nodes if isinstance(n, ast.IfExp) and _asks_for_bytes(n.test)]
    if not tests and not others:
        why = f"{function.name} measures every piece by its text, so <0x41> would be six bytes"
        yield Hit("byte-fallback pieces not counted as 1", measure.lineno, POSSIBLE, why, "RECOUNT")
    for node in (node for test in tests for node in test.body if isinstance(node, ast.Assign)):
        count = getattr(node.value, "value", None)
        # A flag is no count; one byte is right.
        if type(count) is int and count not in (0, 1):
            why = f"{function.name} counts a byte piece as {count} bytes"
            fault = "byte-fallback pieces not counted as 1"
            yield Hit(fault, node.lineno, CERTAIN, why, "RECOUNT")


def _asks_for_bytes(test: ast.expr) -> bool:
    return "is_byte" in ast.unparse(test) or "<0x" in ast.unparse(test)


def constant_bytes(flow: Flow) -> Iterator[Hit]:
    """A BPB that is a loss divided by a constant number of bytes."""
    for function in flow.functions:
        for node in function.nodes:
            if not isinstance(node, ast.Assign) or not re.search(
                r"bpb", ast.unparse(node.targets[0])
            ):
                continue
            if not SCORE_NAME.search(ast.unparse(node.value)) or "byte" in ast.unparse(node.value):
                continue
            for part in ast.walk(node.value):
                if isinstance(part, ast.BinOp) and isinstance(part.op, ast.Div):
                    value = getattr(part.right, "value", None)
                    # ln 2, 8 and 1024 are units.
                    if isinstance(value, float) and 1.5 < value < 6.0:
                        why = f"the BPB divides by {value} bytes a token, whatever the text is"
                        yield Hit("constant bytes per token", node.lineno, CERTAIN, why, "RECOUNT")


def validation_in_training(flow: Flow) -> Iterator[Hit]:
    """The pattern of the training shards names validation shards."""
    for function in flow.functions:
        for name, rows in function.assigned.items():
            for at, value in rows:
                texts = (n.value for n in ast.walk(value) if isinstance(n, ast.Constant))
                found = any(isinstance(text, str) and "fineweb_val" in text for text in texts)
                if found and re.search(r"(?:^|_)train", name, re.I):
                    why = f"{name} names validation shards"
                    line = at // 1_000_000
                    yield Hit("trained on validation, then scored", line, CERTAIN, why, "DISJOINT")


def least_of_several(flow: Flow) -> Iterator[Hit]:
    """The minimum over predictors at each token, or over passes."""
    for function in flow.functions:
        for call in function.calls():
            name, text = called_name(call), ast.unparse(call.func)
            given = [ast.unparse(argument) for argument in call.args]
            scores = [word for word in given if SCORE_NAME.search(word)]
            of_two = name in ("minimum", "fmin") or text in ("torch.min", "np.min")
            if of_two and len(scores) >= 2:
                why = f"{text}({', '.join(given)[:60]}) takes the better of two scores of one token"
                yield Hit("min over predictors or passes", call.lineno, CERTAIN, why, "SUM")
            elif name in ("min", "amin") and any("stack" in w for w in scores):
                why = f"{text} takes the best of stacked scores"
                yield Hit("min over predictors or passes", call.lineno, CERTAIN, why, "SUM")
            elif (
                isinstance(call.func, ast.Name)
                and name == "min"
                and len(scores) >= 2
                and EVALUATES.match(function.name)
            ):
                why = f"{function.name} keeps the lower of two scores"
                yield Hit("min over predictors or passes", call.lineno, POSSIBLE, why, "LEDGER")


def hashed_counts(flow: Flow) -> Iterator[Hit]:
    """A ratio of counts in hash buckets: over the alphabet it does not sum to 1."""
    for function in flow.functions:
        hashed = {name for name, rows in function.assigned.items() if any(map(_is_hash, rows))}
        if not hashed:
            continue
        for node in function.nodes:
            if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
                top, below = _indexed_by(node.left), _indexed_by(node.right)
                if top & hashed and (below & hashed or re.search(r"ctx|total", str(below))):
                    why = f"{function.name} divides counts of hash buckets"
                    yield Hit("hashed n-gram ratio", node.lineno, POSSIBLE, why, "SUM")


def _is_hash(row: tuple[int, ast.expr]) -> bool:
    """`(a * prime ^ b) % size`, or `& mask`."""
    value = row[1]
    return (
        isinstance(value, ast.BinOp)
        and isinstance(value.op, ast.Mod | ast.BitAnd)
        and any(
            isinstance(n, ast.BinOp) and isinstance(n.op, HASHING) for n in ast.walk(value.left)
        )
    )


def _indexed_by(node: ast.AST) -> set[str]:
    """Names that index into something."""
    return {
        name.id
        for part in ast.walk(node)
        if isinstance(part, ast.Subscript)
        for name in ast.walk(part.slice)
        if isinstance(name, ast.Name)
    }


def byte_root(flow: Flow) -> Iterator[Hit]:
    """p ** (1 / n): a token's probability spread over its bytes is no distribution over bytes."""
    for function in flow.functions:
        for node in function.nodes:
            if not isinstance(node, ast.BinOp) or not isinstance(node.op, ast.Pow):
                continue
            power = node.right
            inverse = (
                isinstance(power, ast.BinOp)
                and isinstance(power.op, ast.Div)
                and isinstance(power.left, ast.Constant)
                and power.left.value == 1
                and not isinstance(power.right, ast.Constant)
            )
            if inverse and PROBABILITY.search(ast.unparse(node.left)):
                why = f"{ast.unparse(node)[:60]} is not normalised over bytes"
                yield Hit("byte mixture p^(1/n)", node.lineno, POSSIBLE, why, "SUM")


def training_text_in_evaluation(flow: Flow) -> Iterator[Hit]:
    """Shards of the training text opened, or a training loader asked, while evaluating."""
    for function in flow.functions:
        if not EVALUATES.match(function.name):
            continue
        for node in function.nodes:
            name = getattr(node, "attr", getattr(node, "id", ""))
            text = node.value if isinstance(node, ast.Constant) else ""
            is_name = isinstance(name, str) and TRAIN_TEXT.search(name) is not None
            if is_name or (isinstance(text, str) and "fineweb_train" in text):
                opened = any(
                    isinstance(outer, ast.Call) and OPENS.search(called_name(outer))
                    for outer in function.around(node)
                )
                why = f"{function.name} reads {name or text!r}"
                sure = CERTAIN if opened else POSSIBLE
                line = getattr(node, "lineno", 0)
                yield Hit("training data read at evaluation", line, sure, why, "RELOAD")
                break


def validation_in_artifact(flow: Flow) -> Iterator[Hit]:
    """Validation text that is compressed or saved."""
    for function in flow.functions:
        for call in function.calls():
            origin = ast.unparse(call.func).partition(".")[0].strip("_").lower()
            packs = called_name(call) == "compress" and origin.split("_")[0] in PACKERS
            saves = called_name(call) == "save" and origin == "torch"
            first = call.args[:1]
            if (packs or saves) and first and flow.carries(function, first[0], place(call)):
                why = f"{function.name} packs what comes from the validation text"
                yield Hit(
                    "validation text stored in the artifact", call.lineno, CERTAIN, why, "RELOAD"
                )


def cut_validation(flow: Flow) -> Iterator[Hit]:
    """Validation tokens up to a literal number."""
    for function in flow.functions:
        for node in function.nodes:
            if not isinstance(node, ast.Subscript) or not isinstance(node.slice, ast.Slice):
                continue
            upper = getattr(node.slice.upper, "value", None)
            is_long = isinstance(upper, int) and upper >= MIN_LITERAL_TOKENS
            from_start = is_long and node.slice.lower is None
            if from_start and flow.carries(function, node.value, place(node)):
                why = f"{ast.unparse(node)[:60]} leaves out the rest of the validation text"
                yield Hit("partial validation", node.lineno, POSSIBLE, why, "COVER")


def downloads(flow: Flow) -> Iterator[Hit]:
    """Something is fetched while the script runs."""
    for function in flow.functions:
        for call in function.calls():
            text = ast.unparse(call.func)
            web = re.match(r"(?:requests|httpx)\.(?:get|post)$", text) is not None
            if web or called_name(call) in FETCHES:
                why = f"{text} fetches over the network: the artifact is not self-contained"
                yield Hit("not self-contained", call.lineno, POSSIBLE, why, "RELOAD")


PATTERNS: tuple[Pattern, ...] = (
    byte_table,
    constant_bytes,
    validation_in_training,
    least_of_several,
    hashed_counts,
    byte_root,
    training_text_in_evaluation,
    validation_in_artifact,
    cut_validation,
    downloads,
)
