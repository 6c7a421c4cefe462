"""The requirements of a ``pyproject.toml``: its dependencies, some of its extras, some of its groups.

Owns the reading of PEP 621 and PEP 735. The project itself is never installed. Refuses what only a build of
the project would tell (dynamic dependencies), and what another tool would take from somewhere else than an
index (``tool.uv.sources``, Poetry's own table).
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

from dispatch.errors import ConfigurationError, did_you_mean
from dispatch.lock.requirements import Collected, Place, Requirements, normalise, take_index, take_requirement

Table = Mapping[str, Any]


def read_pyproject(path: Path, extras: Sequence[str] = (), groups: Sequence[str] = ()) -> Requirements:
    """Read what a project needs, with the named extras and dependency groups.

    ConfigurationError names the file and the place in it.
    """
    project = _Project(path, _load(path))
    for requirement, where in project.asked(extras, groups):
        take_requirement(requirement, project.into, Place(path, f", {where}"))
    project.refuse_sources()
    project.take_indexes()
    return project.into.of(path)


_SOURCES = ("git", "url", "path", "workspace", "index")


def _load(path: Path) -> Table:
    try:
        content: Table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        fact = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ConfigurationError(f"{path} cannot be read: {fact}", "correct the path after `pip:`") from error
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(f"{path}: not TOML: {error}", "mend the file") from None
    return content


class _Project:
    """A project's metadata, and the requirements found so far."""

    def __init__(self, path: Path, content: Table) -> None:
        self.path = path
        self.into = Collected()
        self.content = content
        self.table = self._table(content, "project")
        self.name = normalise(str(self.table.get("name", "")))
        requires = self.table.get("requires-python", "")
        self.into.requires_python = requires if isinstance(requires, str) else ""

    def asked(self, extras: Sequence[str], groups: Sequence[str]) -> list[tuple[str, str]]:
        """Return each requirement, with the place it is from."""
        if not self.table and not groups:
            poetry = " (its requirements are Poetry's own)" if "poetry" in self._tool else ""
            raise self._error(f"it has no [project] table{poetry}", "write `project.dependencies`")
        found = self._plain("dependencies") if self.table else []
        for extra in extras:
            found += self._extra(extra, ())
        for group in groups:
            found += self._group(group, ())
        return found

    def refuse_sources(self) -> None:
        """Refuse packages that uv would take from elsewhere than an index that all packages share."""
        sources = self._table(self._table(self._tool, "uv"), "sources")
        for name, source in sources.items():
            if normalise(name) in self.into.of(self.path).names:
                kind = next((key for key in _SOURCES if key in source), "")
                remedy = "remove the source and name a released version, or build with a `dockerfile`"
                if kind == "index":
                    remedy = "name the index in a requirements file: `--extra-index-url ADDRESS`"
                where = f"from a source of its own ({kind or 'several'})"
                raise self._error(f"tool.uv.sources takes {name} {where}", remedy)

    def take_indexes(self) -> None:
        """Take the addresses of the indexes that all packages share."""
        found = self._table(self._tool, "uv").get("index", [])
        for index in found if isinstance(found, list) else ():
            if isinstance(index, dict) and not index.get("explicit"):
                place = Place(self.path, ", tool.uv.index")
                take_index(str(index.get("url", "")), self.into, place, default=bool(index.get("default")))

    @property
    def _tool(self) -> Table:
        return self._table(self.content, "tool")

    def _plain(self, key: str) -> list[tuple[str, str]]:
        if key in self.table.get("dynamic", ()):
            raise self._error(
                f"project.{key} is dynamic, so only a build of the project could tell them",
                "write them into the file, or lock a requirements file",
            )
        return self._texts(self.table.get(key, []), f"project.{key}")

    def _extra(self, extra: str, above: tuple[str, ...]) -> list[tuple[str, str]]:
        if "optional-dependencies" in self.table.get("dynamic", ()):
            self._plain("optional-dependencies")
        tables = self._table(self.table, "optional-dependencies")
        key = self._find(extra, tables, "extra", above)
        found = []
        for text, where in self._texts(tables[key], f"project.optional-dependencies.{key}"):
            own = re.fullmatch(rf"({re.escape(self.name)})\s*\[([^\]]*)\]\s*", normalise_name(text))
            if not (own and self.name):
                found.append((text, where))
                continue
            # `all = ["me[a,b]"]`: the project's own extras by its name.
            for inner in own[2].split(","):
                found += self._extra(inner.strip(), (*above, normalise(extra)))
        return found

    def _group(self, group: str, above: tuple[str, ...]) -> list[tuple[str, str]]:
        tables = self._table(self.content, "dependency-groups")
        key = self._find(group, tables, "dependency group", above)
        entries = tables[key]
        if not isinstance(entries, list):
            raise self._error(f"dependency-groups.{key} is no list", "write a list of requirements")
        found = []
        for entry in entries:
            if isinstance(entry, dict) and list(entry) == ["include-group"]:
                found += self._group(str(entry["include-group"]), (*above, normalise(group)))
            else:
                found += self._texts([entry], f"dependency-groups.{key}")
        return found

    def _find(self, name: str, tables: Table, what: str, above: tuple[str, ...]) -> str:
        if normalise(name) in above:
            circle = " → ".join((*above, normalise(name)))
            raise self._error(f"the {what} {name!r} includes itself: {circle}", "remove one of the includes")
        for key in tables:
            if normalise(key) == normalise(name):
                return key
        known = ", ".join(tables) or "none"
        hint = did_you_mean(name, list(tables))
        raise self._error(f"it has no {what} {name!r}{hint}", f"name one that it has: {known}")

    def _texts(self, value: object, where: str) -> list[tuple[str, str]]:
        if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
            raise self._error(f"{where} is no list of texts", 'write `["numpy>=2", "scipy"]`')
        return [(" ".join(each.split()), where) for each in value]

    def _table(self, content: Table, key: str) -> Table:
        found = content.get(key, {})
        if isinstance(found, dict):
            return found
        raise self._error(f"{key} is no table", "mend the file")

    def _error(self, fact: str, remedy: str) -> ConfigurationError:
        return ConfigurationError(f"{self.path}: {fact}", remedy=remedy)


def normalise_name(requirement: str) -> str:
    """Return a requirement with the name in front in its normal form."""
    found = re.match(r"[A-Za-z0-9._-]+", requirement)
    return normalise(found[0]) + requirement[found.end() :] if found else requirement


def refuse_other_python(requirements: Requirements, python: str, who: str) -> None:
    """Refuse a target whose Python the project's ``requires-python`` excludes."""
    if not requirements.requires_python:
        return
    from packaging.specifiers import InvalidSpecifier, SpecifierSet

    contains: Callable[[str], bool]
    try:
        contains = SpecifierSet(requirements.requires_python).contains
    except InvalidSpecifier:
        raise ConfigurationError(
            f"{requirements.path}: requires-python {requirements.requires_python!r} is malformed",
            'write it as `requires-python = ">=3.10"`',
        ) from None
    # Which patch release a base has is not known here: any that is allowed will do.
    if not any(contains(f"{python}.{patch}") for patch in range(100)):
        raise ConfigurationError(
            f"{who} is for Python {python}, and {requirements.path} requires {requirements.requires_python}",
            "name a base with a Python that the project allows",
        )
