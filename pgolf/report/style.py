"""The page's style: light and dark, wide and narrow, nothing fetched."""

from __future__ import annotations

LIGHT = """
  --bg: #f4f5f7; --card: #ffffff; --ink: #14181f; --muted: #5a6372; --line: #e2e5ea;
  --accent: #2f5fd0; --good: #0c7a55; --good-bg: #e2f4ec; --warn: #9a4b00; --warn-bg: #fdeedb;
  --bad: #b3261e; --train: #3b6fe0; --evaluate: #12958a; --other: #8b94a3; --track: #e8ebf0;
"""
DARK = """
  --bg: #0e1116; --card: #161a21; --ink: #e8ebf0; --muted: #9ba5b4; --line: #2a313b;
  --accent: #7ea6ff; --good: #58d3a2; --good-bg: #10332a; --warn: #ffb661; --warn-bg: #3a2811;
  --bad: #ff8a80; --train: #6d98ff; --evaluate: #3cc4b7; --other: #7b8594; --track: #262c36;
"""
# Eight lines beside each other, told apart in both themes.
SERIES_LIGHT = ("2f5fd0", "c2410c", "0f8a5f", "9333a8", "b58100", "0e8fb0", "c0275d", "5b6472")
SERIES_DARK = ("7ea6ff", "ff9a62", "4fd1a0", "d494f0", "f0c04a", "55cdea", "ff86b0", "a8b2c1")


def palette() -> str:
    """Colours of a page whose reader may choose the theme by `data-theme` of the root element."""
    light, dark = LIGHT + _series(SERIES_LIGHT), DARK + _series(SERIES_DARK)
    return (
        f":root {{ color-scheme: light; {light} }}\n"
        "@media (prefers-color-scheme: dark) {\n"
        f":root:not([data-theme=light]) {{ color-scheme: dark; {dark} }}\n}}\n"
        f":root[data-theme=dark] {{ color-scheme: dark; {dark} }}\n"
    )


def _series(colours: tuple[str, ...]) -> str:
    return " ".join(f"--series-{index}: #{colour};" for index, colour in enumerate(colours))


