"""The remotes of a repository: which one a job clones from, and at which address.

Owns what an address may look like. Refuses to let user names, passwords and tokens out of it: what leaves
this module can be shown, recorded and sent.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

from dispatch.errors import SourceError, did_you_mean
from dispatch.source.stage import Desk

ORIGIN = "origin"
_EXPORT = "or set `source: export`"
_SECRET = re.compile(r"(?<=://)[^/]*@")
_QUERY = re.compile(r"^(https?://[^?#]*)[?#].*$", re.DOTALL)
_HOST = r"[A-Za-z0-9_][A-Za-z0-9._-]*|\[[0-9A-Fa-f:.]+\]"
_PATH = r"[^\s\x00-\x1f\x7f]*"
_HTTP = re.compile(
    rf"(?P<scheme>https?)://(?P<user>[^/]*@)?(?P<place>(?:{_HOST})(?::[0-9]+)?)(?P<path>/{_PATH})"
)
_SSH = re.compile(
    rf"(?P<scheme>ssh|git)://(?:(?P<name>[A-Za-z0-9_][\w.-]*)(?P<password>:[^/]*)?@)?"
    rf"(?P<place>(?:{_HOST})(?::[0-9]+)?)(?P<path>/{_PATH})"
)
_SCP = re.compile(rf"(?:[A-Za-z0-9_][\w.-]*@)?(?:{_HOST}):(?!//){_PATH}")
_FILE = re.compile(rf"file:///{_PATH}")


@dataclass(frozen=True)
class Remote:
    """A remote and its address without credentials; ``bare`` says that it never had any.

    ``site`` is scheme, host and port of an address under http(s), empty for others.
    """

    name: str
    url: str
    bare: bool = True
    site: str = ""


def without_credentials(url: str) -> str:
    """Return an address without user name and password, and without what may follow a question mark."""
    return _QUERY.sub(r"\1", _SECRET.sub("", url))


def choose(desk: Desk, name: str | None) -> Remote:
    """Return the remote to clone from: the one that is named, else ``origin``, else the only one.

    SourceError where there is none, where it would have to be guessed, and for an address that no container
    could reach.
    """
    known = os.fsdecode(desk.call("remote")).split("\n")[:-1]
    chosen = name or _by_itself(desk, known)
    if chosen not in known:
        raise SourceError(
            f"{desk.root}: there is no remote {chosen!r}{did_you_mean(chosen, known)}",
            f"the remotes are: {', '.join(known)}" if known else "add it: git remote add",
        )
    # With the user's own rewriting of addresses applied, which the container does not know.
    address = os.fsdecode(desk.call("remote", "get-url", "--", chosen)).partition("\n")[0]
    return read(chosen, address)


def _by_itself(desk: Desk, known: list[str]) -> str:
    if ORIGIN in known:
        return ORIGIN
    if len(known) == 1:
        return known[0]
    if not known:
        raise SourceError(
            f"{desk.root}: the repository has no remote, so there is nothing to clone from",
            f"add one and push to it: git remote add origin URL && git push -u origin HEAD; {_EXPORT}",
        )
    raise SourceError(
        f"{desk.root}: which remote is meant? There are {', '.join(known)}, and none is called origin",
        f"name one in the settings: `source: {{mode: clone, remote: {known[0]}}}`",
    )


def read(name: str, address: str) -> Remote:
    """Read an address. SourceError, which does not show credentials, for one that cannot be cloned from."""
    http = _HTTP.fullmatch(address)
    if http:
        site = f"{http['scheme']}://{http['place']}"
        return Remote(name, f"{site}{http['path']}", bare=http["user"] is None, site=site)
    ssh = _SSH.fullmatch(address)
    if ssh:
        # Without a name, ssh would log in under the container's.
        user = f"{ssh['name']}@" if ssh["name"] else ""
        return Remote(
            name, f"{ssh['scheme']}://{user}{ssh['place']}{ssh['path']}", bare=ssh["password"] is None
        )
    if _FILE.fullmatch(address) or (_SCP.fullmatch(address) and "::" not in address):
        return Remote(name, address)
    raise SourceError(
        f"remote {name!r}: containers cannot clone from {without_credentials(address)!r}",
        f"use a remote whose address begins with https://, ssh:// or user@host:, {_EXPORT}",
    )
