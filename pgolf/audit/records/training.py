"""Does a script train on, adapt to or calibrate on validation text, and in which order?"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator

from pgolf.audit.records.flow import (
    MAX_LIFT,
    NO_GRAD,
    Flow,
    Function,
    called_name,
    is_scoring,
    place,
    trains,
)
from pgolf.audit.records.reach import CERTAIN, POSSIBLE, Hit, Settings, is_off

SCORER = re.compile(r"^_*(?:eval|score|validate|compute_(?:nll|loss|bpb)|accumulate)", re.I)
WARM_UP = re.compile(r"warm_?up|warmup", re.I)
CALIBRATION = re.compile(r"hessian|calib|collect_act", re.I)
DIAGNOSTIC = re.compile(r"%|every|last_step|should_|do_eval", re.I)
PASSES = re.compile(r"epoch|pass(?:es)?\b|rounds?\b", re.I)


def training_hits(flow: Flow, settings: Settings) -> list[Hit]:
    """All places where validation text is learned before, or while, it is scored."""
    hits: list[Hit] = []
    for function in flow.functions:
        for call in _training_calls(flow, function):
            hits += _judge(flow, settings, function, call, call.lineno, [function.name], False)
    hits += _calibration_hits(flow)
    return _distinct(hits)


def _training_calls(flow: Flow, function: Function) -> Iterator[ast.Call]:
    """Gradients of a loss on validation text, in a function that then changes weights."""
    if not trains(function):
        return
    for call in function.calls():
        loss: ast.expr | None = None
        if called_name(call) == "backward" and isinstance(call.func, ast.Attribute):
            loss = call.func.value
        elif called_name(call) == "grad" and call.args:
            loss = call.args[0]
        if loss is not None and flow.carries(function, loss, place(call)):
            yield call


def _judge(
    flow: Flow, settings: Settings, function: Function, call: ast.Call, origin: int,
    chain: list[str], unsure: bool,
) -> list[Hit]:  # fmt: skip
    """What an update at `call` means; seen from the caller where no score is beside it."""
    loop = function.outermost_loop(call)
    scores = _scores_in(flow, function, loop) if loop is not None else []
    before = [at for at in scores if at < place(call)]
    off = is_off(settings, function, call)
    if off:
        return []
    unsure = unsure or off is None
    if before:
        return _rescoring(function, call, loop, before, origin)
    if scores and not PASSES.search(_head(loop)):
        why = f"in {chain[0]} the update stands before the score of the same loop"
        # Fitted on a part of the window: perhaps on the part that was scored before.
        unsure = unsure or _of_a_part(function, call)
        return [Hit("adapts on a chunk, then scores it", origin, _sure(unsure), why, "LEDGER")]
    callers = list(flow.uses(function))
    if callers and len(chain) <= MAX_LIFT:
        found: list[Hit] = []
        for caller, other in callers:
            names = [*chain, caller.name]
            found += _judge(flow, settings, caller, other, origin, names, unsure)
        return found
    if function.name != "<module>" and not callers and function.name != "main":
        return []  # never called
    if any(WARM_UP.search(name) for name in chain) or (loop and WARM_UP.search(_head(loop))):
        why = f"{chain[0]} makes steps on validation text to warm up"
        return [Hit("warm-up steps on validation", origin, POSSIBLE, why, "LEDGER")]
    why = f"{chain[0]} updates weights by the loss on validation text, with no score before it"
    return [Hit("trained on validation, then scored", origin, _sure(unsure), why, "LEDGER")]


def _of_a_part(function: Function, call: ast.Call) -> bool:
    """Whether the loss is taken over a slice."""
    loss = call.func.value if isinstance(call.func, ast.Attribute) else call
    names = [node.id for node in ast.walk(loss) if isinstance(node, ast.Name)]
    values = [
        value for name in names for at, value in function.assigned.get(name, []) if at < place(call)
    ]
    return any(isinstance(n, ast.Slice) for value in [loss, *values] for n in ast.walk(value))


def _rescoring(
    function: Function, call: ast.Call, loop: ast.AST | None, before: list[int], origin: int
) -> list[Hit]:
    """Score, then update, is right; but not where a loop of passes goes around both."""
    for outer in function.around(call):
        if isinstance(outer, ast.For) and PASSES.search(_head(outer)):
            first, last = place(outer), _end(outer)
            if any(first < at < last for at in before):
                why = (
                    f"{function.name} scores again in each pass of the loop of line {outer.lineno}"
                )
                return [Hit("several passes, the last one counts", origin, POSSIBLE, why, "LEDGER")]
    return []


def _sure(unsure: bool) -> str:
    return POSSIBLE if unsure else CERTAIN


def _scores_in(flow: Flow, function: Function, loop: ast.AST) -> list[int]:
    """Places in a loop where validation text is scored without gradients."""
    found = []
    for node in function.nodes:
        if not (place(loop) < place(node) < _end(loop)) or _now_and_then(function, node):
            continue
        if isinstance(node, ast.With | ast.AsyncWith):
            heads = [ast.unparse(item.context_expr) for item in node.items]
            if any(map(NO_GRAD.search, heads)) and _feeds(flow, function, node):
                found.append(place(node))
        elif isinstance(node, ast.Call):
            own = flow.called(node)
            is_scorer = any(is_scoring(f) or _has_score(flow, f) for f in own)
            named = bool(SCORER.match(called_name(node)))
            if (is_scorer or named) and _given(flow, function, node):
                found.append(place(node))
    return found


def _now_and_then(function: Function, node: ast.AST) -> bool:
    """Under a condition such as `step % 100 == 0`: a diagnostic, not the score of each chunk."""
    return any(
        isinstance(outer, ast.If) and DIAGNOSTIC.search(ast.unparse(outer.test))
        for outer in function.around(node)
    )


def _has_score(flow: Flow, function: Function) -> bool:
    return not trains(function) and any(
        isinstance(node, ast.With) and any(NO_GRAD.search(ast.unparse(i)) for i in node.items)
        for node in function.nodes
    )


def _feeds(flow: Flow, function: Function, block: ast.AST) -> bool:
    """A call inside a block that gets validation text."""
    return any(
        isinstance(node, ast.Call) and _given(flow, function, node) for node in ast.walk(block)
    )


def _given(flow: Flow, function: Function, call: ast.Call) -> bool:
    values: Iterable[ast.expr] = [*call.args, *(keyword.value for keyword in call.keywords)]
    return any(flow.carries(function, value, place(value)) for value in values)


def _calibration_hits(flow: Flow) -> list[Hit]:
    """Hessians or ranges of activations taken from validation text."""
    hits = []
    for function in flow.functions:
        source = {called_name(call) for call in function.calls()}
        collects = "register_forward_hook" in source or CALIBRATION.search(function.name)
        if not collects or trains(function) or function.name.startswith(("eval", "<")):
            continue
        for call in function.calls():
            is_forward = not flow.called(call) and isinstance(call.func, ast.Name | ast.Attribute)
            model = re.search(r"model|forward|net\b", ast.unparse(call.func)) is not None
            if is_forward and model and _given(flow, function, call):
                certainty = CERTAIN if CALIBRATION.search(function.name) else POSSIBLE
                why = f"{function.name} runs the model on validation text to set the quantizer"
                hits.append(
                    Hit(
                        "quantization calibrated on validation",
                        call.lineno,
                        certainty,
                        why,
                        "LEDGER",
                    )
                )
    return hits


def _head(loop: ast.AST | None) -> str:
    if isinstance(loop, ast.For):
        return f"{ast.unparse(loop.target)} in {ast.unparse(loop.iter)}"
    return ast.unparse(loop.test) if isinstance(loop, ast.While) else ""


def _end(node: ast.AST) -> int:
    line = getattr(node, "end_lineno", None) or 0
    return int(line) * 1_000_000 + int(getattr(node, "end_col_offset", 0) or 0)


def _distinct(hits: list[Hit]) -> list[Hit]:
    """One hit a line and fault, the more certain one."""
    best: dict[tuple[str, int], Hit] = {}
    for hit in hits:
        key = (hit.fault, hit.line)
        if key not in best or (best[key].certainty, hit.certainty) == (POSSIBLE, CERTAIN):
            best[key] = hit
    return list(best.values())
