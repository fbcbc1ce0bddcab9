"""Work spread over processes, with results in the order of the work."""

from __future__ import annotations

import multiprocessing
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from pgolf.errors import RunFailed
from pgolf.workers import die_with_parent

Item = TypeVar("Item")
Result = TypeVar("Result")
AHEAD = 3  # items a process that are under way; more would only fill memory


def ordered_map(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    processes: int,
) -> Iterator[Result]:
    """`map(function, items)` by several processes; items are drawn a few ahead of the results.

    Processes are spawned, not forked: the launcher has threads. They end with this one.

    Args:
        function: importable, as are its arguments and results picklable.
        processes: 1 starts none and works here.

    Raises:
        RunFailed: a process was killed.
    """
    if processes == 1:
        yield from map(function, items)
        return
    pool = ProcessPoolExecutor(processes, multiprocessing.get_context("spawn"), _start)
    waiting: deque[Future[Result]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) >= AHEAD * processes:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    except BrokenProcessPool as error:
        raise RunFailed(
            "a process that prepares data was killed, probably for lack of memory: free some, "
            "or allow fewer CPUs (taskset -c 0-3 ...)"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _start() -> None:
    die_with_parent()
    # Ctrl-C goes to the parent, which ends the pool; the children have nothing to say about it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
