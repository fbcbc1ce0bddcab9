"""Subcommands of `pgolf`, one file each; pgolf/cli.py finds them. `data_x.py` is `pgolf data x`.

A module offers HELP, `arguments(parser)`, `run(options) -> answer` and `show(answer)`, and where
it judges what it finds `exit_code(answer)` (2: what was given has faults). Its imports of pgolf lie
inside the functions, so that `pgolf --help` stays quick.
"""
