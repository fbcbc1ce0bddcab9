"""From a few roots to all that they need: statements and methods that are kept, and their names."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from pgolf.bundle.module import Method, Module, Statement
from pgolf.bundle.scopes import BundleError, Origin, Use

# Of a module; in one file they are the file's.
OF_THE_FILE = {"__file__", "__name__"}


@dataclass(frozen=True)
class Name:
    """What a global name stands for: of an inlined module, or imported from elsewhere.

    Args:
        module: where it is defined, dotted.
        name: there; None is the module itself.
        inlined: False is an import that stays one.
    """

    module: str
    name: str | None
    inlined: bool


@dataclass
class Sources:
    """The modules of a package.

    Args:
        package: its name.
        read: source of a module, or None where there is none.
        replaced: dotted path of a name, or of a module or package, to that of the name that stands
            for it, e.g. {"hydra.utils.instantiate": "pgolf.pack.script_parts.build"}.
    """

    package: str
    read: Callable[[str], bytes | None]
    replaced: Mapping[str, str] = field(default_factory=dict)
    _modules: dict[str, Module] = field(default_factory=dict)

    def resolves(self, module: str) -> bool:
        """Whether imports of this module are looked into."""
        if module.partition(".")[0] == self.package:
            return True
        return any(path.startswith(f"{module}.") for path in self.replaced)

    def is_module(self, name: str) -> bool:
        return name.partition(".")[0] == self.package and self.read(name) is not None

    def module(self, name: str) -> Module:
        """Raises BundleError when there is none."""
        if name not in self._modules:
            source = self.read(name)
            if source is None:
                raise BundleError(f"there is no module {name}")
            self._modules[name] = Module(name, source, self.resolves)
        return self._modules[name]

    def resolve(self, origin: Origin) -> Name:
        """Where a name is defined, through re-exports and replacements.

        Raises:
            BundleError: nowhere.
        """
        module, name = origin
        path = module if name is None else f"{module}.{name}"
        for prefix in _prefixes(path):
            if prefix in self.replaced:
                there, _, other = self.replaced[prefix].rpartition(".")
                return Name(there, other, True)
        if module.partition(".")[0] != self.package:
            return Name(module, name, False)
        if name is None:
            return Name(module, None, True)
        if self.is_module(module):
            found = self.module(module)
            if name in found.defined:
                return Name(module, name, True)
            if name in found.imports:
                return self.resolve(found.imports[name])
        if self.is_module(path):
            return Name(path, None, True)
        raise BundleError(f"{module} defines no {name}")

    def meaning(self, module: Module, use: Use) -> tuple[Name | None, ast.expr]:
        """What a use means, and the node that says it; None: a builtin, or of the file itself."""
        try:
            return self._meaning(module, use)
        except BundleError:
            if use.annotation:  # never evaluated
                return None, use.node
            raise

    def _meaning(self, module: Module, use: Use) -> tuple[Name | None, ast.expr]:
        name = use.node.id
        origin = use.origin or module.imports.get(name)
        if origin is None and use.annotation:
            origin = module.type_imports.get(name)
        if use.origin is None and name in module.defined:
            origin = (module.name, name)
        if origin is None:
            return None, use.node
        target, node = self.resolve(origin), use.node
        said: ast.expr = node
        for attribute in use.chain:
            if not target.inlined or target.name is not None:
                break
            said = attribute
            if attribute.attr in OF_THE_FILE:
                return None, said
            target = self.resolve((target.module, attribute.attr))
        if target.inlined and target.name is None:
            raise BundleError(f"{module.name}: the module {target.module} is used as an object")
        return target, said


class Reach:
    """What is kept.

    Args:
        sources: of the package.
        roots: dotted paths of names.
        annotations: keep imports and short names of types that only annotations mention.
    """

    def __init__(self, sources: Sources, roots: Iterable[str], annotations: bool = True) -> None:
        self.sources, self._annotations = sources, annotations
        self.kept: set[Statement | Method] = set()
        self.used: set[Name] = set()
        self.members: set[str] = set()
        self._waiting: list[Statement | Method] = []
        for root in roots:
            module, _, name = root.rpartition(".")
            self._want(sources.resolve((module, name)))
        self._run()

    def statements(self) -> set[Statement]:
        """All statements that are kept, some of them without all their methods."""
        return {part for part in self.kept if isinstance(part, Statement)}

    def _run(self) -> None:
        while self._waiting:
            self._look_into(self._waiting.pop())
            if not self._waiting:
                self._add_methods()

    def _want(self, name: Name) -> None:
        if name in self.used:
            return
        self.used.add(name)
        if not name.inlined:
            return
        module = self.sources.module(name.module)
        # What a module does when it is imported belongs to each of its names.
        effects = [s for s in module.statements if not s.names]
        for statement in [*module.definitions(name.name or ""), *effects]:
            self._keep(statement)

    def _keep(self, part: Statement | Method) -> None:
        if part in self.kept:
            return
        self.kept.add(part)
        self._waiting.append(part)
        if isinstance(part, Statement):
            for other in sorted(part.names):
                self._want(Name(part.module.name, other, True))

    def _add_methods(self) -> None:
        for part in list(self.kept):
            if isinstance(part, Statement):
                for method in part.methods:
                    if method.name in self.members:
                        self._keep(method)

    def _look_into(self, part: Statement | Method) -> None:
        statement = part if isinstance(part, Statement) else part.owner
        inside = part if isinstance(part, Method) else None
        found, module = statement.found, statement.module
        for node, name in found.attributes:
            if statement.method_at(node) is inside:
                self.members.add(name)
        for use in found.uses:
            if statement.method_at(use.node) is not inside:
                continue
            meant, _ = self.sources.meaning(module, use)
            if meant is None or (use.annotation and not self._reads(meant)):
                continue
            if meant.inlined and use.origin is None and meant.module != module.name:
                self._check_fixed(meant, module)
            self._want(meant)

    def _reads(self, name: Name) -> bool:
        """Whether a name that an annotation mentions is kept for who reads it."""
        if not self._annotations or not name.inlined:
            return self._annotations
        found = self.sources.module(name.module).definitions(name.name or "")
        return all(isinstance(s.node, ast.Assign) for s in found)

    def _check_fixed(self, name: Name, importer: Module) -> None:
        """An importer would see its own copy of a name that is assigned anew later on."""
        if name.name in self.sources.module(name.module).rebound:
            raise BundleError(
                f"{importer.name} imports {name.name}, which functions of {name.module} assign"
            )


def _prefixes(path: str) -> list[str]:
    parts = path.split(".")
    return [".".join(parts[:count]) for count in range(len(parts), 0, -1)]
