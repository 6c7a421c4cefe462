"""What a shell needs so that public clients find a local Beaker: lines for ``eval``.

Owns the variables. Every value is quoted, whatever is in the paths; the token itself is in none.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path

from dispatch.errors import ConfigurationError

CONFIG, ROOTS, BUNDLE = "BEAKER_CONFIG", "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH", "REQUESTS_CA_BUNDLE"
PROXY = "HTTPS_PROXY"
# A stream is read by the thread that wants it: 200 000 lines of a log in 3 s, else in 8.
ONE_THREAD = "GRPC_SINGLE_THREADED_UNARY_STREAM"
# These would win over the file.
IN_THE_WAY = ("BEAKER_TOKEN", "BEAKER_ADDR")
LOCAL = ("localhost", "127.0.0.1")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def exports(state: Path, user: str | None, environ: Mapping[str, str], proxy: str | None) -> Iterator[str]:
    """Yield the lines for a user (by default the first of the configuration).

    ``proxy`` is the address of the one that answers for another host, where the shell is to go through it.
    """
    config = _config_of(state, user)
    roots = _roots(state, environ)
    yield _export(CONFIG, str(config))
    yield _export(ROOTS, str(roots))
    yield _export(ONE_THREAD, "1")
    if proxy is not None or "\nagent_address: https:" in config.read_text("utf-8"):
        yield _export(BUNDLE, str(roots))
    if proxy is not None:
        yield _export(PROXY, f"http://{proxy}")
    if proxy is not None or any(name.lower().endswith("_proxy") for name in environ if environ[name]):
        for name in ("NO_PROXY", "no_proxy"):
            known = [word for word in environ.get(name, "").split(",") if word]
            yield _export(name, ",".join([*known, *(each for each in LOCAL if each not in known)]))
    yield _export("GANTRY_CHECK_FOR_UPGRADES", "0")
    yield f"unset {' '.join(IN_THE_WAY)}"


def removals(state: Path, environ: Mapping[str, str]) -> Iterator[str]:
    """Yield the line that takes away what is ours of the variables."""
    names = [CONFIG, ROOTS, ONE_THREAD, "GANTRY_CHECK_FOR_UPGRADES"]
    if environ.get(BUNDLE, "").startswith(os.fspath(state / "tls") + os.sep):
        names.append(BUNDLE)
    if environ.get(PROXY, "").startswith(f"http://{LOCAL[1]}:") and BUNDLE in names:
        names.append(PROXY)
    yield f"unset {' '.join(names)}"


def _roots(state: Path, environ: Mapping[str, str]) -> Path:
    """The file of what is to be trusted: the user's own, where one is named already, with ours added."""
    ours, named = state / "tls", environ.get(BUNDLE, "")
    if not named.startswith("/") or Path(named).is_relative_to(ours):
        return ours / ("roots-user.pem" if named == os.fspath(ours / "roots-user.pem") else "roots.pem")
    try:
        text = Path(named).read_bytes().rstrip() + b"\n\n" + (ours / "ca.pem").read_bytes()
    except OSError:
        return ours / "roots.pem"
    partial = ours / "roots-user.part"
    partial.write_bytes(text)
    return partial.replace(ours / "roots-user.pem")


def _config_of(state: Path, user: str | None) -> Path:
    users = state / "users"
    known = sorted(path.parent.name for path in users.glob("*/config.yml"))
    if not known:
        raise ConfigurationError(f"{state}: there is no local Beaker here", "`dispatch beaker up` makes one")
    if user is None:
        user = (state / "default-user").read_text("utf-8").strip()
    if not _NAME.fullmatch(user) or user not in known:
        raise ConfigurationError(f"no user {user!r} in {state}", f"known: {', '.join(known)}")
    return users / user / "config.yml"


def _export(name: str, value: str) -> str:
    return f"export {name}={shlex.quote(value)}"
