"""Where the reference data lies: outputs of the published code, published tokenizers, real text.

It is no part of the project. Tests that compare with it skip where it is absent.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest


def reference_folder() -> Path | None:
    """$PGOLF_REFERENCE, else the folder `shared` beside the repository; None without golden/."""
    given = os.environ.get("PGOLF_REFERENCE")
    folder = Path(given) if given else Path(__file__).resolve().parents[2] / "shared"
    return folder if (folder / "golden" / "config.json").is_file() else None


def require_reference() -> Path:
    """The folder, or skip the test that asks."""
    folder = reference_folder()
    if folder is None:
        pytest.skip("no reference data: set PGOLF_REFERENCE to the folder that holds golden/")
    return folder
