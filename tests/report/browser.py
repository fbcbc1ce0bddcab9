"""Headless Chromium for the tests: a page after its script ran, and what the console says."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

needs_chromium = pytest.mark.skipif(
    shutil.which("chromium") is None, reason="no chromium on PATH: pages are not drawn"
)
COMPLAINTS = re.compile(r"CONSOLE|Uncaught|Refused to|violates", re.IGNORECASE)


@dataclass(frozen=True)
class Shown:
    """What the browser made of a page: its document as HTML, and what its console said."""

    html: str
    complaints: list[str]


def show(
    address: str,
    profile: Path,
    width: int = 1280,
    picture: Path | None = None,
    extra: tuple[str, ...] = (),
) -> Shown:
    """Open a page, let its timers run for three seconds of its own time.

    Args:
        profile: an empty folder for the browser's files.
        picture: where a screenshot is written; then there is no document.
        extra: more of the browser's options.
    """
    what = "--dump-dom" if picture is None else f"--screenshot={picture}"
    command = [
        *("chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic"),
        *(f"--user-data-dir={profile}", f"--window-size={width},1600", "--enable-logging=stderr"),
        *("--v=0", "--virtual-time-budget=3000", *extra, what, address),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    complaints = [line for line in done.stderr.splitlines() if COMPLAINTS.search(line)]
    return Shown(done.stdout, complaints)
