"""Every option of conf/tracking names a class and keys that it takes."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hydra.utils import instantiate

from pgolf.signature import check_arguments

CONF = Path(__file__).resolve().parents[2] / "conf" / "tracking"


@pytest.mark.parametrize("name", sorted(path.stem for path in CONF.glob("*.yaml")))
def test_option_fits_its_class(name):
    option = yaml.safe_load((CONF / f"{name}.yaml").read_text())
    values = {key: value for key, value in option.items() if not key.startswith("_")}
    check_arguments("tracking", option["_target_"], values)
    sink = instantiate(option, print)
    sink.check()
    assert all(callable(getattr(sink, method)) for method in ("start", "log", "finish"))
