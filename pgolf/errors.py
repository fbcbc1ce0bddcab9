"""The two kinds of failure that a user meets, and the exit code of each."""

from __future__ import annotations


class UserError(ValueError):
    """The configuration or an input is wrong: exit code 2, message without a traceback.

    The message names the file, key or value, and the remedy.
    """


class RunFailed(RuntimeError):  # noqa: N818
    """A stage failed while running: exit code 1; the message names stage, reason and log."""


def error_of(error: BaseException) -> BaseException:
    """The `UserError` or `RunFailed` of a constructor that Hydra wrapped; others as they are."""
    cause = error.__cause__
    return cause if isinstance(cause, UserError | RunFailed) else error
