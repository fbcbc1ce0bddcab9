"""report.html: one page about one run that needs no network and no other file."""

from __future__ import annotations

from html import escape
from pathlib import Path

from pgolf.files import atomic_writer
from pgolf.report import audit, charts, documents, sections, tensors, tokenizer, words
from pgolf.report.rundata import RunData, load_run
from pgolf.report.style import CSS


def write_report(run_folder: Path) -> Path:
    """Write `report.html` into a run folder from its result, events and configuration.

    Raises:
        UserError: the folder has no result, or it cannot be written.
    """
    page = render(load_run(run_folder))
    path = run_folder / "report.html"
    with atomic_writer(path, "w") as file:
        file.write(page)
    return path


def render(run: RunData) -> str:
    """The whole page as text."""
    result = run.result
    body = "".join([
        sections.card("", sections.headline(result), "whole"),
        sections.card("Bits per byte along the stages", charts.score_chart(result["bpb"])),
        sections.card("Training loss", _loss(run)),
        *_limits(run),
        sections.card("Scores", sections.scores(result), "whole"),
        audit.card(run.audit),
        documents.card(run.documents, words.final_bpb(result)),
        tokenizer.card(run.tokenizer),
        tensors.card(run.tensors),
        sections.card("Files", sections.files(run.folder), "whole"),
        _configuration(run),
        sections.folded("Provenance", sections.provenance(result)),
    ])  # fmt: skip
    title = escape(f"{result['name']}, seed {result['seed']}")
    time = str(result["provenance"].get("time", ""))
    when = escape(time.replace("T", " ").replace("+00:00", " UTC"))
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{title}</title><style>{CSS}</style></head><body><main>"
        f"<header><h1>{escape(result['name'])}</h1>"
        f'<span class="facts">seed {result["seed"]}</span>'
        f'<span class="facts">run {escape(result["run_id"])}</span>'
        f'<span class="facts">{when}</span></header>'
        f'<div class="grid">{body}</div></main></body></html>\n'
    )


def _loss(run: RunData) -> str:
    """The curve against steps, and against seconds at a click."""
    if not run.loss_by_step:
        return '<p class="muted">Training was reused: its curve lies in the run that trained.</p>'
    panes = [
        (css, charts.line_chart(points, x_title=x, y_title="nats per token", label=label, unit=css))
        for css, points, x, label in (
            ("step", run.loss_by_step, "step", "Training loss against steps"),
            ("second", run.loss_by_second, "seconds", "Training loss against seconds"),
        )
    ]
    inputs = "".join(
        f'<input type="radio" name="axis" id="by-{css}"{" checked" if css == "step" else ""}>'
        for css, _ in panes
    )
    labels = "".join(f'<label for="by-{css}">{css}s</label>' for css, _ in panes)
    drawings = "".join(f'<div class="pane {css}">{drawing}</div>' for css, drawing in panes)
    return f'<div class="tabs">{inputs}<div class="choices">{labels}</div>{drawings}</div>'


def _limits(run: RunData) -> list[str]:
    """Bytes and seconds against their limits, and the curve of test-time training if any."""
    adapted = _ttt(run)
    artifact = sections.card("Artifact", sections.artifact(run.result["artifact"]), "grow")
    budgets = sections.card("Seconds by budget", sections.budgets(run.result), "grow")
    width = "" if adapted else " whole"
    return [
        f'<div class="stack{width}">{adapted}{artifact}</div>',
        f'<div class="stack{width}">{budgets}</div>',
    ]


def _ttt(run: RunData) -> str:
    """The curve over epochs or over the text: BPB where it was measured, else the loss."""
    if run.ttt_bpb:
        chart = charts.line_chart(
            run.ttt_bpb, x_title="epoch", y_title="bits per byte", unit="epoch", dots=True,
            label="Bits per byte after each epoch of test-time training",
        )  # fmt: skip
        return sections.card("Test-time training, validation BPB", chart)
    if run.ttt_loss:
        chart = charts.line_chart(
            run.ttt_loss, x_title="epoch", y_title="nats per token", unit="epoch", dots=True,
            label="Loss in each epoch of test-time training",
        )  # fmt: skip
        return sections.card("Test-time training, loss", chart)
    if run.ttt_gain:
        chart = charts.line_chart(
            run.ttt_gain, x_title="tokens scored", y_title="bits per byte", unit="token",
            label="What the unadapted model needs more on the same tokens",
        )  # fmt: skip
        return sections.card("Gain of adapting while scoring", chart)
    if run.ttt_running:
        chart = charts.line_chart(
            run.ttt_running, x_title="tokens scored", y_title="bits per byte", unit="token",
            label="Bits per byte of the tokens scored so far",
        )  # fmt: skip
        return sections.card("Adapting while scoring", chart)
    return ""


def _configuration(run: RunData) -> str:
    overrides = " ".join(run.result["overrides"]) or "none"
    body = f"<p>Overrides: <code>{escape(overrides)}</code></p>"
    if run.config:
        body += f"<pre>{escape(run.config)}</pre>"
    return sections.folded("Configuration", body)
