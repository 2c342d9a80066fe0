"""A folder is a shelf: one file is one thing, the file name is its name, and no table is edited.

A file stands on the shelf when it registers something; its neighbours (a base class, helpers) do not.
Listing and describing read the files without importing them, so help never pays for torch.
"""

import ast
import functools
import importlib
import importlib.util
import pkgutil
import re
from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, Generic, TypeVar

from danlu.core.errors import UnknownName

T = TypeVar("T")


class Registry(Generic[T]):
    """Things of one kind, found by file name in `package` (plug-ins: entry points of that group)."""

    def __init__(self, kind: str, package: str):
        self.kind, self.package = kind, package
        self._things: dict[str, T] = {}

    def register(self, thing: Any = None, *, aliases: tuple[str, ...] = ()) -> Any:
        """Decorator. The name is the `name` default of the thing's Config, else the thing's own name."""
        if thing is None:
            return lambda thing: self.register(thing, aliases=aliases)
        config = getattr(thing, "Config", None)
        name = config.model_fields["name"].default if config else thing.__name__
        for key in (name, *aliases):
            if self._things.setdefault(key, thing) is not thing:
                raise ValueError(f"two {self.kind}s claim the name {key!r}")
        return thing

    def names(self) -> list[str]:
        """Every name on offer, from file names and installed plug-ins; imports nothing."""
        return list(_offers(self.package))

    def __contains__(self, name: str) -> bool:
        return name in self.names()

    def __getitem__(self, name: str) -> T:
        if name not in self._things:
            self._find(name)
        if name not in self._things:
            raise UnknownName(self.kind, name, self.names())
        return self._things[name]

    def build(self, config: Any, *parts: Any) -> Any:
        """The thing `config` names, made from it and from run-time parts."""
        thing: Callable[..., Any] = self[config.name]  # type: ignore[assignment]  # T is whatever the shelf holds
        return thing(config, *parts)

    def tree(self, name: str) -> ast.Module | None:
        """The parsed source of one thing, unimported; None for a plug-in."""
        for folder in _folders(self.package):
            for path in (Path(folder) / f"{name}.py", Path(folder) / name / "__init__.py"):
                if path.is_file():
                    return ast.parse(path.read_text(encoding="utf-8"))
        return None

    def summary(self, name: str) -> str:
        """First docstring line of a thing's file."""
        tree = self.tree(name)
        text = ast.get_docstring(tree) if tree else None
        return text.splitlines()[0] if text else "(installed plug-in)"

    def _find(self, name: str) -> None:
        offers = _offers(self.package)
        for other in [name] if name in offers else offers:  # perhaps an alias: only then is the whole shelf read
            if plugin := offers[other]:
                self._things[other] = plugin.load()
            else:
                importlib.import_module(f"{self.package}.{other}")


def _folders(package: str) -> list[str]:
    spec = importlib.util.find_spec(package)
    return list(spec.submodule_search_locations or ()) if spec else []


@functools.cache
def _offers(package: str) -> dict[str, EntryPoint | None]:
    """The names of a shelf in order, each with its plug-in, or with None where it is a file."""
    files = {
        module.name for folder in _folders(package) for module in pkgutil.iter_modules([folder]) if _registers(folder, module)
    }
    offers = dict.fromkeys(files) | {plugin.name: plugin for plugin in _installed().select(group=package)}
    return dict(sorted(offers.items()))


@functools.cache
def _installed() -> Any:
    """The entry points of everything installed: to find those of one group, all must be read."""
    return entry_points()


def _registers(folder: str, module: pkgutil.ModuleInfo) -> bool:
    path = Path(folder) / (f"{module.name}/__init__.py" if module.ispkg else f"{module.name}.py")
    return path.is_file() and re.search(r"^@\w+\.register\b", path.read_text(encoding="utf-8"), re.MULTILINE) is not None


def shelves(package: str = "danlu") -> dict[str, Registry[Any]]:
    """Every shelf of the house by its folder's name, found by looking for a Registry in a folder's __init__."""
    found: dict[str, Registry[Any]] = {}
    for folder in _folders(package):
        for path in sorted(Path(folder).rglob("__init__.py")):
            if "Registry(" in (source := path.read_text(encoding="utf-8")) and ", __name__)" in source:
                name = ".".join([package, *path.parent.relative_to(folder).parts])
                module = importlib.import_module(name)
                for thing in vars(module).values():
                    if isinstance(thing, Registry) and thing.package == name:
                        found[path.parent.name] = thing
    return found
