"""Logins from Docker's configuration file and its credential helpers."""

from __future__ import annotations

import base64
import json
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from dispatch._registry import Login, Logins, RegistryDeniedError, docker_logins


def _no_helper(command: Sequence[str], text: str) -> subprocess.CompletedProcess[str]:
    raise AssertionError((command, text))


def _logins(tmp_path: Path, document: object) -> Logins:
    file = tmp_path / "config.json"
    file.write_text(document if isinstance(document, str) else json.dumps(document))
    return Logins(file, _no_helper)


def _auth(text: str) -> dict[str, str]:
    return {"auth": base64.b64encode(text.encode()).decode()}


@pytest.mark.parametrize(
    ("entries", "host", "login"),
    [
        ({"h.org": _auth("ada:pass:word")}, "h.org", Login("ada", "pass:word")),
        ({"https://h.org": _auth("ada:pw")}, "h.org", Login("ada", "pw")),
        ({"https://h.org/v1/": _auth("ada:pw")}, "h.org", Login("ada", "pw")),
        ({"h.org:5000": _auth("ada:pw")}, "h.org:5000", Login("ada", "pw")),
        ({"h.org": _auth("ada:pw\0\0")}, "h.org", Login("ada", "pw")),
        ({"https://index.docker.io/v1/": _auth("ada:pw")}, "docker.io", Login("ada", "pw")),
        ({"h.org": {"username": "ada", "password": "pw"}}, "h.org", Login("ada", "pw")),
        ({"h.org": {"identitytoken": "t"}}, "h.org", Login(identity="t")),
        ({"h.org": {"registrytoken": "t"}}, "h.org", Login(bearer="t")),
        ({"other.org": _auth("ada:pw")}, "h.org", None),
        ({"h.org:5000": _auth("ada:pw")}, "h.org", None),
        ({"h.org": {}}, "h.org", None),
        ({}, "h.org", None),
    ],
)
def test_a_login_is_what_docker_has_written(
    tmp_path: Path, entries: dict[str, object], host: str, login: Login | None
) -> None:
    """All forms that Docker ever wrote, and no login for a host that merely looks like it."""
    assert _logins(tmp_path, {"auths": entries}).of(host) == login


def test_no_file_is_no_login(tmp_path: Path) -> None:
    """A user who never logged in has none, and no error."""
    assert Logins(tmp_path / "none", _no_helper).of("h.org") is None
    assert docker_logins({}, tmp_path).of("h.org") is None


@pytest.mark.parametrize(
    "document",
    ["{", "[]", "null", {"auths": {"h.org": {"auth": "%%%"}}}, {"auths": {"h.org": {"auth": 7}}}],
)
def test_a_damaged_file_is_named(tmp_path: Path, document: object) -> None:
    """The message names the file and the remedy, and nothing that was in it."""
    with pytest.raises(RegistryDeniedError, match=r"config\.json") as caught:
        _logins(tmp_path, document).of("h.org")
    assert "docker login" in caught.value.remedy
    assert "%%%" not in caught.value.message


def _helper(directory: Path, name: str, script: str) -> None:
    directory.mkdir(exist_ok=True)
    program = directory / f"docker-credential-{name}"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)


def _asked(tmp_path: Path, settings: object, host: str = "h.org") -> Login | None:
    home = tmp_path / "docker"
    home.mkdir(exist_ok=True)
    (home / "config.json").write_text(json.dumps(settings))
    environ = {"DOCKER_CONFIG": str(home), "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"}
    return docker_logins(environ, tmp_path).of(host)


_ECHO = 'read -r host; [ "$1" = get ] && printf \'{"Username": "u", "Secret": "secret of %s"}\' "$host"'


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A directory of the path that helpers are looked for in."""
    return tmp_path / "bin"


def test_a_credential_helper_is_asked(tmp_path: Path, path: Path) -> None:
    """By the protocol of Docker's helpers: the host goes in, a login comes out."""
    _helper(path, "one", _ECHO)
    assert _asked(tmp_path, {"credHelpers": {"h.org": "one"}}) == Login("u", "secret of h.org")
    assert _asked(tmp_path, {"credsStore": "one"}) == Login("u", "secret of h.org")
    hub = _asked(tmp_path, {"credsStore": "one"}, "docker.io")
    assert hub == Login("u", "secret of https://index.docker.io/v1/")


def test_a_helper_of_one_host_comes_first(tmp_path: Path, path: Path) -> None:
    """Then the one for all hosts, then what is written in the file."""
    _helper(path, "one", _ECHO)
    _helper(path, "empty", "echo 'credentials not found in native keychain'; exit 1")
    settings = {
        "credHelpers": {"h.org": "one", "g.org": "empty"},
        "credsStore": "empty",
        "auths": {"g.org": _auth("ada:pw")},
    }
    assert _asked(tmp_path, settings) == Login("u", "secret of h.org")
    assert _asked(tmp_path, settings, "g.org") == Login("ada", "pw")
    assert _asked(tmp_path, settings, "i.org") is None


def test_a_helper_may_give_a_token(tmp_path: Path, path: Path) -> None:
    """A user called ``<token>`` stands for an identity token."""
    _helper(path, "one", 'printf \'{"Username": "<token>", "Secret": "t"}\'')
    assert _asked(tmp_path, {"credsStore": "one"}) == Login(identity="t")


@pytest.mark.parametrize(
    ("script", "fact"),
    [
        (None, "cannot be started"),
        ("echo it is locked; exit 1", "failed: it is locked"),
        ("printf 'my password'", "is no login"),
        ('printf \'{"Username": "my password"}\'', "is no login"),
    ],
)
def test_a_helper_that_fails_is_named(tmp_path: Path, path: Path, script: str | None, fact: str) -> None:
    """The message says which helper, and never what a good answer would have held."""
    if script is not None:
        _helper(path, "one", script)
    with pytest.raises(RegistryDeniedError, match=fact) as caught:
        _asked(tmp_path, {"credsStore": "one"})
    assert "docker-credential-one" in caught.value.message
    assert "my password" not in caught.value.message


def test_a_helper_is_a_name_and_no_path(tmp_path: Path) -> None:
    """A configuration cannot have any program started that is no helper."""
    with pytest.raises(RegistryDeniedError, match="not the name of a credential helper"):
        _asked(tmp_path, {"credsStore": "../../evil"})


def test_a_login_does_not_show_its_password() -> None:
    """Not even in a traceback that prints values."""
    assert "pw" not in repr(Login("ada", "pw", "it-pw", "bt-pw"))
