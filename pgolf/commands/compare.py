"""`pgolf compare RUN RUN ...`: finished runs side by side; `--against` tests one sample by another.

A sample is run folders, sweep folders, JSON files with BPB values by seed, or one bare number to
beat. A record is at least 0.005 nats better at p < 0.01; both readings of that unit are shown.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pgolf.commands.output import Answer
from pgolf.errors import UserError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from pgolf.audit.statistics import Comparison

HELP = "runs side by side, or tested against others"


def arguments(parser: argparse.ArgumentParser) -> None:
    """What follows the command's name."""
    parser.add_argument("runs", nargs="+", metavar="RUN", help="with --against: any sample")
    parser.add_argument(
        "--against", nargs="+", metavar="B", help="runs, sweeps, JSON files or a number to beat"
    )
    parser.add_argument("--alpha", type=float, default=0.01, help="level of the test (0.01)")
    parser.add_argument(
        "--power", type=float, default=0.9, help="for the number of seeds needed (0.9)"
    )


def run(options: argparse.Namespace) -> Answer:
    """The results, in the order given; or the comparison of two samples."""
    if options.against is None:
        return _side_by_side([Path(place) for place in options.runs])
    for name in ("alpha", "power"):
        if not 0.0 < getattr(options, name) < 1.0:
            raise UserError(f"--{name} {getattr(options, name)}: expected a share between 0 and 1")
    from pgolf.audit.samples import read_side
    from pgolf.audit.statistics import compare_sides

    side, notes = read_side(options.runs)
    against, notes_against = read_side(options.against)
    if side.fixed:
        raise UserError("a bare number can only be compared against: give it after --against")
    compared = compare_sides(side, against, alpha=options.alpha, power=options.power)
    compared.warnings.extend(dict.fromkeys(notes + notes_against))
    return {"comparison": _as_answer(compared)}


def _side_by_side(places: list[Path]) -> Answer:
    """Results of runs, in the order given, and of the finished ones below other folders."""
    from pgolf.report.folders import find_runs, is_run
    from pgolf.report.history import read_run
    from pgolf.report.overview import loss_means
    from pgolf.report.rundata import load_run

    folders: list[Path] = []
    failed: list[Answer] = []
    for place in places:
        if is_run(place) or not place.is_dir():  # what is no folder is named by load_run
            folders.append(place)
            continue
        finished = [f for f in find_runs([place])[0] if (f / "result.json").is_file()]
        if not finished:
            raise UserError(f"no finished run in {place}: name run folders, or a folder of runs")
        for folder in finished:
            history = read_run(folder)
            if history.result is None:  # one of many: it is named, the others are compared
                failed.append({"run": str(folder), "reason": history.broken})
            else:
                folders.append(folder)
    return {
        "runs": [load_run(folder).result for folder in folders],
        "losses": [loss_means(read_run(folder)) for folder in folders],
        "failed": failed,
    }


def _as_answer(compared: Comparison) -> Answer:
    """The comparison as JSON values, with mean and deviation of each sample."""
    answer = asdict(compared)
    for name, side in (("side", compared.side), ("against", compared.against)):
        answer[name] |= {"n": len(side.scores), "mean": side.mean, "std": side.std}
    return answer


def show(answer: Answer) -> None:
    """The table that a sweep ends with, or the samples and the test."""
    from rich.console import Console

    console = Console()
    if "runs" in answer:
        from pgolf.report.sweep import print_sweep

        if not console.is_terminal:
            console.width = 200  # in a file, nothing need be cut short
        failed = [(row["run"], row["reason"]) for row in answer["failed"]]
        losses = answer["losses"]
        print_sweep(answer["runs"], failed, console, losses, title="comparison", noun="runs")
        return
    _show_comparison(answer["comparison"], console)


def _show_comparison(compared: Answer, console: Console) -> None:
    from rich.console import Group
    from rich.padding import Padding
    from rich.text import Text

    from pgolf.report.table import print_trimmed

    parts: list[Any] = [
        _seeds(compared),
        _test(compared),
        _margins(compared),
        Text(_record(compared)),
    ]
    parts += [Text(f"warning: {text}", style="yellow") for text in compared["warnings"]]
    spaced = [item for part in parts for item in (Text(""), part)]
    print_trimmed(Padding(Group(*spaced), (0, 1)), console)


def _table(*columns: str) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1), show_edge=False)
    table.add_column(columns[0], overflow="fold")
    for name in columns[1:]:
        table.add_column(name, justify="right")
    return table


def _seeds(compared: Answer) -> Table:
    from rich.text import Text

    table = _table("sample", "seed", "BPB", "nats/token")
    for key, name in (("side", "runs"), ("against", "against")):
        side = compared[key]
        for score in side["scores"]:
            per_token = (
                score["bpb"] * 0.6931471805599453 * score["bytes"] / score["tokens"]
                if score["bytes"] and score["tokens"]
                else None
            )
            seed = "-" if score["seed"] is None else str(score["seed"])
            label = Text(f"{name}: {score['label']}")
            table.add_row(label, seed, f"{score['bpb']:.5f}", _n(per_token))
        table.add_row(f"{name}: mean of {side['n']}", "", f"{side['mean']:.5f}", "")
        table.add_row(f"{name}: std (n - 1)", "", _n(side["std"]), "", end_section=True)
    return table


def _test(compared: Answer) -> Table:
    table = _table("improvement (positive: the runs are better)", "BPB", "nats/byte", "nats/token")
    values = [
        compared[f"improvement_{unit}"] for unit in ("bpb", "nats_per_byte", "nats_per_token")
    ]
    table.add_row("difference of the means", *map(_n, values))
    if compared["interval_bpb"]:
        scale = compared["improvement_nats_per_token"]
        ratio = (
            scale / compared["improvement_bpb"] if scale and compared["improvement_bpb"] else None
        )
        for index, end in enumerate(("low", "high")):
            bpb, nats = compared["interval_bpb"][index], compared["interval_nats_per_byte"][index]
            name = f"{compared['confidence']:.0%} confidence, {end} end"
            table.add_row(name, _n(bpb), _n(nats), _n(bpb * ratio if ratio else None))
        table.add_row(
            f"Welch's t = {compared['t']:.3f}, {compared['df']:.2f} degrees of freedom, "
            f"p = {compared['p_two_sided']:.3g} (two-sided)"
        )
    else:
        table.add_row("no test: a sample has no spread (fewer than two different scores)")
    return table


def _margins(compared: Answer) -> Table:
    table = _table("0.005 nats, read as", "BPB", "t beyond it", "p", "record", "seeds a side")
    for margin in compared["margins"]:
        needed = "-" if margin["seeds_needed"] is None else str(margin["seeds_needed"])
        p = "-" if margin["p"] is None else f"{margin['p']:.3g}"
        record = "yes" if margin["record"] else "-" if margin["p"] is None else "no"
        table.add_row(margin["unit"], _n(margin["bpb"]), _n(margin["t"], 3), p, record, needed)
    return table


def _record(compared: Answer) -> str:
    alpha, power = compared["alpha"], compared["power"]
    return (
        f"record: the improvement reaches the margin and p (one-sided, beyond it) < {alpha:g}; "
        f"seeds a side: for power {power:g} if the observed means and deviations are the true ones"
    )


def _n(value: float | None, digits: int = 5) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
