"""The user's logins at registries: Docker's configuration file, and the credential helpers that it names.

Owns where a login is looked for: ``credHelpers``, ``credsStore``, ``auths``, in this order. Nothing is read
and no helper is started before a registry has asked who we are. Refuses to write any of it.

Source: the reference of ``docker login``, and the protocol of docker-credential-helpers.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dispatch._registry.problems import RegistryDeniedError
from dispatch._registry.reference import DOCKER_HUB

HELPER_TIMEOUT = 60
_HELPER = re.compile(r"[A-Za-z0-9_.-]+")
_HUB_KEY = "https://index.docker.io/v1/"
_HUB_NAMES = frozenset({"index.docker.io", "registry-1.docker.io", DOCKER_HUB})
_ABSENT = "credentials not found"
_TOKEN_USER = "<token>"

Call = Callable[[Sequence[str], str], "subprocess.CompletedProcess[str]"]


@dataclass(frozen=True)
class Login:
    """What a registry lets one in with: a password, or one of two kinds of token in its place.

    An ``identity`` token is exchanged for others; a ``bearer`` token is shown as it is.
    """

    user: str = ""
    password: str = field(default="", repr=False)
    identity: str = field(default="", repr=False)
    bearer: str = field(default="", repr=False)


class Logins:
    """The logins of a Docker configuration file, which may be missing."""

    def __init__(self, file: Path, call: Call) -> None:
        self._file = file
        self._call = call

    def of(self, host: str) -> Login | None:
        """Return the login for a registry's host, None where there is none.

        :raises RegistryDeniedError: when the file or the helper that it names cannot be used
        """
        document = self._document()
        helpers = document.get("credHelpers")
        named = _entry(helpers, host) if isinstance(helpers, Mapping) else None
        helper = named or document.get("credsStore")
        found = self._ask(helper, host) if helper else None
        return found or self._written(document, host)

    def _document(self) -> Mapping[str, Any]:
        try:
            document = json.loads(self._file.read_text("utf-8"))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is no JSON"
            raise self._unusable(f"it cannot be read: {reason}") from error
        if not isinstance(document, Mapping):
            raise self._unusable("it is no JSON object")
        return document

    def _written(self, document: Mapping[str, Any], host: str) -> Login | None:
        entries = document.get("auths")
        entry = _entry(entries, host) if isinstance(entries, Mapping) else None
        if not isinstance(entry, Mapping):
            return None
        user, password = str(entry.get("username", "")), str(entry.get("password", ""))
        if entry.get("auth"):
            try:
                user, _, password = base64.b64decode(entry["auth"], validate=True).decode().partition(":")
            except (binascii.Error, ValueError, TypeError) as error:
                raise self._unusable(f"the login for {host} is damaged") from error
        # Docker itself once padded passwords with zeros.
        password = password.strip("\0")
        login = Login(
            user, password, str(entry.get("identitytoken", "")), str(entry.get("registrytoken", ""))
        )
        return login if login != Login() else None

    def _ask(self, helper: object, host: str) -> Login | None:
        """Ask a credential helper. What it prints may be a password, and is in no message."""
        if not isinstance(helper, str) or not _HELPER.fullmatch(helper):
            raise self._unusable(f"{helper!r} is not the name of a credential helper")
        program = f"docker-credential-{helper}"
        key = _HUB_KEY if host == DOCKER_HUB else host
        try:
            done = self._call((program, "get"), key)
        except OSError as error:
            raise self._unusable(f"its credential helper {program} cannot be started") from error
        except subprocess.TimeoutExpired as error:
            raise self._unusable(f"its credential helper {program} does not answer") from error
        if done.returncode != 0:
            said = f"{done.stdout}{done.stderr}".strip()
            if _ABSENT in said:
                return None
            raise self._unusable(f"its credential helper {program} failed: {said[:200]}")
        try:
            answer = json.loads(done.stdout)
            user, secret = str(answer["Username"]), str(answer["Secret"])
        except (ValueError, KeyError, TypeError) as error:
            raise self._unusable(f"its credential helper {program} answered what is no login") from error
        return Login(identity=secret) if user == _TOKEN_USER else Login(user, secret)

    def _unusable(self, fact: str) -> RegistryDeniedError:
        return RegistryDeniedError(
            f"logins of registries ({self._file}): {fact}",
            f"mend it, or log in anew with `docker login` ({self._file.name} is Docker's own)",
        )


def docker_logins(environ: Mapping[str, str], home: Path) -> Logins:
    """Return the logins of the user's Docker configuration (``DOCKER_CONFIG``, else ``~/.docker``)."""
    directory = environ.get("DOCKER_CONFIG") or str(home / ".docker")

    def call(command: Sequence[str], text: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command, input=text, capture_output=True, text=True, timeout=HELPER_TIMEOUT, env=dict(environ)
        )

    return Logins(Path(directory) / "config.json", call)


def _entry(entries: Mapping[str, Any], host: str) -> Any:
    """Return the entry of a host; keys may be URLs, and Docker Hub has several names."""
    if host in entries:
        return entries[host]
    names = _HUB_NAMES if host == DOCKER_HUB else {host}
    found = (key for key in entries if _host_of(key) in names)
    return next((entries[key] for key in found), None)


def _host_of(key: str) -> str:
    return key.partition("://")[2].partition("/")[0] if "://" in key else key.partition("/")[0]
