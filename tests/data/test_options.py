"""The YAML options of the group: their keys are their class's, and PGOLF_DATA moves the data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from pgolf.signature import check_arguments

CONF = Path(__file__).parents[2] / "conf"
OPTIONS, SCALE = sorted((CONF / "data").glob("*.yaml")), CONF / "scale" / "nano.yaml"


def load(path: Path) -> dict[str, Any]:
    cfg = OmegaConf.create({"data": OmegaConf.load(path), "scale": OmegaConf.load(SCALE)})
    for key in OmegaConf.missing_keys(cfg):
        OmegaConf.update(cfg, key, "given")
    return OmegaConf.to_container(cfg, resolve=True)["data"]  # type: ignore[index]


@pytest.mark.parametrize("path", OPTIONS, ids=lambda path: path.stem)
def test_options_name_a_class_and_its_keys(path: Path) -> None:
    assert path.read_text(encoding="utf-8").startswith("# ")
    values = load(path)
    check_arguments("data", values.pop("_target_"), values)


def test_pgolf_data_moves_the_published_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    (path,) = (path for path in OPTIONS if path.stem == "fineweb_caseops")
    monkeypatch.delenv("PGOLF_DATA", raising=False)
    assert load(path)["path"] == "data/fineweb_caseops"
    monkeypatch.setenv("PGOLF_DATA", "/somewhere")
    assert load(path)["path"] == "/somewhere/fineweb_caseops"
