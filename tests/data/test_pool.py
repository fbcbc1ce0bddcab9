"""Work over processes: order, faults, and that no process is left."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from pgolf.data.pool import AHEAD, ordered_map
from pgolf.errors import RunFailed, UserError


def _square(number: int) -> tuple[int, int]:
    if number == 13:
        raise UserError("no thirteen")
    if number == 66:
        os.kill(os.getpid(), signal.SIGKILL)
    return number * number, os.getpid()


def test_results_come_in_order_from_other_processes() -> None:
    drawn = 0

    def items() -> Iterator[int]:
        nonlocal drawn
        for number in range(20, 40):
            drawn += 1
            yield number

    results = ordered_map(_square, items(), processes=2)
    first = next(results)
    assert drawn == 2 * AHEAD  # items are not all drawn at once
    found = [first, *results]
    assert [value for value, _ in found] == [number * number for number in range(20, 40)]
    processes = {process for _, process in found}
    assert os.getpid() not in processes
    for process in processes:
        with pytest.raises(ProcessLookupError):
            os.kill(process, 0)
    with pytest.raises(UserError, match="no thirteen"):
        list(ordered_map(_square, [13], processes=2))
    with pytest.raises(RunFailed, match="was killed"):
        list(ordered_map(_square, [66], processes=2))


def test_one_process_works_here() -> None:
    assert list(ordered_map(_square, range(3), processes=1)) == [
        (i * i, os.getpid()) for i in range(3)
    ]
