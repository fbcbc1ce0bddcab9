"""The documentation builds without a warning, and its links lead somewhere."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.pages import PAGES, ROOT

pytestmark = pytest.mark.slow


def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    pytest.importorskip("mkdocstrings_handlers.python", reason="pip install 'pgolf[docs]'")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)],
        cwd=ROOT,
        # The theme's advertisement of its successor, which is no warning about these pages.
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
    )
    text = done.stdout + done.stderr
    assert done.returncode == 0 and "WARNING" not in text, text
    built = {path.relative_to(tmp_path).with_suffix("") for path in tmp_path.rglob("*.html")}
    docs = ROOT / "docs"
    assert {p.relative_to(docs).with_suffix("") for p in docs.rglob("*.md")} <= built
    reference = (tmp_path / "reference" / "protocols.html").read_text(encoding="utf-8")
    for protocol in ("Model", "Optimizer", "TTT", "Quantizer", "Codec"):
        assert f'id="pgolf.protocols.{protocol}"' in reference
    assert not re.search(r'(src|href)="https?://(fonts|cdn|unpkg)', reference), "fetches something"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_relative_links_lead_to_files(page: Path) -> None:
    text = re.sub(r"^```.*?^```", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if not re.match(r"\w+:", target) and (path := target.partition("#")[0]):
            assert (page.parent / path).is_file(), f"{page}: {target}"


def test_every_option_has_its_reference() -> None:
    text = (ROOT / "docs" / "reference" / "options.md").read_text(encoding="utf-8")
    groups = set(re.findall(r"^::: pgolf\.(\w+)", text, re.MULTILINE))
    named = set(re.findall(r"^::: (\S+)", text, re.MULTILINE))
    for path in (ROOT / "conf").glob("*/*.yaml"):
        found = re.search(r"^_target_: (\S+)", path.read_text(encoding="utf-8"), re.MULTILINE)
        if found and path.parent.name in groups:
            assert found[1] in named, f"docs/reference/options.md lacks {found[1]} of {path}"
