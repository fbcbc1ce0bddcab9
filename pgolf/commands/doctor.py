"""`pgolf doctor`: what a run would find on this machine."""

from __future__ import annotations

import argparse

from pgolf.commands.output import Answer, show_lines

HELP = "what this machine has"


def arguments(parser: argparse.ArgumentParser) -> None:
    """What follows the command's name."""
    del parser  # nothing


def run(options: argparse.Namespace) -> Answer:
    """Versions, devices, attention backends, cache and account."""
    import torch

    from pgolf import __version__, provenance
    from pgolf.hardware import Hardware
    from pgolf.kernel.attention import available_backends
    from pgolf.pipeline import cache_folder
    from pgolf.tracking.wandb_account import find_account

    devices = Hardware().settle()
    facts = provenance.collect()
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {
        "pgolf": __version__,
        "python": facts["python"],
        "platform": facts["platform"],
        "cpu": facts["cpu"],
        "cpus": facts["cpus_usable"],
        "gpus": gpus,
        "settled": devices.as_dict(),
        "attention": available_backends(torch.device(devices.device)),
        "packages": facts["packages"],
        "cache": str(cache_folder()),
        "wandb": "an account is found" if find_account().usable else "no key: runs stay offline",
    }


show = show_lines
