"""What jobs on Beaker are given beside their step: data to mount, and variables.

Owns their spellings: mappings with the fields of beaker-py 1 and 2, short texts, and in programs the objects
of either. Refuses to know what Beaker has: a dataset's name is looked up by who mounts it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from dispatch.settings.section import Section, one_of

# What a mount can come from, by our names; beaker-py writes them in camelCase, too.
SOURCES = ("beaker", "host_path", "weka", "secret")
# What the fields of beaker-py know beside: refused, with the reason.
_ALL = (*SOURCES, "result", "volume", "url")
_REFUSED = {
    "result": "each step is an experiment of its own",
    "volume": "volumes are not supported yet",
    "url": "Beaker takes none any more",
}
_TAKEN = ("dispatch", "src", "proc", "sys", "dev")
_MOUNT_KEYS = ("source", "mount_path", "mountPath", "sub_path", "subPath", "mode")
_VARIABLE_KEYS = ("name", "value", "secret")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SECRET = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_MODES = ("readonly", "readwrite")
_SHORT = "DATASET:/path, DATASET:subpath:/path, /host/path:/path or weka://bucket:/path"


@dataclass(frozen=True)
class DataMount:
    """Data that every job sees at ``mount_path``: ``source`` says of which kind, ``name`` which."""

    mount_path: str
    source: str
    name: str
    sub_path: str = ""
    mode: str = ""


@dataclass(frozen=True)
class EnvVar:
    """A variable of every job: a value, or with ``secret`` that of a secret of the Beaker workspace."""

    name: str
    value: str | None = field(default=None, repr=False)
    secret: str | None = None


def plain(value: Any) -> Any:
    """Return a mount or a variable of beaker-py 1 or 2 as the mapping that it stands for; else as it is."""
    if hasattr(value, "mount_path") and hasattr(value, "source"):
        return _fields(value, ("mount_path", "sub_path", "mode")) | {"source": _fields(value.source, _ALL)}
    if hasattr(value, "name") and (hasattr(value, "secret") or hasattr(value, "value")):
        return _fields(value, _VARIABLE_KEYS)
    return value


def _fields(value: Any, names: tuple[str, ...]) -> dict[str, Any]:
    found = {name: getattr(value, name, None) for name in names}
    return {name: getattr(each, "value", each) for name, each in found.items() if each is not None}


def read_datasets(section: Section, key: str) -> tuple[DataMount, ...]:
    """Read a list of mounts."""
    found: dict[str, DataMount] = {}
    for mapping in _entries(section, key, _short_mount):
        mount = _mount(mapping)
        clash = next((each for each in found if _overlap(each, mount.mount_path)), None)
        if clash is not None:
            fact = f"{mount.mount_path!r} and {clash!r} lie within each other"
            raise mapping.refusal(None, fact, "mount them side by side")
        found[mount.mount_path] = mount
    return tuple(found.values())


def read_env_vars(section: Section, key: str) -> tuple[EnvVar, ...]:
    """Read a list of variables, or a mapping of names to values."""
    value = section.content.get(key)
    if isinstance(value, dict):
        return tuple(EnvVar(name, text) for name, text in section.variables(key).items())
    found: dict[str, EnvVar] = {}
    for mapping in _entries(section, key, _short_variable):
        variable = _variable(mapping)
        if variable.name in found:
            raise mapping.refusal("name", f"{variable.name!r} is there twice", "name it once")
        found[variable.name] = variable
    return tuple(found.values())


def _entries(section: Section, key: str, short: Any) -> list[Section]:
    """The entries of a list as mappings; those that are texts as the mappings that they are short for."""
    value = section.content.get(key)
    if value is None:
        return []
    if not isinstance(value, (list, tuple)):
        raise section.wrong(key, "a list", value)
    found = []
    for index, item in enumerate(value):
        where = Section(section.document, (*section.keys, key, index), {})
        entry = short(where, item) if isinstance(item, str) else item
        if not isinstance(entry, Mapping):
            raise section.wrong(key, "texts, or keys with values, in the list", item)
        found.append(Section(section.document, where.keys, entry))
    return found


def _short_mount(where: Section, text: str) -> dict[str, Any]:
    scheme, separator, rest = text.partition("://")
    parts = (rest if separator else text).split(":")
    if len(parts) not in (2, 3) or not all(parts) or (separator and scheme != "weka"):
        raise where.refusal(None, f"{text!r} is not understood", f"write {_SHORT}")
    kind = "weka" if separator else "host_path" if text.startswith("/") else "beaker"
    entry = {"source": {kind: parts[0]}, "mount_path": parts[-1]}
    return entry | ({"sub_path": parts[1]} if len(parts) == 3 else {})


def _short_variable(where: Section, text: str) -> dict[str, Any]:
    name, separator, value = text.partition("=")
    if not separator:
        # What stands there may be the value of a secret: it is not repeated.
        raise where.refusal(None, "a variable says no value", "write NAME=VALUE, or {name: …, secret: …}")
    return {"name": name, "value": value}


def _mount(mapping: Section) -> DataMount:
    mapping.only(_MOUNT_KEYS)
    target = mapping.text("mount_path") or mapping.text("mountPath")
    if target is None or "source" not in mapping:
        raise mapping.refusal(None, "a mount needs `source` and `mount_path`", f"or write {_SHORT}")
    path = PurePosixPath(target)
    if not path.is_absolute() or ".." in path.parts or len(path.parts) < 2:
        raise mapping.wrong("mount_path", "an absolute path below / without '..'", target)
    if path.parts[1] in _TAKEN:
        raise mapping.refusal("mount_path", f"{target!r} lies in a place that is taken", "mount it elsewhere")
    source, name = _source(mapping)
    sub_path = mapping.text("sub_path") or mapping.text("subPath") or ""
    return DataMount(str(path), source, name, sub_path, mapping.choice("mode", _MODES) or "")


def _source(mapping: Section) -> tuple[str, str]:
    if isinstance(mapping.content["source"], str):
        return "beaker", mapping.text("source") or ""
    source = mapping.section("source")
    assert source is not None
    source.only((*_ALL, "hostPath"))
    given = {
        "host_path" if key == "hostPath" else key: text
        for key in source
        if (text := source.text(key)) is not None
    }
    for key, reason in _REFUSED.items():
        if key in given:
            raise source.refusal(key, f"`{key}` cannot be mounted: {reason}", one_of(SOURCES))
    if len(given) != 1:
        raise source.refusal(None, "a source names one thing", one_of(SOURCES))
    return next(iter(given.items()))


def _variable(mapping: Section) -> EnvVar:
    mapping.only(_VARIABLE_KEYS)
    name, secret = mapping.text("name"), mapping.text("secret")
    if name is None or not _VARIABLE.fullmatch(name):
        raise mapping.refusal("name", "a variable needs a `name` of letters, digits and _")
    given = mapping.content.get("value")
    value = None if given is None else Section(mapping.document, mapping.keys, {name: given}).variable(name)
    if secret is not None and value is not None:
        raise mapping.refusal("secret", f"{name}: has both `value` and `secret`", "keep one of them")
    if secret is not None and not _SECRET.fullmatch(secret):
        # Who takes the key for the secret itself has written it here: it is not shown.
        raise mapping.refusal("secret", f"{name}: expected the name of a secret", "secrets are named here")
    return EnvVar(name, value if value is not None or secret is not None else "", secret)


def _overlap(one: str, other: str) -> bool:
    return PurePosixPath(one).is_relative_to(other) or PurePosixPath(other).is_relative_to(one)
