"""The page's sections that are plain HTML: headline, bars, tables. All text is escaped here."""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import Any

from pgolf.report import words
from pgolf.result import control_label

# Each stage of a budget is drawn a little lighter than the one before.
FADE = (1.0, 0.72, 0.5, 0.36, 0.26)
PROFILES = ("profile_recurrence_off.txt", "profile_recurrence_on.txt")
FILES = ("log.txt", "result.json", "events.jsonl", "config.yaml", *PROFILES)


def card(title: str, body: str, css: str = "") -> str:
    heading = f"<h2>{escape(title)}</h2>" if title else ""
    return f'<section class="card {css}">{heading}{body}</section>'


def headline(result: dict[str, Any]) -> str:
    """Final BPB, the badge with reasons, and the control beside it."""
    final, verdict = result["bpb"]["final"], result["eligibility"]
    number = "none" if final is None else words.bpb(final["bpb"])
    detail = "" if final is None else (
        f"{final['nats'] / final['tokens']:.4f} nats per token, {final['tokens']:,} tokens, "
        f"{final['bytes']:,} bytes"
    )  # fmt: skip
    points = [f"<li>{escape(sentence)}</li>" for sentence in verdict["reasons"]]
    if result["control"] is not None:
        points.append(
            f'<li class="note">For comparison: <b>{words.bpb(result["control"]["bpb"])}</b> BPB '
            f"({escape(control_label(result))}).</li>"
        )
    points += [f'<li class="note">{escape(sentence)}</li>' for sentence in verdict["notes"]]
    if (held := words.held(result)) is not None:
        points.append(f'<li class="note">Evaluation: {escape(held)}.</li>')
    good = " good" if verdict["eligible"] else ""
    return (
        '<div class="headline"><div>'
        f'<div class="score">{number}</div>'
        "<div>bits per byte, measured from the artifact</div>"
        f'<div class="muted">{detail}</div></div><div class="verdict">'
        f'<span class="badge{good}">{words.verdict(result)}</span> '
        f'<span class="muted">track {escape(verdict["track"])}</span>'
        f"<ul>{''.join(points)}</ul></div></div>"
    )


def artifact(sizes: dict[str, int]) -> str:
    """Bytes of the shipped folder against the limit."""
    total, limit = sizes["total_bytes"], sizes["limit"]
    over = total > limit
    scale = 100.0 / max(total, limit)
    parts = (("train", "model", sizes["model_bytes"]), ("evaluate", "code", sizes["code_bytes"]))
    bar = "".join(
        f'<i class="fill-{"over" if over else fill}" style="width:{size * scale:.3f}%"></i>'
        for fill, _, size in parts
    )
    legend = "".join(
        f'<li><i class="fill-{fill}"></i>{name} <b>{size:,}</b></li>' for fill, name, size in parts
    )
    room = f"{total - limit:,} over the limit" if over else f"{limit - total:,} left"
    return (
        f'<div><span class="big">{total:,}</span> of {limit:,} bytes, '
        f"{words.share(total, limit)}</div>"
        f'<div class="bar">{bar}</div>'
        f'<ul class="stages">{legend}<li>{room}</li></ul>'
    )


def scores(result: dict[str, Any]) -> str:
    """Every score with its change to the one before."""
    rows, before = [], None
    for name, score in result["bpb"].items():
        if score is None:
            continue
        css = ' class="final"' if name == "final" else ""
        rows.append(
            f"<tr{css}><td>{words.SCORE_LABELS[name]}<small>{words.SCORE_DETAILS[name]}</small></td>"
            f'<td class="n">{words.bpb(score["bpb"])}</td>'
            f'<td class="n">{words.change(score["bpb"], before)}</td>'
            f'<td class="n wide-only">{score["nats"]:,.1f}</td>'
            f'<td class="n wide-only">{score["tokens"]:,}</td>'
            f'<td class="n wide-only">{score["bytes"]:,}</td></tr>'
        )
        before = score["bpb"]
    return (
        '<div class="scroll"><table><tr><th>score</th><th class="n">BPB</th>'
        '<th class="n">change</th><th class="n wide-only">nats</th>'
        '<th class="n wide-only">tokens</th><th class="n wide-only">bytes</th></tr>'
        f"{''.join(rows)}</table></div>"
    )


