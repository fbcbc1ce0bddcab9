"""Which parameter is updated how: a table of patterns, the first match wins."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from pgolf.errors import UserError

NamedParameters = list[tuple[str, nn.Parameter]]


@dataclass(frozen=True)
class Rule:
    """Parameters of the given dimensions whose name matches `pattern` somewhere join `group`."""

    pattern: str
    group: str
    ndims: tuple[int, ...] = (0, 1, 2)


def split_by_rules(named: NamedParameters, rules: Sequence[Rule]) -> dict[str, NamedParameters]:
    """Every parameter in the group of the first rule that takes it, in the given order.

    Raises:
        UserError: a parameter that no rule takes.
    """
    groups: dict[str, NamedParameters] = {rule.group: [] for rule in rules}
    unclaimed = []
    for name, parameter in named:
        for rule in rules:
            if parameter.ndim in rule.ndims and re.search(rule.pattern, name):
                groups[rule.group].append((name, parameter))
                break
        else:
            unclaimed.append(f"{name} {tuple(parameter.shape)}")
    if unclaimed:
        raise UserError(
            f"parameters in no optimizer group: {', '.join(unclaimed)}; add a rule for them to the "
            "optimizer's table, or use optim=adamw, which takes everything"
        )
    return groups
