"""Files of a hub repository to a folder: several at once, resumed, retried, checked, then named."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from pathlib import Path
from typing import TypeVar

from pgolf.data import hub_client
from pgolf.data.hub_record import Record, RemoteFile
from pgolf.errors import RunFailed, UserError
from pgolf.files import explain_os_error
from pgolf.progress import Bar, track

Answer = TypeVar("Answer")
PARALLEL = 8
RETRIES = 6  # in a row that brought nothing: about a minute
FIRST_WAIT_S, WAIT_FACTOR = 1.0, 2.0
FETCHES = 2  # of a file whose content is wrong


class Patience:
    """Waits longer after each failure in a row: 1, 2, 4 ... seconds, or as long as the hub asks.

    Args:
        stop: ends a wait, and with it all hope.
        is_passing: says which errors are worth another try.
    """

    def __init__(
        self,
        stop: threading.Event,
        is_passing: Callable[[Exception], bool] = hub_client.is_passing,
    ) -> None:
        self._stop, self._is_passing, self._failures = stop, is_passing, 0

    def reward(self) -> None:
        """Something came: begin counting anew."""
        self._failures = 0

    def wait_after(self, error: Exception) -> None:
        """Wait, or raise the error when it will not pass or has come too often."""
        self._failures += 1
        if not self._is_passing(error) or self._failures > RETRIES:
            raise error
        seconds = FIRST_WAIT_S * WAIT_FACTOR ** (self._failures - 1)
        self._stop.wait(max(seconds, hub_client.asked_wait_s(error) or 0.0))
        if self._stop.is_set():
            raise error


def patiently(ask: Callable[[], Answer], is_passing: Callable[[Exception], bool]) -> Answer:
    """The answer to a small request, which is made again after errors that may pass.

    Raises:
        transport_errors(): one that does not pass, or the last of RETRIES + 1.
    """
    patience = Patience(threading.Event(), is_passing)
    while True:
        try:
            return ask()
        except hub_client.transport_errors() as error:
            patience.wait_after(error)


class Progress:
    """A bar that several threads advance by bytes."""

    def __init__(self, bar: Bar) -> None:
        self._bar, self._lock = bar, threading.Lock()

    def advance(self, num_bytes: int, note: str = "") -> None:
        with self._lock:
            self._bar.advance(num_bytes / 1e6, note)


def fetch_all(folder: Path, record: Record, names: list[str], show: bool) -> None:
    """Fetch files of the record; each is named and noted in hub.json once its content is checked.

    A file that lies there already under its name is compared, too, and fetched if it is another.

    Raises:
        UserError: the hub cannot be reached, refuses a file or serves wrong bytes; no space.
    """
    stop, noting = threading.Event(), threading.Lock()
    total = sum(record.files[name].size for name in names) / 1e6
    with track("download", total, "MB", show) as bar:
        progress = Progress(bar)

        def work(name: str) -> None:
            fetch = Fetch(folder / name, record.files[name], record, progress, stop, show)
            fetch.run()
            with noting:
                record.checked[name] = (folder / name).stat().st_mtime_ns
                record.save(folder)

        pool = ThreadPoolExecutor(PARALLEL)
        try:
            tasks = [pool.submit(work, name) for name in names]
            for task in wait(tasks, return_when=FIRST_EXCEPTION).done:
                task.result()
        finally:
            stop.set()  # the others end where one has failed
            pool.shutdown(cancel_futures=True)


class Fetch:
    """One file on its way.

    Args:
        target: its final path.
        file: what has to come.
        stop: set when the download has failed elsewhere, or was interrupted.
    """

    def __init__(
        self,
        target: Path,
        file: RemoteFile,
        record: Record,
        progress: Progress,
        stop: threading.Event,
        show: bool,
    ) -> None:
        self.target, self.file, self.repository = target, file, record.repository
        self.address = hub_client.address_of(record.repository, record.revision, file.path)
        # The content is in the name: what another revision left is not continued.
        self.partial = target.with_name(f".{target.name}.{file.digest[:12]}.part")
        self.progress, self.stop, self.show = progress, stop, show

    def run(self) -> None:
        """Leave the checked file at its target."""
        if self.file.size == 0:
            raise UserError(
                f"{self.file.path} of {self.repository} has 0 bytes on the hub itself: nothing to "
                "train on; report it there, or copy the file by hand from another source"
            )
        try:
            if not self._lies_there():
                self._fetch()
        except OSError as error:
            raise explain_os_error(error, self.target) from error

    def _lies_there(self) -> bool:
        if not self.target.is_file():
            return False
        fault = self.file.fault(self.target)
        if fault is None:
            self.progress.advance(self.file.size)
        else:
            self._say(f"{self.target}: {fault}: fetched again")
        return fault is None

    def _fetch(self) -> None:
        fault: str | None = None
        for attempt in range(1, FETCHES + 1):
            self._receive()
            size = self.partial.stat().st_size
            fault = self.file.fault(self.partial)
            if fault is None:
                os.replace(self.partial, self.target)
                for old in self.target.parent.glob(f".{self.target.name}.*.part"):
                    old.unlink()  # of another revision
                return
            self.partial.unlink()
            self.progress.advance(-size)
            if attempt < FETCHES:
                self._say(f"{self.target.name} arrived with {fault}: refused, fetched once more")
        raise UserError(
            f"{self.file.path} of {self.repository} arrived with {fault}, {FETCHES} times: "
            "the hub or a proxy on the way serves other bytes than the hub lists; try again later, "
            f"or copy the file by hand to {self.target}"
        )

    def _receive(self) -> None:
        """Bring the partial file to its size, or to where the hub says it ends."""
        patience = Patience(self.stop)
        size = self.partial.stat().st_size if self.partial.exists() else 0
        if size:
            self.progress.advance(size)
        self.partial.touch()
        while (start := self.partial.stat().st_size) < self.file.size:
            try:
                with hub_client.open_bytes(self.address, start) as (begin, blocks):
                    self._write(begin, start, blocks, patience.reward)
                return
            except hub_client.transport_errors() as error:
                self._give_up_or_wait(error, patience)

    def _write(
        self, begin: int, start: int, blocks: Iterator[bytes], came: Callable[[], None]
    ) -> None:
        # Unbuffered: what has come is on its way to the disk, also when the process is killed.
        with open(self.partial, "r+b", buffering=0) as file:
            file.truncate(begin)
            file.seek(begin)
            if begin != start:  # the server does not continue, so all comes again
                self.progress.advance(begin - start)
            for block in blocks:
                if self.stop.is_set():
                    raise RunFailed("the download was stopped")
                file.write(block)
                came()
                self.progress.advance(len(block), self.target.name)
                if file.tell() > self.file.size:
                    break
            os.fsync(file.fileno())

    def _give_up_or_wait(self, error: Exception, patience: Patience) -> None:
        try:
            patience.wait_after(error)
        except hub_client.transport_errors():
            raise refusal(error, self.repository, f"{self.file.path} cannot be fetched") from error

    def _say(self, text: str) -> None:
        if self.show:
            print(text, file=sys.stderr, flush=True)


def refusal(error: Exception, repository: str, what: str) -> UserError:
    """An error of the hub with its remedy."""
    status = hub_client.status_of(error)
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    remedy = {
        401: "if the set asks for an account, log in with `hf auth login`",
        403: "if the set asks for an account, log in with `hf auth login`",
        404: f"look at {hub_client.endpoint()}/datasets/{repository} whether it has moved",
        429: "the hub counts requests: wait some minutes, or log in with `hf auth login`",
    }.get(status or 0, "run the same command again when the connection is back")
    return UserError(f"{what} ({reason}): {remedy}; what has arrived is kept and continued from")
