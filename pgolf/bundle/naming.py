"""One name for each thing in the file: its own where that is free, else with its module's name."""

from __future__ import annotations

import ast
import builtins
import keyword

from pgolf.bundle.reach import Name, Reach

TAKEN = {*dir(builtins), *keyword.kwlist, "annotations"}


def final_names(reach: Reach, order: list[str]) -> dict[Name, str]:
    """The global name of everything that is used.

    Args:
        order: modules as they stand in the file; the first keeps a name that several define.
    """
    calls, local = _spellings(reach)
    imports = sorted((n for n in reach.used if not n.inlined), key=str)
    inlined = [n for module in order for n in _defined(reach, module)]
    final: dict[Name, str] = {}
    taken: set[str] = set()
    for name in [*imports, *inlined]:
        others = calls.get(name, set())
        wanted = name.name if name.inlined else min(others)
        assert wanted is not None
        chosen = wanted
        for candidate in _candidates(name, wanted):
            chosen = candidate
            # Where it is called otherwise, a local variable of that name would hide it.
            hidden = candidate in local and others != {candidate}
            if candidate not in taken and candidate not in TAKEN and not hidden:
                break
        final[name] = chosen
        taken.add(chosen)
    return final


def _defined(reach: Reach, module: str) -> list[Name]:
    defined = list(reach.sources.module(module).defined)
    found = (Name(module, name, True) for name in defined)
    return [name for name in found if name in reach.used]


def _spellings(reach: Reach) -> tuple[dict[Name, set[str]], set[str]]:
    """How each name is written by those who use it, and all names that are local somewhere."""
    calls: dict[Name, set[str]] = {}
    local: set[str] = set()
    for statement in reach.statements():
        local |= statement.found.bound
        for use in statement.found.uses:
            name, said = reach.sources.meaning(statement.module, use)
            if name is not None and name in reach.used:
                written = said.id if isinstance(said, ast.Name) else ""
                calls.setdefault(name, set()).add(written)
    return calls, local


def _candidates(name: Name, wanted: str) -> list[str]:
    """The name itself, then with more and more of its module's path before it."""
    parts, private = name.module.split("."), "_" * wanted.startswith("_")
    bare = wanted.lstrip("_")
    found = [wanted]
    for count in range(1, len(parts) + 1):
        found.append(f"{private}{'_'.join(parts[-count:])}_{bare}")
    return [*found, *(f"{found[-1]}{number}" for number in range(2, 100))]
