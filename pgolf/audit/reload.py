"""RELOAD: whether the shipped files alone are small enough and give the score."""

from __future__ import annotations

import ast
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

from pgolf.audit.finding import Finding
from pgolf.audit.probe import failed, passed, undecided
from pgolf.audit.subject import Subject

FILES = {"model.pgolf", "code.zip"}
REACHED = "whether the evaluation reached the network: nothing kept it from that"
# Fetching something at evaluation needs one of these.
NETWORK = {
    *("requests", "urllib", "http", "ftplib", "huggingface_hub", "aiohttp", "httpx", "urllib3"),
    *("urllib.request", "http.client", "torch.hub", "wandb", "datasets"),
}
# Installed beside the artifact, as for everybody.
PACKAGES = {
    *("torch", "numpy", "brotli", "zstandard", "hydra", "omegaconf", "rich", "triton"),
    *("sentencepiece", "flash_attn", "flash_attn_interface", "kernels", "safetensors", "pgolf"),
}


class Reload:
    """Measures the shipped folder, reads its code, and scores it once more where that is asked for.

    Args:
        rescore: score the whole artifact again, in fresh processes on the shipped code.
        limit_bytes: of the shipped folder; decimal megabytes.
        tolerance: of the nats, relative; kernels of another device differ more than this.
    """

    name = "RELOAD"

    def __init__(self, *, rescore: bool, limit_bytes: int, tolerance: float) -> None:
        self.rescore, self.limit_bytes, self.tolerance = rescore, limit_bytes, tolerance

    def check(self, subject: Subject) -> Finding:
        """Sizes, code, then the score."""
        folder = subject.artifact
        if folder is None or not folder.is_dir():
            return undecided(self, "There is no artifact folder.", "size and score of the artifact")
        for wrong in (*self._sizes(subject, folder), *self._code(folder)):
            return wrong
        total = _size(folder)
        network = subject.closed_to_evaluation("network")
        open_ = [] if network or subject.kind != "run" else [REACHED]
        if not self.rescore or subject.rescore is None or subject.result is None:
            what = f"The shipped folder has {total:,} of {self.limit_bytes:,} bytes."
            left = ["the score of the reloaded artifact", *open_]
            return passed(self, what, left, total_bytes=total, network_closed_by=network)
        again, final = subject.rescore(), subject.result["bpb"]["final"]
        off = abs(again["nats"] - final["nats"]) / final["nats"]
        witness = {"reported_nats": final["nats"], "reloaded_nats": again["nats"]}
        if again["tokens"] != final["tokens"] or off > self.tolerance:
            return failed(
                self, "The reloaded artifact gives another score.", file=str(folder), **witness
            )  # fmt: skip
        what = f"{total:,} shipped bytes give the same score in a fresh process."
        return passed(
            self, what, open_, total_bytes=total, relative_difference=off,
            network_closed_by=network, **witness,
        )  # fmt: skip

    def _sizes(self, subject: Subject, folder: Path) -> Iterator[Finding]:
        links = [path for path in folder.rglob("*") if path.is_symlink()]
        if links:
            yield failed(
                self, f"{links[0].name} is a link: what it leads to is not shipped.",
                file=str(links[0]), leads_to=str(links[0].resolve()),
            )  # fmt: skip
        total = _size(folder)
        if total > self.limit_bytes:
            yield failed(
                self, f"The artifact has {total:,} bytes, the limit is {self.limit_bytes:,}.",
                file=str(folder), total_bytes=total, limit_bytes=self.limit_bytes,
            )  # fmt: skip
        missing = sorted(FILES - {path.name for path in folder.iterdir()})
        if missing:
            yield failed(
                self, f"The artifact is not complete: {', '.join(missing)} is missing.",
                file=str(folder / missing[0]),
            )  # fmt: skip
        said = (subject.result or {}).get("artifact")
        if said is None:
            return
        if said["total_bytes"] != total:
            yield failed(
                self, f"The result says {said['total_bytes']:,} bytes, the folder has {total:,}.",
                file=str(folder), total_bytes=total, reported_bytes=said["total_bytes"],
            )  # fmt: skip

    def _code(self, folder: Path) -> Iterator[Finding]:
        try:
            zipfile.ZipFile(folder / "code.zip").close()
        except (zipfile.BadZipFile, OSError) as error:
            yield failed(self, f"code.zip cannot be read: {error}", file=str(folder / "code.zip"))
            return
        with zipfile.ZipFile(folder / "code.zip") as archive:
            names = archive.namelist()
            modules = {name[:-3].replace("/", ".") for name in names if name.endswith(".py")}
            for name in names:
                if not name.endswith(".py"):
                    continue
                for module in _imports(archive.read(name).decode("utf-8")):
                    top = module.partition(".")[0]
                    if module in NETWORK or top in NETWORK:
                        yield failed(
                            self, f"{name} imports {module}, which reaches the network.",
                            file=f"code.zip/{name}", module=module,
                        )  # fmt: skip
                    known = top in PACKAGES or top in sys.stdlib_module_names
                    if not known and module not in modules:
                        yield failed(
                            self, f"{name} imports {module}, which is not shipped.",
                            file=f"code.zip/{name}", module=module,
                        )  # fmt: skip


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _imports(source: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module