CSS = (
    f"""
:root {{ color-scheme: light dark; {LIGHT} }}
@media (prefers-color-scheme: dark) {{
  :root {{ {DARK} }}
}}
"""
    + """
* { box-sizing: border-box; }
body {
  margin: 0; background: var(--bg); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif;
  font-variant-numeric: tabular-nums;
}
main { max-width: 1160px; margin: 0 auto; padding: 28px 24px 48px; }
header { display: flex; flex-wrap: wrap; align-items: baseline; gap: 4px 16px; }
header { margin-bottom: 18px; }
h1 { font-size: 22px; margin: 0; letter-spacing: -0.01em; }
h2 { font-size: 15px; margin: 0 0 10px; font-weight: 600; }
header .facts, .muted { color: var(--muted); }
.grid { display: grid; grid-template-columns: 1fr 1fr; gap: 18px; }
.card {
  background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 18px 20px;
  min-width: 0;
}
.stack { display: flex; flex-direction: column; gap: 18px; min-width: 0; }
.stack .grow { flex: 1; }
.whole { grid-column: 1 / -1; }
.headline { display: grid; grid-template-columns: auto 1fr; gap: 8px 40px; }
.score { font-size: 54px; line-height: 1.05; font-weight: 650; letter-spacing: -0.03em; }
.badge {
  display: inline-block; padding: 3px 12px; border-radius: 99px; font-weight: 600;
  color: var(--warn); background: var(--warn-bg);
}
.badge.good { color: var(--good); background: var(--good-bg); }
.verdict ul { margin: 8px 0 0; padding-left: 18px; }
.verdict li { margin-bottom: 4px; max-width: 78ch; }
.verdict li.note { color: var(--muted); }
.big { font-size: 22px; font-weight: 600; letter-spacing: -0.01em; }
.bar {
  display: flex; height: 16px; border-radius: 5px; overflow: hidden; background: var(--track);
  margin: 8px 0 6px;
}
.bar i { display: block; min-width: 2px; background: var(--fill); }
.bar i { border-right: 1px solid var(--card); }
.bar i:last-child { border-right: 0; }
.fill-train { --fill: var(--train); } .fill-evaluate { --fill: var(--evaluate); }
.fill-other { --fill: var(--other); } .fill-over { --fill: var(--bad); }
.budget + .budget { margin-top: 14px; }
.budget .title { display: flex; justify-content: space-between; gap: 12px; font-weight: 600; }
.budget .title .over { color: var(--bad); }
.stages { list-style: none; margin: 0; padding: 0; display: flex; flex-wrap: wrap; gap: 0 18px; }
.stages li { color: var(--muted); white-space: nowrap; }
.stages b { color: var(--ink); font-weight: 600; }
.stages i {
  display: inline-block; width: 10px; height: 10px; border-radius: 3px; margin-right: 6px;
  background: var(--fill);
}
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; }
th { text-align: left; color: var(--muted); font-weight: 500; font-size: 13px; }
th, td { padding: 6px 14px 6px 0; border-bottom: 1px solid var(--line); white-space: nowrap; }
tr:last-child td { border-bottom: 0; }
th.n, td.n { text-align: right; }
th:last-child, td:last-child { padding-right: 0; }
tr.final td { font-weight: 650; }
td small { display: block; color: var(--muted); font-weight: 400; font-size: 12.5px; }
td small { white-space: normal; }
table.facts td:first-child { color: var(--muted); vertical-align: top; width: 1%; }
table.facts td:last-child { white-space: normal; overflow-wrap: anywhere; }
details summary { cursor: pointer; font-weight: 600; }
details[open] summary { margin-bottom: 10px; }
pre, code { font: 13px/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; }
pre {
  overflow: auto; max-height: 520px; margin: 0; padding: 12px 14px; border-radius: 8px;
  background: var(--bg); border: 1px solid var(--line);
}
code { overflow-wrap: anywhere; }
a { color: var(--accent); }
p { margin: 0 0 8px; }
.links a { margin-right: 14px; }
.chart { display: block; width: 100%; height: auto; }
.chart.narrow { display: none; }
.chart text { font-size: 12px; fill: var(--muted); }
.chart .value {
  fill: var(--ink); paint-order: stroke; stroke: var(--card); stroke-width: 4px;
  stroke-linejoin: round;
}
.chart .strong { font-weight: 650; fill: var(--accent); }
.chart .grid { stroke: var(--line); stroke-width: 1; }
.chart .line { fill: none; stroke: var(--accent); stroke-width: 1.8; stroke-linejoin: round; }
.chart .line.soft { stroke: var(--muted); stroke-opacity: 0.5; stroke-width: 1.4; }
.chart .dot.full { fill: var(--accent); }
.chart .dot.hollow { fill: var(--card); stroke: var(--accent); stroke-width: 2; }
.chart .bin { fill: var(--accent); fill-opacity: 0.75; }
.chart .mark { stroke: var(--ink); stroke-width: 1.2; stroke-dasharray: 4 3; }
.halves { display: grid; grid-template-columns: minmax(0, 1fr) minmax(0, 1fr); gap: 14px 32px; }
.halves h3 { font-size: 13px; margin: 0 0 4px; font-weight: 500; color: var(--muted); }
.document { border-top: 1px solid var(--line); }
.document summary {
  display: flex; flex-wrap: wrap; gap: 0 12px; padding: 6px 0; margin: 0; font-weight: 400;
  border-radius: 4px;
}
.document summary:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
.document summary::before { content: "\\25b8"; width: 10px; }
.document[open] summary::before { content: "\\25be"; }
.document span { color: var(--muted); }
.document bdi {
  flex-basis: 100%; padding-left: 22px;
  overflow: hidden; text-overflow: ellipsis; white-space: nowrap;
}
.document pre { white-space: pre-wrap; overflow-wrap: anywhere; margin-bottom: 10px; }
.tabs { position: relative; }
.tabs input { position: absolute; opacity: 0; pointer-events: none; }
.tabs .choices { position: absolute; top: -34px; right: 0; display: flex; gap: 4px; }
.tabs label { padding: 2px 10px; border-radius: 6px; font-size: 13px; }
.tabs label { color: var(--muted); cursor: pointer; }
.tabs .pane { display: none; }
#by-step:checked ~ .pane.step, #by-second:checked ~ .pane.second { display: block; }
#by-step:checked ~ .choices label[for=by-step],
#by-second:checked ~ .choices label[for=by-second] { background: var(--track); color: var(--ink); }
#by-step:focus-visible ~ .choices label[for=by-step],
#by-second:focus-visible ~ .choices label[for=by-second] { outline: 2px solid var(--accent); }
@media (max-width: 860px) {
  .grid, .halves { grid-template-columns: minmax(0, 1fr); }
  .headline { grid-template-columns: minmax(0, 1fr); gap: 16px; }
}
@media (max-width: 480px) {
  main { padding: 18px 12px 36px; }
  .card { padding: 14px 14px; }
  .score { font-size: 44px; }
  .chart.wide { display: none; } .chart.narrow { display: block; }
  th, td { padding-right: 10px; }
  .wide-only { display: none; }
}
@media print { body { background: #fff; } .card { break-inside: avoid; } }
"""
)
