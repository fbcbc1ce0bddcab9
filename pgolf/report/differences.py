"""In what configurations differ: settings that are not the same in all of them, and short names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from pgolf.provenance import BLIND_KEYS

MAX_LENGTH = 80  # characters of a value; longer ones are lists that nobody reads in a table
# Overrides that name a run or its place and decide no number.
UNNAMED = ("seed=", "name=", "out_dir=", "tracking", "audit", "sandbox", "hydra.")

Config = Mapping[str, Any]


def flattened(config: Config) -> dict[str, str]:
    """Settings by dotted name, as text; seed, names and tracking are left out."""
    found: dict[str, str] = {}
    for key, value in config.items():
        if key not in BLIND_KEYS:
            _flatten(str(key), value, found)
    return found


def _flatten(name: str, value: Any, found: dict[str, str]) -> None:
    if isinstance(value, dict) and value:
        for key, item in value.items():
            _flatten(f"{name}.{key}", item, found)
        return
    key = name.removesuffix("._target_")
    # A class is named by its module: pgolf.ttt.prequant.PrequantTTT is the option prequant.
    text = str(value).split(".")[-2:-1] if key != name else [str(value)]
    shown = text[0] if text else str(value)
    found[key] = shown if len(shown) <= MAX_LENGTH else shown[: MAX_LENGTH - 1] + "…"


def differing(configs: Sequence[dict[str, str]]) -> list[str]:
    """Names of settings that are not the same in all flattened configurations, in their order."""
    names = dict.fromkeys(name for config in configs for name in config)
    return [name for name in names if len({config.get(name) for config in configs}) > 1]


def _short(override: str) -> str:
    """Of a path, its end."""
    key, _, value = override.partition("=")
    folders, _, last = value.rpartition("/")
    return f"{key}=…/{last}" if folders and last else override


def labels(
    names: Sequence[str], overrides: Sequence[Sequence[str]], keys: Sequence[str]
) -> list[str]:
    """A short name of each configuration: the overrides that not all have, or the run's name.

    Args:
        names, overrides: of a run of each configuration.
        keys: what tells apart two configurations that would be called the same.
    """
    kept = [[word for word in words if not word.startswith(UNNAMED)] for words in overrides]
    shared = set.intersection(*map(set, kept)) if kept else set()
    found = []
    for name, words in zip(names, kept, strict=True):
        own = " ".join(_short(word) for word in words if word not in shared)
        # The run's name tells something where runs have several.
        parts = [name] if len(set(names)) > 1 or not own else []
        found.append(" ".join([*parts, own]).strip())
    counts = Counter(found)
    return [
        f"{label} ({key[:6]})" if counts[label] > 1 else label
        for label, key in zip(found, keys, strict=True)
    ]
