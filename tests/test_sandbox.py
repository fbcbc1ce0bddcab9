"""The sandbox: each layer that this system has refuses what it should, and says so."""

from __future__ import annotations

import json
import os
import platform
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pgolf.errors import RunFailed
from pgolf.sandbox import landlock, seccomp
from pgolf.sandbox.enter import NOT_ENFORCED
from pgolf.sandbox.evaluation import policy_of
from pgolf.sandbox.policy import Network, Policy, without
from pgolf.sandbox.run import Limits, run_sandboxed
from pgolf.sandbox.start import LAYERS, Sandbox
from pgolf.workers import kernel_caches

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the layers are those of Linux")

# Tries everything, in a child of the process that was started when asked to.
TRY = """
import json, os, socket, subprocess, sys
if sys.argv[1] == "child":
    sys.exit(subprocess.call([sys.executable, "-c", sys.argv[2], "here", "", *sys.argv[3:]]))

def attempt(what):
    try:
        what()
        return "yes"
    except OSError as error:
        return type(error).__name__

def connect(address):
    with socket.socket() as client:
        client.settimeout(3)
        client.connect(address)

training, validation, port, outside, answer = sys.argv[3:8]
def loopback():
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        connect(server.getsockname())

found = {
    "training": attempt(lambda: open(training, "rb").close()),
    "validation": attempt(lambda: open(validation, "rb").close()),
    "write": attempt(lambda: open(validation, "ab").close()),
    "link": attempt(lambda: os.link(training, os.environ["TMPDIR"] + "/link")),
    "temporary": attempt(lambda: open(os.environ["TMPDIR"] + "/x", "w").close()),
    "outside": attempt(lambda: connect((outside, int(port)))),
    "loopback": attempt(loopback),
}
open(answer, "w").write(json.dumps(found))
"""


@pytest.fixture
def data(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    (tmp_path / "view").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "data" / "train_000000.bin").write_bytes(b"training")
    (tmp_path / "view" / "val_000000.bin").write_bytes(b"validation")
    return tmp_path


@pytest.fixture
def server() -> Iterator[tuple[str, int]]:
    """A TCP server of this process, outside every sandbox, reached by the host's first address."""
    with socket.socket() as listening:
        listening.bind(("0.0.0.0", 0))
        listening.listen()
        yield _address(), listening.getsockname()[1]


