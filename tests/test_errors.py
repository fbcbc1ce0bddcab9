"""Errors of constructors arrive as what they are, without the wrapping of Hydra."""

from __future__ import annotations

import pytest
from hydra.utils import instantiate

from pgolf.errors import RunFailed, UserError, error_of


class Picky:
    def __init__(self, *, size: int) -> None:
        raise UserError(f"size={size}: expected less")


def test_a_constructors_own_error_is_found() -> None:
    with pytest.raises(Exception) as caught:
        instantiate({"_target_": "tests.test_errors.Picky", "size": 3})
    assert not isinstance(caught.value, UserError)
    assert isinstance(error_of(caught.value), UserError)
    assert str(error_of(caught.value)) == "size=3: expected less"


def test_other_errors_stay_as_they_are() -> None:
    for error in (UserError("x"), RunFailed("y"), ValueError("z")):
        assert error_of(error) is error
