"""`pgolf doctor`: what a run would find here, what scale=full would cost, and what is missing."""

from __future__ import annotations

import argparse
from pathlib import Path

from pgolf.commands.output import Answer, show_lines

HELP = "what this machine has, and what it lacks"


def arguments(parser: argparse.ArgumentParser) -> None:
    """What follows the command's name."""
    parser.add_argument("--offline", action="store_true", help="do not ask the hub")


def run(options: argparse.Namespace) -> Answer:
    """Versions, devices, attention, compiler, disks, hub, account, cost of scale=full, remedies."""
    import torch

    from pgolf import __version__, machine, provenance
    from pgolf.hardware import Hardware
    from pgolf.kernel.attention import available_backends
    from pgolf.pipeline import cache_folder
    from pgolf.tracking.wandb_account import find_account

    devices = Hardware().settle()
    facts = provenance.collect()
    data = Path(provenance.environment("PGOLF_DATA") or "data").resolve()
    places = {"cache": cache_folder(), "data": data, "outputs": Path("outputs")}
    free, closed = machine.disks(places), machine.unwritable(places)
    why = "--offline" if options.offline else machine.hub_state()
    account = find_account().usable
    gpus = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
    return {
        "pgolf": __version__,
        "python": facts["python"],
        "platform": facts["platform"],
        "cpu": facts["cpu"],
        "cpus": facts["cpus_usable"],
        "memory_gb": machine.cpu_memory_gb(),
        "gpus": [f"{gpu.name} ({gpu.total_memory / machine.GB:.0f} GB)" for gpu in gpus],
        "settled": devices.as_dict(),
        "attention": available_backends(torch.device(devices.device)),
        "compile": machine.compiler() or "possible",
        "packages": facts["packages"],
        "cache": str(cache_folder()),
        "free_gb": free,
        "hub": why or "answers",
        "wandb": "an account is found" if account else "no key: runs stay offline",
        "full": machine.full_cost(devices),
        "missing": machine.missing(devices, free, closed, "" if options.offline else why, account),
    }


def show(answer: Answer) -> None:
    """A line a key, then the cost of scale=full and what is missing."""
    full, missing = answer["full"], answer["missing"]
    show_lines({k: v for k, v in answer.items() if k not in ("full", "missing")})
    print(
        f"\nscale=full here: about {full['hours']:,} hours of training for the published 3.6 "
        f"billion tokens (products at {full['tflops']} TFLOP/s a device, half of it in a step);\n"
        f"  about {full['memory_gb']} GB a device with 48 sequences at once, "
        f"{full['memory_gb_1_seq']} GB with scale.micro_batch_seqs=1"
    )
    print("\nmissing" if missing else "\nnothing is missing")
    for line in missing:
        print(f"  {line}")
