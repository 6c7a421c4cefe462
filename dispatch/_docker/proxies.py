"""The proxies that the docker command gives to builds: ``proxies`` of its ``config.json``.

Owns the reading of that key. Such values are arguments that every Dockerfile knows of itself: engines keep
them out of history and cache.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_VARIABLES = {
    "httpProxy": "HTTP_PROXY",
    "httpsProxy": "HTTPS_PROXY",
    "ftpProxy": "FTP_PROXY",
    "noProxy": "NO_PROXY",
    "allProxy": "ALL_PROXY",
}


def build_proxies(environ: Mapping[str, str], url: str) -> dict[str, str]:
    """Return the proxies for builds on the engine at ``url``, as build arguments in both spellings.

    A configuration that cannot be read names none, as for the docker command.
    """
    home = environ.get("DOCKER_CONFIG") or (f"{environ['HOME']}/.docker" if environ.get("HOME") else "")
    try:
        found: Any = json.loads((Path(home) / "config.json").read_bytes()) if home else {}
        every = found["proxies"]
        chosen: Mapping[str, Any] = every.get(url) or every.get("default") or {}
        named = {_VARIABLES[key]: str(value) for key, value in chosen.items() if key in _VARIABLES and value}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}
    return named | {name.lower(): value for name, value in named.items()}
