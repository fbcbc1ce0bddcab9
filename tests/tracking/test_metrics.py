"""Names under which a tracker sees events and results."""

from __future__ import annotations

from pgolf.tracking.metrics import AXES, metrics_of, summary_of
from pgolf.tracking.none import NoTracking
from tests.report.fixtures import make_events, make_result


def test_losses_of_training_and_ttt_do_not_share_a_curve():
    step = {"time": 1, "event": "train_step", "stage": "train", "step": 5, "train/loss": 2}
    epoch = {"event": "ttt_epoch", "stage": "ttt", "epoch": 1, "lr": 0.1, "train/loss": 1}
    (train, _), (ttt, _) = metrics_of(step), metrics_of(epoch)
    assert train == {"step": 5, "train/loss": 2}
    assert ttt == {"ttt/epoch": 1, "ttt/lr": 0.1, "ttt/loss": 1}


def test_the_running_score_is_drawn_over_tokens_beside_the_unadapted_one():
    event = {"event": "ttt_curve", "stage": "final", "tokens": 64, "bpb": 2, "unadapted_bpb": 3}
    curves, summary = metrics_of(event)
    assert curves == {
        "ttt_curve/tokens": 64, "ttt_curve/bpb": 2, "ttt_curve/unadapted_bpb": 3,
    }  # fmt: skip
    assert summary == {}


def test_every_curve_has_its_axis_in_the_same_row():
    curve = {"event": "ttt_curve", "stage": "final", "tokens": 64, "bpb": 2}
    for event in [*make_events(), curve]:
        curves, _ = metrics_of(event)
        for metric, axis in AXES.items():
            prefix = metric.rstrip("*")
            if any(key.startswith(prefix) for key in curves):
                assert axis in curves


def test_summary_has_every_figure_of_the_result():
    result = make_result()
    summary = summary_of(result)
    assert summary["bpb/quantized"] == result["bpb"]["quantized"]["bpb"]
    assert summary["bytes/final"] == result["bpb"]["final"]["bytes"]
    assert summary["bpb/control"] == result["control"]["bpb"]
    assert summary["budget/train_s"] == result["budgets"][0]["charged_s"]
    assert result["eligibility"]["reasons"][0] in summary["reasons"]


def test_no_tracking_takes_everything(tmp_path):
    sink = NoTracking(print)
    sink.check()
    sink.start("id", "name", {}, tmp_path)
    sink.log({"event": "x"})
    sink.finish(None)
    assert list(tmp_path.iterdir()) == []
