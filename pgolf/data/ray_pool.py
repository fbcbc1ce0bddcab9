"""Work spread over the machines of a Ray cluster, with results in the order of the work."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from pgolf.data.pool import AHEAD
from pgolf.errors import RunFailed, UserError

Item = TypeVar("Item")
Result = TypeVar("Result")


def connect() -> Any:
    """Ray, connected to the cluster that RAY_ADDRESS names, or to one started on this machine.

    Raises:
        UserError: Ray is not installed.
    """
    try:
        import ray
    except ImportError as error:
        raise UserError(
            "engine ray: Ray is not installed; pip install 'ray>=2.40', or use the engine pool"
        ) from error
    if not ray.is_initialized():
        ray.init(log_to_driver=False, include_dashboard=False, logging_level=logging.WARNING)
    return ray


def usable_cpus() -> int:
    """Number of cores of the cluster."""
    return max(1, int(connect().cluster_resources().get("CPU", 1)))


def ordered_map(
    function: Callable[[Item], Result], items: Iterable[Item], processes: int
) -> Iterator[Result]:
    """As `pgolf.data.pool.ordered_map`, a task an item.

    Raises:
        UserError: Ray is not installed.
        RunFailed: a machine or a process was lost more often than Ray repeats a task.
    """
    ray = connect()
    task = ray.remote(function_of_item).options(num_cpus=1)
    work = ray.put(function)
    waiting: deque[Any] = deque()
    try:
        for item in items:
            waiting.append(task.remote(work, item))
            if len(waiting) >= AHEAD * processes:
                yield ray.get(waiting.popleft())
        while waiting:
            yield ray.get(waiting.popleft())
    except ray.exceptions.RayTaskError as error:
        raise error.cause from error  # what the function raised
    except ray.exceptions.RayError as error:
        raise RunFailed(f"Ray lost a task ({error}): see `ray status`, then run again") from error
    finally:
        for reference in waiting:
            ray.cancel(reference)


def function_of_item(function: Callable[[Item], Result], item: Item) -> Result:
    """What a task does."""
    return function(item)
