"""Subcommands of `pgolf`, one file each; pgolf/cli.py finds them. `data_x.py` is `pgolf data x`.

A module offers HELP, `arguments(parser)`, `run(options) -> answer` and `show(answer)`; its
imports of pgolf lie inside the functions, so that `pgolf --help` stays quick.
"""
