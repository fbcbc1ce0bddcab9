"""`pgolf data get NAME`: a published set from the Hugging Face hub, checked file by file.

NAME is an option of conf/data that names a repository, such as fineweb_caseops (or caseops). The
same command continues an interrupted download.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from pgolf.commands.output import Answer, show_lines
from pgolf.config import CONF
from pgolf.errors import UserError

HELP = "fetch a published set from the hub"
FOLDER, PREFIX = CONF / "data", "fineweb_"


def arguments(parser: argparse.ArgumentParser) -> None:
    """What follows the command's name."""
    parser.add_argument("name", help=", ".join(published_sets()))
    parser.add_argument("--shards", type=int, help="training shards, 200 MB each (default: 80)")
    parser.add_argument("--to", type=Path, help="folder (default: $PGOLF_DATA/NAME or data/NAME)")
    parser.add_argument(
        "--offline", action="store_true", help="only say what is missing or changed"
    )


def run(options: argparse.Namespace) -> Answer:
    """`{set, folder, repository, revision, files, bytes, fetched}`."""
    from hydra.utils import instantiate

    settings = settings_of(options.name, options.to)
    if options.shards is not None:
        if "train_shards" not in settings:
            raise UserError(f"--shards: {options.name} has no shards; leave it out")
        if options.shards < 1:
            raise UserError(f"--shards {options.shards}: expected 1 or more")
        settings["train_shards"] = options.shards
    answer: Answer = instantiate(settings).download(show=True, offline=options.offline)
    return answer


def published_sets() -> list[str]:
    """Options of conf/data that lie in a repository of the hub."""
    files = sorted(FOLDER.glob("*.yaml"))
    return [path.stem for path in files if "\nrepository: " in path.read_text(encoding="utf-8")]


def settings_of(name: str, folder: Path | None) -> dict[str, Any]:
    """The option's keys, resolved and checked; paths lie in `folder` where it is given."""
    from omegaconf import OmegaConf

    from pgolf.signature import check_arguments

    sets = published_sets()
    stem = name if name in sets else PREFIX + name
    if stem not in sets:
        raise UserError(f"{name}: no published set of this name; there are {', '.join(sets)}")
    option = OmegaConf.load(FOLDER / f"{stem}.yaml")
    if folder is not None:
        OmegaConf.update(option, "path", str(folder))
    settings: dict[str, Any] = OmegaConf.to_container(option, resolve=True)  # type: ignore[assignment]
    values = {key: value for key, value in settings.items() if key != "_target_"}
    check_arguments("data", settings["_target_"], values)
    return settings


show = show_lines
