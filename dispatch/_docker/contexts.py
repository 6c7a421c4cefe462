"""The docker command's contexts: the engine that ``docker context use`` chose.

Owns the reading of ``config.json`` and ``contexts/`` below ``~/.docker`` (``DOCKER_CONFIG``). Writes nothing
there.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dispatch._docker.address import VARIABLE, Address, Tls, parse
from dispatch.errors import ConfigurationError

CONTEXT_VARIABLE = "DOCKER_CONTEXT"
_DEFAULT = "default"


def address_of_context(environ: Mapping[str, str]) -> Address | None:
    """Return the address of the context that ``DOCKER_CONTEXT`` or the configuration names, None for none.

    :raises ConfigurationError: when there is no such context, or it names no engine
    """
    home = environ.get("DOCKER_CONFIG") or (f"{environ['HOME']}/.docker" if environ.get("HOME") else "")
    if not home:
        return None
    named = environ.get(CONTEXT_VARIABLE, "").strip()
    name = named or _current(Path(home))
    if name in ("", _DEFAULT):
        return None
    source = f"{CONTEXT_VARIABLE} {name!r}" if named else f"docker context {name!r}"
    digest = hashlib.sha256(name.encode()).hexdigest()
    meta = Path(home) / "contexts" / "meta" / digest / "meta.json"
    try:
        endpoint: Mapping[str, Any] = json.loads(meta.read_bytes())["Endpoints"]["docker"]
        host = str(endpoint["Host"])
    except FileNotFoundError as error:
        raise ConfigurationError(
            f"{source}: there is no such context", f"see `docker context ls`, or name an engine in {VARIABLE}"
        ) from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigurationError(
            f"{source}: {meta} cannot be read", f"name an engine in {VARIABLE}, or make the context anew"
        ) from error
    verify = not endpoint.get("SkipTLSVerify", False)
    return parse(host, source, _tls(Path(home) / "contexts" / "tls" / digest / "docker", verify))


def _current(home: Path) -> str:
    """A configuration that cannot be read chooses nothing, as for the docker command."""
    try:
        return str(json.loads((home / "config.json").read_bytes()).get("currentContext") or "")
    except (OSError, ValueError, AttributeError):
        return ""


def _tls(place: Path, verify: bool) -> Tls | None:
    files = [place / name for name in ("ca.pem", "cert.pem", "key.pem")]
    authority, certificate, key = (path if path.exists() else None for path in files)
    if authority is None and certificate is None and verify:
        return None
    return Tls(authority, certificate, key, verify)