def budgets(result: dict[str, Any]) -> str:
    """A bar for each budget: its stages against its limit, or against the longest budget."""
    longest = max((b["charged_s"] for b in result["budgets"]), default=0.0)
    return "".join(_budget(budget, result, longest) for budget in result["budgets"])


def _budget(budget: dict[str, Any], result: dict[str, Any], longest: float) -> str:
    limit, charged = budget["limit_s"], budget["charged_s"]
    over = limit is not None and charged > limit
    whole = max(charged, longest if limit is None else limit) or 1.0
    fill = budget["name"] if budget["name"] in ("train", "evaluate") else "other"
    bar, legend = [], []
    for index, stage in enumerate(budget["what"]):
        seconds, fade = result["seconds"][stage], FADE[min(index, len(FADE) - 1)]
        label, time = escape(words.stage_label(stage)), words.seconds(seconds)
        reused = " (reused)" if stage in result["reused"] else ""
        bar.append(
            f'<i class="fill-{fill}" style="width:{100 * seconds / whole:.3f}%;opacity:{fade}" '
            f'title="{label}: {time} s"></i>'
        )
        legend.append(
            f'<li><i class="fill-{fill}" style="opacity:{fade}"></i>{label} <b>{time}</b>'
            f"{reused}</li>"
        )
    of = "no limit" if limit is None else f"of {limit:,.0f} s"
    css = ' class="over"' if over else ""
    return (
        f'<div class="budget"><div class="title"><span>{escape(budget["name"])}</span>'
        f"<span{css}>{words.seconds(charged)} s <span class='muted'>{of}</span></span></div>"
        f'<div class="bar">{"".join(bar)}</div><ul class="stages">{"".join(legend)}</ul></div>'
    )


def facts(rows: list[tuple[str, str]]) -> str:
    """Names and values; an empty value leaves its row out."""
    body = "".join(
        f"<tr><td>{escape(name)}</td><td>{escape(value)}</td></tr>" for name, value in rows if value
    )
    return f'<div class="scroll"><table class="facts">{body}</table></div>'


def provenance(result: dict[str, Any]) -> str:
    """What ran, where and when; values that are not known to this page are shown as they are."""
    found = dict(result["provenance"])
    git = found.pop("git", None) or {}
    packages = found.pop("packages", None) or {}
    rows = [("configuration hash", result["config_hash"])]
    if git:
        state = f", with changes {str(git.get('diff_sha256'))[:12]}" if git.get("dirty") else ""
        rows.append(("commit", f"{git.get('commit') or 'none yet'}{state}"))
    rows += [(key.replace("_", " "), _plain(value)) for key, value in found.items()]
    rows.append(("packages", ", ".join(f"{name} {version}" for name, version in packages.items())))
    return facts(rows)


def _plain(value: Any) -> str:
    if isinstance(value, list):
        return " ".join(map(str, value))
    if isinstance(value, dict):
        return ", ".join(f"{key}: {_plain(item)}" for key, item in value.items())
    return "" if value is None else str(value)


def files(folder: Path) -> str:
    """Links that work while the page lies in its run folder, and the folder's path."""
    there = [name for name in FILES if (folder / name).exists()]
    links = " ".join(f'<a href="{name}">{name}</a>' for name in there)
    place = escape(str(folder.resolve()))
    return f"<p class='links'>{links}</p><p class='muted'>In <code>{place}</code></p>"


def folded(title: str, body: str) -> str:
    """A section that is closed until it is asked for."""
    return f'<details class="card whole"><summary>{escape(title)}</summary>{body}</details>'
