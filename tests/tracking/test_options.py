"""Every option of conf/tracking names a class and keys that it takes."""

from __future__ import annotations

from pathlib import Path

import pytest
from hydra.utils import instantiate

from pgolf.config import compose
from pgolf.errors import UserError
from pgolf.tracking.several import SeveralTracking

CONF = Path(__file__).resolve().parents[2] / "conf" / "tracking"


@pytest.mark.parametrize("name", sorted(path.stem for path in CONF.glob("*.yaml")))
def test_option_fits_its_class(name):
    sink = instantiate(compose([f"tracking={name}"])["tracking"], print)
    sink.check()
    assert all(callable(getattr(sink, method)) for method in ("start", "log", "finish"))


def test_several_takes_settings_of_each_and_checks_them():
    chosen = ["tracking=several", "tracking.sinks=[wandb,tensorboard]"]
    config = compose([*chosen, "tracking.wandb.project=golf"])["tracking"]
    assert config["wandb"]["project"] == "golf" and config["sinks"] == ["wandb", "tensorboard"]
    with pytest.raises(UserError, match=r"tracking\.trackio\.foldr.*did you mean folder"):
        compose([*chosen, "+tracking.trackio.foldr=x"])
    with pytest.raises(UserError, match="mlflow"):
        compose(["tracking=several", "tracking.sinks=[mlflow]"])
    with pytest.raises(UserError, match="name some of wandb"):
        SeveralTracking(print, sinks=[], wandb={}, trackio={}, tensorboard={})