def _address() -> str:
    """An address of this host that is not loopback, or else loopback."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
            return str(probe.getsockname()[0])
        except OSError:
            return "127.0.0.1"


def attempts(
    data: Path, server: tuple[str, int], network: Network, layers: tuple[str, ...], who: str
) -> tuple[dict[str, str], dict[str, Any]]:
    """What a process in a sandbox of these layers could do, and what the sandbox says of itself."""
    training, answer = data / "data" / "train_000000.bin", data / "out" / "answer.json"
    policy = Policy(
        str(training), read=[str(data / "view")], write=[str(data / "out")],
        hidden=[str(data / "data")], network=network,
    )  # fmt: skip
    host, port = server
    rest = [str(training), str(data / "view" / "val_000000.bin"), str(port), host, str(answer)]
    with Sandbox(policy, layers) as sandbox:
        command = [sys.executable, "-c", TRY, who, TRY, *rest]
        process = sandbox.start(command, dict(os.environ))
        assert process.wait(60) == 0
    return json.loads(answer.read_text()), sandbox.report


def need(report: dict[str, Any], kind: str, layer: str) -> None:
    if report[kind] == NOT_ENFORCED:
        pytest.skip(f"no {layer} on this system: {report['reasons']}")
    assert report[kind] == layer


@pytest.mark.parametrize("who", ["itself", "child"])
@pytest.mark.parametrize("layer", ["landlock", "audit hook"])
def test_training_data_stay_closed_and_validation_data_open(
    data: Path, server: tuple[str, int], layer: str, who: str
) -> None:
    found, report = attempts(data, server, "loopback", (layer,), who)
    need(report, "filesystem", layer)
    assert found["training"] == "PermissionError" == found["write"]
    assert found["validation"] == "yes" == found["temporary"]
    assert found["link"] != "yes"


@pytest.mark.parametrize("who", ["itself", "child"])
@pytest.mark.parametrize(("layer", "network"), [
    ("namespace", "loopback"), ("namespace", "none"), ("seccomp", "none"),
    ("audit hook", "loopback"), ("audit hook", "none"), ("audit hook", "world"),
])  # fmt: skip
def test_nothing_outside_is_reached(
    data: Path, server: tuple[str, int], layer: str, network: Network, who: str
) -> None:
    found, report = attempts(data, server, network, (layer,), who)
    need(report, "network", layer)
    if layer == "audit hook" and network != "none" and server[0] == "127.0.0.1":
        pytest.skip("this host has no address but loopback")
    assert found["outside"] not in ("yes", "TimeoutError")
    assert (found["loopback"] == "yes") == (network != "none")


def test_there_is_no_way_back_to_the_network(tmp_path: Path) -> None:
    """Root, too, could otherwise enter the namespace that it came from."""
    code = f"""
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
print("result", libc.setns(os.open("/proc/{os.getpid()}/ns/net", os.O_RDONLY), 0))
"""
    (tmp_path / "canary").touch()
    with Sandbox(Policy(str(tmp_path / "canary"), network="loopback"), ("namespace",)) as sandbox:
        process = sandbox.start(
            [sys.executable, "-c", code], dict(os.environ), stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )  # fmt: skip
        said, why = process.communicate(timeout=60)
    need(sandbox.report, "network", "namespace")
    assert b"result -1" in said or b"PermissionError" in why


def test_all_layers_together_and_none_at_all(data: Path, server: tuple[str, int]) -> None:
    found, report = attempts(data, server, "loopback", LAYERS, "child")
    assert NOT_ENFORCED not in report.values()
    assert found["training"] == "PermissionError" and found["validation"] == "yes"
    # The same attempts succeed without: they are able to fail.
    found, report = attempts(data, server, "loopback", (), "child")
    assert (report["filesystem"], report["network"]) == (NOT_ENFORCED, NOT_ENFORCED)
    assert set(found.values()) == {"yes"}


def test_a_layer_that_does_not_refuse_is_not_believed(data: Path) -> None:
    """What is named as closed, but granted, can be opened: no layer may claim the opposite."""
    canary = data / "view" / "val_000000.bin"
    with Sandbox(Policy(str(canary), read=[str(data / "view")])) as sandbox:
        assert sandbox.start([sys.executable, "-c", ""], dict(os.environ)).wait(60) == 0
    assert sandbox.report["filesystem"] == NOT_ENFORCED
    reasons = " ".join(sandbox.report["reasons"])
    assert "can be opened nevertheless" in reasons and "does not refuse, files" in reasons


def test_hidden_paths_leave_what_is_beside_them(tmp_path: Path) -> None:
    for name in ("lib/a.py", "lib/data/train.bin", "lib/data/deep/x", "other"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    root = str(tmp_path)
    assert without(root, ["/elsewhere"]) == [root]
    assert without(root, [root]) == without(f"{root}/lib", [root]) == []
    assert without(root, [f"{root}/lib/data"]) == [f"{root}/lib/a.py", f"{root}/other"]
    beside = [f"{root}/lib/a.py", f"{root}/lib/data/train.bin", f"{root}/other"]
    assert without(root, [f"{root}/lib/data/deep"]) == beside


def test_data_beside_programs_are_hidden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "train.bin").touch()
    (tmp_path / "code.py").touch()
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    grants = Policy("", hidden=[str(tmp_path / "train.bin")]).grants()
    assert grants[str(tmp_path / "code.py")] is False
    assert str(tmp_path) not in grants and str(tmp_path / "train.bin") not in grants
    assert "/" not in grants


def test_kernels_may_be_compiled_where_the_user_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path / "own"))
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)
    (tmp_path / "run").mkdir()
    job: dict[str, Any] = {
        "run_folder": str(tmp_path / "run"),
        "output": str(tmp_path / "work" / "score.json"),
        "artifact": str(tmp_path / "artifact"),
        "data_folder": str(tmp_path / "validation"),
        "sandbox": {"canary": "canary", "hidden": [str(tmp_path / "cache")]},
    }
    folders = kernel_caches(tmp_path / "cache").values()
    granted = policy_of(job, folders, alone=True).grants()
    assert granted[str(tmp_path / "own")] and (tmp_path / "own").is_dir()
    assert granted[str(tmp_path / "cache" / "compiled" / "inductor")]
    assert str(tmp_path / "cache") not in granted


def test_a_filter_has_an_answer_for_every_call() -> None:
    code = seccomp.program("x86_64")
    assert len(code) == 13 * 8 and seccomp.program("aarch64") != code
    with pytest.raises(OSError, match="no seccomp filter for vax"):
        seccomp.program("vax")


def test_a_program_that_cannot_start_is_a_failure(tmp_path: Path) -> None:
    with Sandbox(Policy(str(tmp_path))) as sandbox, pytest.raises(RunFailed, match="ended with"):
        sandbox.start(["/bin/true"], {}, limits={"no such limit": 1})
    assert not sandbox.folder.exists()


def python(code: str, **limits: Any) -> Any:
    return run_sandboxed([sys.executable, "-c", code], limits=Limits(**limits))


def test_a_program_runs_with_what_it_was_given(tmp_path: Path) -> None:
    (tmp_path / "given.txt").write_text("given")
    command = [sys.executable, "-c", "import sys; print(open(sys.argv[1]).read())"]
    path = tmp_path / "given.txt"
    done = run_sandboxed([*command, str(path)], read=[tmp_path])
    assert (done.code, done.stdout, done.ended_by) == (0, b"given\n", "itself")
    assert NOT_ENFORCED not in done.layers.values()
    refused = run_sandboxed([*command, str(path)], read=[tmp_path], hidden=[path])
    assert refused.code == 1 and b"PermissionError" in refused.stderr
    assert run_sandboxed([*command, str(path)]).code == 1


def test_secrets_of_the_environment_stay_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_TOKEN", "abc")
    assert b"abc" not in python("import os; print(dict(os.environ))").stdout


@pytest.mark.skipif(platform.machine() not in seccomp.MACHINES, reason="no filter for it")
def test_time_ends_a_program_and_its_children(tmp_path: Path) -> None:
    code = """
