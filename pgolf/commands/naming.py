"""The tokenizer that a command line names, as launch.py would compose it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pgolf.protocols import Tokenizer


def named_tokenizer(overrides: list[str]) -> Tokenizer:
    """The tokenizer, checked, not fitted yet.

    A given model brings its own vocabulary size, unless the command line has one.

    Raises:
        UserError: an override does not compose, or the model cannot be used.
    """
    from pgolf.config import compose

    return _of_config(compose(overrides), overrides)


def ready_tokenizer(overrides: list[str]) -> Tokenizer:
    """The tokenizer, ready to encode: a given model's, or trained on the configured data.

    Raises:
        UserError: as `named_tokenizer`, or the data cannot be used.
    """
    from hydra.utils import instantiate

    from pgolf.clock import Clock
    from pgolf.config import compose
    from pgolf.events import EventLog
    from pgolf.pipeline import cache_folder
    from pgolf.prepare import prepare
    from pgolf.say import Say
    from pgolf.tokenizer.bytes import BytesTokenizer
    from pgolf.tokenizer.store import open_tokenizer

    config = compose(overrides)
    tokenizer = _of_config(config, overrides)
    if config["tokenizer"].get("path") is not None or isinstance(tokenizer, BytesTokenizer):
        tokenizer.fit(())
        return tokenizer
    source = instantiate(config["data"])
    source.check()
    prepared = prepare(source, tokenizer, cache_folder(), EventLog(None), Clock({}), Say(None))
    return open_tokenizer(prepared.folder / "tokenizer")


def option_name(tokenizer: Tokenizer) -> str:
    """What tokenizer=... calls it; a class of the user's own is named as it is."""
    from pgolf.tokenizer.store import KINDS

    names = {kind: name for name, kind in KINDS.items()}
    return names.get(type(tokenizer), type(tokenizer).__name__)


def _of_config(config: dict[str, Any], overrides: list[str]) -> Tokenizer:
    from hydra.utils import instantiate

    from pgolf.tokenizer.base import vocab_size_of

    node = config["tokenizer"]
    if node.get("path") is not None and not any("vocab_size" in word for word in overrides):
        node["vocab_size"] = vocab_size_of(node["path"])
    tokenizer: Tokenizer = instantiate(node)
    tokenizer.check()
    return tokenizer
