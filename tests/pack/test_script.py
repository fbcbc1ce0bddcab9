"""A packed script repeats its run without pgolf: same losses, same artifact, same score."""

from __future__ import annotations

import ast
import hashlib
import inspect
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pgolf.config import compose, load_config
from pgolf.files import sha256_file
from pgolf.pack import script_parts
from pgolf.pack.script import REPLACED, ROOT, make_script
from tests.integration.command import Done, Workspace

# In front of a script: nothing that a stranger lacks can be imported.
HIDDEN = """
import sys, runpy
class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {names!r}:
            raise ImportError(name + " is hidden")
sys.meta_path.insert(0, Hidden())
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
SCORE = re.compile(r"^(\w+) val_loss:\S+ val_bpb:(\S+)", re.M)
UNUSED = {("Listed", "save"), ("Listed", "verify")}  # a script writes no manifest
NAMES = ("pgolf", "hydra", "omegaconf", "rich", "wandb", "safetensors", "tests")


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return Workspace(tmp_path_factory.mktemp("pack"))


def repeat(
    workspace: Workspace, script: Path, folder: Path, run: Done, *options: str, workers: int = 1
) -> dict[str, Any]:
    """Run a script in a folder of its own; what its log and its artifact say."""
    folder.mkdir()
    hidden = folder / "hidden.py"
    hidden.write_text(HIDDEN.format(names=NAMES))
    data = run.result["provenance"]["data"]["folder"]
    command = [sys.executable, "-P"]
    if workers > 1:
        command += ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={workers}"]
    environment = workspace.environment(
        PYTHONPATH=None, PYTHONSAFEPATH="1", SEED=str(run.result["seed"]), DATA_PATH=data
    )
    if workers > 1:  # as pgolf's workers are started
        environment["OMP_NUM_THREADS"] = "1"
    done = subprocess.run(
        [*command, str(hidden), str(script), *options],
        cwd=folder, env=environment, capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    seed = run.result["seed"]
    [file] = folder.glob("*.log")
    log = file.read_text()
    artifact = folder / f"out_seed{seed}/pack/artifact/model.pgolf"
    # torchrun's own lines are no part of the log.
    assert all(line in done.stdout for line in log.splitlines())
    return {
        "losses": [float(x) for x in re.findall(r"train_loss:(\S+)", log)],
        "scores": {m[1]: float(m[2]) for m in SCORE.finditer(log)},
        "artifact": sha256_file(artifact) if artifact.is_file() else None,
        "log": log,
        "file": file.name,
    }  # fmt: skip


def losses_of(run: Done) -> list[float]:
    """Those of the run, or of the one whose training it took from the cache: the seed tells."""
    seed = run.result["seed"]
    for folder in filter(Path.is_dir, run.folder.parent.iterdir()):
        other = Done(0, "", f"run x in {folder}", run.cwd)
        if other.losses() and other.result["seed"] == seed and same_training(other, run):
            return other.losses()
    raise AssertionError("no run of this seed trained")


def same_training(one: Done, other: Done) -> bool:
    keys = ("seed", "model", "optim", "train", "hardware")
    a, b = load_config(one.folder), load_config(other.folder)
    return all(a[key] == b[key] for key in keys)


def check(again: dict[str, Any], run: Done) -> None:
    """Bit-equal in everything."""
    assert again["losses"] == losses_of(run)
    assert again["artifact"] == sha256_file(run.folder / "artifact" / "model.pgolf")
    bpb = {event["name"]: event["bpb"] for event in run.events("score")}
    del bpb["trained"]  # the script scores the average of the weights alone
    assert bpb["final"] == run.result["bpb"]["final"]["bpb"]
    assert again["scores"] == {**bpb, "final_exact": bpb["final"]}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("overrides", "options"),
    [
        ((), ()),
        (("seed=3",), ("--minify", "--wrap", "brotli")),
        (("ttt=score_first", "quant=rtn", "codec=ans", "seed=7"), ("--minify", "--wrap", "lzma")),
        (
            ("ttt=phased_lora", "quant=lqer", "codec=lzma", "optim=adamw", "eval=standard"),
            ("--minify", "--wrap", "brotli"),
        ),
        (("model=baseline", "ttt=none", "quant=none", "codec=pergroup"), ("--minify",)),
    ],
    ids=["prequant", "prequant_short", "score_first", "phased_lora", "baseline"],
)
def test_the_script_repeats_the_run(
    workspace: Workspace, tmp_path: Path, overrides: tuple[str, ...], options: tuple[str, ...]
) -> None:
    run = workspace.launch(*overrides)
    assert run.code == 0, run.text
    packed = workspace.pgolf("pack", run.folder, "-o", tmp_path / "records", "--label", *options)
    assert packed.code == 0, packed.text
    check(repeat(workspace, tmp_path / "records" / "train_gpt.py", tmp_path / "again", run), run)


@pytest.mark.slow
def test_the_script_scores_the_artifact_that_was_shipped(
    workspace: Workspace, tmp_path: Path
) -> None:
    run = workspace.launch("ttt=none")
    packed = workspace.pgolf("pack", run.folder, "-o", tmp_path / "records", "--minify")
    assert packed.code == 0, packed.text
    shipped = str(run.folder / "artifact" / "model.pgolf")
    script = tmp_path / "records" / "train_gpt.py"
    again = repeat(workspace, script, tmp_path / "again", run, "--evaluate", shipped)
    bpb = run.result["bpb"]
    assert again["losses"] == [] and again["artifact"] is None
    assert again["file"] == f"evaluate_seed{run.result['seed']}.log"
    assert again["scores"]["quantized"] == bpb["quantized"]["bpb"]
    assert again["scores"]["final_exact"] == bpb["final"]["bpb"]


@pytest.mark.slow
def test_two_workers_repeat_a_run_of_two(workspace: Workspace, tmp_path: Path) -> None:
    run = workspace.launch("hardware.num_workers=2")
    assert run.code == 0, run.text
    options = ("--label", "--minify", "--wrap", "brotli")
    packed = workspace.pgolf("pack", run.folder, "-o", tmp_path / "records", *options)
    assert packed.code == 0, packed.text
    script = tmp_path / "records" / "train_gpt.py"
    check(repeat(workspace, script, tmp_path / "again", run, workers=2), run)


def test_what_a_configuration_does_not_use_is_not_in_its_script(workspace: Workspace) -> None:
    def script(*overrides: str) -> str:
        config = compose(["debug=cpu", "tracking=none", *overrides])
        made = make_script(config, label="eligible", tokenizer_fingerprint="0", code_bytes=0)
        compile(made.text, "train_gpt.py", "exec")
        roots = {name.partition(".")[0] for name in made.external}
        assert not roots & set(NAMES), roots
        return made.text

    plain = script("ttt=none", "quant=rtn")
    for word in (
        "class PreQuantTTT",
        "class Ledger",
        "class GPTQQuantizer",
        "triton.jit",
        "import hydra",
    ):
        assert word not in plain, word
    assert "class Ledger" in script("ttt=score_first")
    assert "triton.jit" in script("hardware.device=auto", "hardware.kernels=auto")


def test_what_a_wrapped_script_unpacks_itself_with_is_required() -> None:
    config = compose(["debug=cpu", "tracking=none", "codec=lzma"])
    for wrapped in (None, "brotli"):
        made = make_script(
            config, label="eligible", tokenizer_fingerprint="0", code_bytes=0, wrapped=wrapped
        )
        assert ("brotli" in made.external) == (wrapped == "brotli")


@pytest.mark.parametrize("kernels", ["plain", "fused", "auto"])
def test_the_record_recipe_fits_into_30_kb(kernels: str) -> None:
    config = compose(["experiment=v15", "tracking=none", f"hardware.kernels={kernels}"])
    digest = hashlib.sha256(b"a tokenizer").hexdigest()  # which does not compress
    made = make_script(
        config, label="NOT ELIGIBLE", tokenizer_fingerprint=digest, code_bytes=24_893,
        short=True, wrapped="brotli",
    )  # fmt: skip
    assert len(made.data) <= 30_000
    compile(made.data, "train_gpt.py", "exec")


def test_stand_ins_take_what_the_originals_take() -> None:
    for path, name in REPLACED.items():
        module, _, original = path.rpartition(".")
        source = ROOT / Path(*module.split(".")).with_suffix(".py")
        if not source.is_file() or name == "left_out":
            continue
        nodes = {n.name: n for n in ast.parse(source.read_text()).body if hasattr(n, "name")}
        node = nodes[original]
        stand_in = getattr(script_parts, name)
        if isinstance(node, ast.ClassDef):
            for method in (n for n in node.body if isinstance(n, ast.FunctionDef)):
                if (name, method.name) in UNUSED:
                    continue
                if not method.name.startswith("_") or method.name == "__init__":
                    signature = inspect.signature(getattr(stand_in, method.name))
                    bound = [ast.unparse(d) for d in method.decorator_list] == ["classmethod"]
                    signature.bind(*(None for _ in method.args.args[bound:]))
            continue
        assert isinstance(node, ast.FunctionDef)
        inspect.signature(stand_in).bind(*(None for _ in node.args.args))


def test_a_submission_says_what_it_is(workspace: Workspace, tmp_path: Path) -> None:
    run = workspace.launch()
    assert run.code == 0, run.text
    refused = workspace.pgolf("pack", run.folder, "-o", tmp_path / "a")
    assert refused.code == 2 and "not eligible" in refused.stderr and "--label" in refused.stderr
    assert not (tmp_path / "a").exists()
    options = ("--label", "--author", "Ada", "--github-id", "ada", "--blurb", "Less is more.")
    packed = workspace.answer("pack", run.folder, "-o", tmp_path / "a", *options)
    files = {path.name for path in (tmp_path / "a").iterdir()}
    script = tmp_path / "a" / "train_gpt.py"
    assert files == {
        *("README.md", "submission.json", "requirements.txt", "train_gpt.py", "tokenizer"),
        "train_seed1337.log",
    }
    record = json.loads((tmp_path / "a" / "submission.json").read_text())
    final = run.result["bpb"]["final"]
    total = run.result["artifact"]["model_bytes"] + script.stat().st_size
    assert (record["author"], record["github_id"]) == ("Ada", "ada")
    assert (record["val_bpb"], record["val_loss"]) == (final["bpb"], final["nats_per_token"])
    assert record["bytes_total"] == packed["bytes_total"] == total
    assert record["bytes_code"] == script.stat().st_size
    assert record["seed_results"]["1337"]["val_bpb"] == final["bpb"]
    assert record["seed_results"]["1337"]["steps"] == 12
    assert not record["eligible"] and "NOT ELIGIBLE" in record["name"]
    readme = (tmp_path / "a" / "README.md").read_text()
    assert "NOT ELIGIBLE" in readme and f"{final['bpb']:.6f}" in readme
    assert "torch==" in (tmp_path / "a" / "requirements.txt").read_text()
    again = workspace.pgolf("pack", run.folder, "-o", tmp_path / "a", "--label")
    assert again.code == 2 and "not empty" in again.stderr


def test_the_auditor_reads_what_is_packed(workspace: Workspace, tmp_path: Path) -> None:
    run = workspace.launch("ttt=none")
    short = ("--minify", "--wrap", "brotli")
    packed = workspace.pgolf("pack", run.folder, "-o", tmp_path / "a", *short)
    assert packed.code == 0, packed.text
    audit = json.loads(workspace.pgolf("audit", tmp_path / "a", "--json").stdout)
    verdicts = {finding["probe"]: finding["verdict"] for finding in audit["findings"]}
    # Not all of FineWeb's validation text was scored, and it says so.
    assert {probe for probe, verdict in verdicts.items() if verdict == "FAIL"} <= {"COVER"}
    assert verdicts["PROV"] == verdicts["READ"] == "PASS", verdicts