import os, subprocess, sys, time
try:
    os.setsid()
except PermissionError:
    print("stays", flush=True)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
print(child.pid, flush=True)
time.sleep(60)
"""
    begin = time.monotonic()
    done = python(code, seconds=2.0)
    assert done.ended_by == "time" and done.code < 0 and time.monotonic() - begin < 20
    said, pid = done.stdout.split()
    assert said == b"stays" and _ends(int(pid))


def _ends(pid: int) -> bool:
    """Whether a process is gone soon: nobody here waits for it, and a signal takes its time."""
    for _ in range(100):
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return True
        if state == "Z":
            return True
        time.sleep(0.05)
    return False


def test_what_is_left_running_ends_with_the_program() -> None:
    code = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"],
                         stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
print(child.pid)
"""
    done = python(code, seconds=20.0)
    assert done.ended_by == "itself" and done.code == 0 and _ends(int(done.stdout))


def test_memory_files_processor_and_output_have_limits() -> None:
    memory = python("b = bytearray(4 << 30)", memory_bytes=1 << 30)
    assert memory.code == 1 and b"MemoryError" in memory.stderr
    big = python("open('big', 'wb').write(bytes(2 << 20))", file_bytes=1 << 20)
    assert big.code != 0
    assert python("while True: pass", cpu_s=1, seconds=20.0).code < 0
    flood = python("while True: print('x' * 9999)", output_bytes=100_000)
    assert flood.ended_by == "output" and len(flood.stdout) <= 100_000
    files = python("a = [open('/dev/null') for _ in range(99)]", open_files=32)
    assert files.code == 1 and b"Too many open files" in files.stderr


def test_landlock_says_what_the_kernel_has() -> None:
    assert landlock.version() >= 0
