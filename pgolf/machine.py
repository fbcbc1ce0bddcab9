"""What a machine can do for a run, what `scale=full` would cost on it, and what is missing."""

from __future__ import annotations

import importlib.util
import os
import shutil
from pathlib import Path
from typing import Any

import torch
from hydra.utils import instantiate
from torch import Tensor

from pgolf.artifact import Undrawn
from pgolf.clock import Clock
from pgolf.config import compose
from pgolf.data import hub
from pgolf.hardware import Devices
from pgolf.kernel.choice import why_not_fused
from pgolf.provenance import environment
from pgolf.runfolder import nearest_existing

# The published run: PR #1738, seed 1337.
FULL_STEPS, FULL_BATCH_TOKENS = 4_583, 786_432
RECURRENCE_FROM = 0.35  # of the training budget
# A whole training step as a part of the speed of large matrix products: 0.5 on an H100, where
# docs/performance.md has 801K tokens a second with recurrence on.
STEP_EFFICIENCY = 0.5
# Peak of a step with 48 sequences in bf16 on an H100 (docs/performance.md); fp32 takes twice that.
STEP_GB, STEP_SEQS, STATE_GB = 27.7, 48, 0.9
PRODUCT_ROWS, PRODUCT_REPEATS = {"cuda": 65_536, "cpu": 1_024}, {"cuda": 20, "cpu": 3}
FULL_DISK_GB = 17.0  # 80 training shards of 200 MB, validation, sidecar, checkpoints and stages
GB = 1e9
# How a user moves each of the places that a run writes to.
MOVED_BY = {"cache": "PGOLF_CACHE", "data": "PGOLF_DATA", "outputs": "out_dir=..."}


def disks(places: dict[str, Path]) -> dict[str, float]:
    """Free GB where each place lies, or would lie."""
    return {
        name: round(shutil.disk_usage(nearest_existing(place)).free / GB, 1)
        for name, place in places.items()
    }


def unwritable(places: dict[str, Path]) -> dict[str, Path]:
    """Places in which nothing can be written: somebody else's, read-only, or no folder."""
    closed = {}
    for name, place in places.items():
        there = nearest_existing(place)
        if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
            closed[name] = there
    return closed


def compiler() -> str:
    """What torch.compile and Triton need and have not; an empty string where nothing is missing."""
    if importlib.util.find_spec("triton") is None and torch.cuda.is_available():
        return "the package triton is not installed"
    names = [environment("CC") or "cc", "gcc", "clang"]
    return "" if any(shutil.which(name) for name in names) else "no C compiler (cc, gcc, clang)"


def hub_state() -> str:
    """ "" where the hub answers, else why not; known within a few seconds."""
    data = compose(["experiment=v15"])["data"]
    place = hub.Place(data["name"], data["repository"], Path(data["path"]), "shards")
    return hub.why_offline(place) or ""


def full_cost(devices: Devices) -> dict[str, Any]:
    """Time and memory of the published training (3.6 billion tokens) on these devices.

    Returns:
        tflops: of matrix products as wide as the model's, measured now on one device.
        hours, memory_gb: estimates; of one device with micro-batches of 48 sequences, and with 1.
    """
    config = compose(["experiment=v15", "hardware=auto"])
    with torch.device("meta"), Undrawn():
        model = instantiate(config["model"], _convert_="all")
    device = torch.device(devices.device)
    dtype = torch.bfloat16 if devices.precision == "bf16" else torch.float32
    flops = flops_a_token(model, config["train"]["seq_len"]) * FULL_STEPS * FULL_BATCH_TOKENS
    speed = product_flops(device, dtype, config["model"]["model_dim"])
    seconds = flops / (speed * STEP_EFFICIENCY * devices.num_workers)
    width = 1.0 if dtype == torch.bfloat16 else 2.0
    step_gb = (STEP_GB - STATE_GB) * width
    return {
        "tflops": round(speed / 1e12, 2),
        "hours": float(f"{seconds / 3600:.3g}"),
        "memory_gb": round(STATE_GB + step_gb, 1),
        "memory_gb_1_seq": round(STATE_GB + step_gb / STEP_SEQS, 1),
    }


def flops_a_token(model: Any, seq_len: int) -> float:
    """Forward and backward: products with weights and attention, recurrence on after its start."""
    layer = sum(p.numel() for p in model.blocks[0].parameters() if p.ndim == 2)
    head: Tensor = model.tok_emb.weight
    orders = model.plain, model.recurrent
    passes = [len(order.encoder) + len(order.decoder) for order in orders]
    # Steps with recurrence are slower: by time it is on for 65%, by tokens for less.
    off, on = RECURRENCE_FROM / passes[0], (1.0 - RECURRENCE_FROM) / passes[1]
    mean_passes = (off * passes[0] + on * passes[1]) / (off + on)
    attention = seq_len * head.size(1)  # causal: half of all pairs, twice (scores and values)
    return 6.0 * (mean_passes * (layer + attention) + head.numel())


def product_flops(device: torch.device, dtype: torch.dtype, width: int) -> float:
    """Operations a second of [N, width] times [width, 4 width], measured."""
    rows, repeats = PRODUCT_ROWS[device.type], PRODUCT_REPEATS[device.type]
    x = torch.ones(rows, width, device=device, dtype=dtype)
    weight = torch.ones(4 * width, width, device=device, dtype=dtype)
    x @ weight.T
    clock = Clock({}, torch.cuda.synchronize if device.type == "cuda" else lambda: None)
    with clock.phase("products", "diagnostic"):
        for _ in range(repeats):
            x @ weight.T
    return 2.0 * rows * width * 4 * width * repeats / max(clock.seconds("products"), 1e-9)


def missing(
    devices: Devices,
    free: dict[str, float],
    closed: dict[str, Path],
    hub_why: str,
    account: bool,
) -> list[str]:
    """What would make more possible here, each with its remedy.

    Args:
        free: of `disks`.
        closed: of `unwritable`.
        hub_why: why the hub cannot be reached; empty if it can, or nobody asked.
        account: there is one of W&B.
    """
    found = []
    if devices.device == "cpu":
        found.append(
            "no GPU: scale=nano runs here in minutes; scale=single needs one H100, scale=full eight"
        )
    elif why := why_not_fused(torch.device(devices.device), devices.precision):
        found.append(f"no fused kernels ({why}): hardware.kernels=plain compiles instead")
    if why := compiler():
        found.append(f"torch.compile and Triton cannot build: {why}; install it, or use "
                     "hardware.compile=false hardware.kernels=plain")  # fmt: skip
    for name, place in closed.items():
        found.append(
            f"{name} cannot be written ({place}): choose a folder of yours by {MOVED_BY[name]}"
        )
    for name, gb in free.items():
        if name != "outputs" and gb < FULL_DISK_GB:
            found.append(
                f"{gb} GB free for {name}, scale=full takes {FULL_DISK_GB:.0f} GB: point "
                f"{MOVED_BY[name]} to a larger disk, or use fewer data.train_shards"
            )
    if hub_why:
        found.append(
            f"the hub cannot be reached ({hub_why}): data=embedded and data=local need none; copy "
            "published shards to PGOLF_DATA for the others"
        )
    if not account:
        found.append("no W&B key: runs stay offline; `wandb login`, or tracking=none")
    return found


def cpu_memory_gb() -> float:
    """Memory of the machine."""
    return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GB, 1)
