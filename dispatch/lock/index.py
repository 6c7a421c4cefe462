"""The package indexes of this machine: pip's variables and configuration files, told to uv by variables.

Owns the translation (pip merges its indexes and looks at several files; uv reads neither) and the
redaction of everything that is known from the environment alone. An explicit ``UV_*`` variable wins over
what pip's settings say. Source of the format: pip's documentation, "Configuration".
"""

from __future__ import annotations

import configparser
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit, urlunsplit

from dispatch.errors import ConfigurationError

_SECTIONS = ("global", "download", "compile", "install")
_TRUE = frozenset({"1", "true", "yes", "on", "y", "t"})
_PIP_TO_UV_SCALARS = (
    ("cert", "SSL_CERT_FILE"),
    ("client-cert", "SSL_CLIENT_CERT"),
    ("timeout", "UV_HTTP_TIMEOUT"),
    ("default-timeout", "UV_HTTP_TIMEOUT"),
    ("retries", "UV_HTTP_RETRIES"),
    ("proxy", "HTTP_PROXY"),
    ("proxy", "HTTPS_PROXY"),
)
# uv's own variables that may reach it: where packages come from and how, never what is installed where.
_UV_KEPT = frozenset(
    {
        "UV_CACHE_DIR",
        "UV_CONCURRENT_DOWNLOADS",
        "UV_CONCURRENT_INSTALLS",
        "UV_CONFIG_FILE",
        "UV_DEFAULT_INDEX",
        "UV_EXTRA_INDEX_URL",
        "UV_FIND_LINKS",
        "UV_HTTP_CONNECT_TIMEOUT",
        "UV_HTTP_PROXY",
        "UV_HTTP_RETRIES",
        "UV_HTTP_TIMEOUT",
        "UV_HTTPS_PROXY",
        "UV_INDEX",
        "UV_INDEX_STRATEGY",
        "UV_INDEX_URL",
        "UV_INSECURE_HOST",
        "UV_KEYRING_PROVIDER",
        "UV_NATIVE_TLS",
        "UV_NO_CACHE",
        "UV_NO_CONFIG",
        "UV_NO_PROXY",
        "UV_OFFLINE",
        "UV_REQUEST_TIMEOUT",
        "UV_SYSTEM_CERTS",
    }
)
_UV_KEPT_FOR_COMPILE = frozenset(
    {"UV_CONSTRAINT", "UV_EXCLUDE_NEWER", "UV_OVERRIDE", "UV_PRERELEASE", "UV_RESOLUTION"}
)
_UV_INDEXES = frozenset({"UV_DEFAULT_INDEX", "UV_INDEX", "UV_INDEX_URL", "UV_EXTRA_INDEX_URL"})
_UV_ADDRESSES = (
    *sorted(_UV_INDEXES),
    "UV_FIND_LINKS",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "http_proxy",
    "https_proxy",
    "all_proxy",
)
_OTHER_KEPT = re.compile(
    r"PATH|HOME|USER|LOGNAME|TMPDIR|LD_LIBRARY_PATH|XDG_[A-Z_]+|NETRC|DBUS_SESSION_BUS_ADDRESS"
    r"|SSL_[A-Z_]+|(HTTP|HTTPS|ALL|NO|http|https|all|no)_(PROXY|proxy)|RAYON_NUM_THREADS"
)
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s`'\"<>()]+")


def pip_config_files(environ: Mapping[str, str]) -> tuple[Path, ...]:
    """Return the configuration files that pip would read, in the order in which later ones win."""
    chosen = environ.get("PIP_CONFIG_FILE")
    if chosen == os.devnull:
        return ()
    home = Path(environ.get("HOME") or "~").expanduser()
    shared = [Path(part) for part in (environ.get("XDG_CONFIG_DIRS") or "/etc/xdg").split(":") if part]
    files = [*(directory / "pip" / "pip.conf" for directory in shared), Path("/etc/pip.conf")]
    if not (chosen and Path(chosen).exists()):
        user = Path(environ.get("XDG_CONFIG_HOME") or home / ".config")
        files += [home / ".pip" / "pip.conf", user / "pip" / "pip.conf"]
    if environ.get("VIRTUAL_ENV"):
        files.append(Path(environ["VIRTUAL_ENV"]) / "pip.conf")
    if chosen:
        files.append(Path(chosen))
    return tuple(files)


def read_pip_settings(environ: Mapping[str, str], files: Iterable[Path]) -> dict[str, str]:
    """Return pip's options by long name without dashes in front: configuration files, then ``PIP_*``.

    A file that is missing is passed over, as pip does; one that cannot be parsed is a ConfigurationError.
    """
    settings: dict[str, str] = {}
    for path in files:
        parser = configparser.RawConfigParser()
        try:
            parser.read_string(path.read_text(encoding="utf-8"))
        except OSError:
            continue
        except (configparser.Error, UnicodeDecodeError):
            raise ConfigurationError(
                f"pip's configuration file {path} cannot be parsed",
                remedy="correct it (`pip config debug` shows the files that pip reads)",
            ) from None
        for section in _SECTIONS:
            if parser.has_section(section):
                settings.update((_option_name(key), value) for key, value in parser.items(section))
    for key, value in environ.items():
        if key.startswith("PIP_") and key != "PIP_CONFIG_FILE" and value:
            settings[_option_name(key[4:])] = value
    return settings


def _option_name(key: str) -> str:
    return key.lower().replace("_", "-").lstrip("-")


def _without_credentials(address: str) -> str:
    parts = urlsplit(address)
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit((parts.scheme, host, parts.path, parts.query, parts.fragment))


@dataclass(frozen=True)
class Indexes:
    """What this machine says about indexes, for one process environment.

    ``environ`` is the caller's environment, ``settings`` what :func:`read_pip_settings` found.
    """

    environ: Mapping[str, str]
    settings: Mapping[str, str]

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> Indexes:
        """Read pip's configuration files as ``environ`` locates them."""
        return cls(environ, read_pip_settings(environ, pip_config_files(environ)))

    @property
    def forbidden(self) -> bool:
        """Whether pip is told to look at no index at all; uv has an option for that and no variable."""
        return self.settings.get("no-index", "").lower() in _TRUE and not self.environ.keys() & _UV_INDEXES

    def for_uv(
        self, declared: tuple[str, ...] = (), own_default: bool = False, compiling: bool = False
    ) -> dict[str, str]:
        """Return the whole environment for a run of uv.

        ``declared`` are the index addresses that the requirements name; with ``own_default`` the first of
        them replaces the default index, as ``--index-url`` in a requirements file does for pip.
        """
        kept = _UV_KEPT | (_UV_KEPT_FOR_COMPILE if compiling else frozenset())
        result = {
            key: value for key, value in self.environ.items() if key in kept or _OTHER_KEPT.fullmatch(key)
        }
        result.update(LC_ALL="C.UTF-8", UV_PYTHON_DOWNLOADS="never", NO_COLOR="1", UV_NO_PROGRESS="1")
        self._indexes(result, declared, own_default)
        for option, variable in _PIP_TO_UV_SCALARS:
            if self.settings.get(option):
                result.setdefault(variable, self.settings[option])
        for bundle in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
            if self.environ.get(bundle) and Path(self.environ[bundle]).is_file():
                result.setdefault("SSL_CERT_FILE", self.environ[bundle])
        if self.settings.get("trusted-host"):
            result.setdefault("UV_INSECURE_HOST", " ".join(self.settings["trusted-host"].split()))
        if self.settings.get("keyring-provider") == "subprocess":
            result.setdefault("UV_KEYRING_PROVIDER", "subprocess")
        if compiling and self.settings.get("constraint"):
            result.setdefault("UV_CONSTRAINT", " ".join(self._paths("constraint")))
        return result

    def _indexes(self, result: dict[str, str], declared: tuple[str, ...], own_default: bool) -> None:
        chosen_by_user = result.keys() & {
            "UV_DEFAULT_INDEX",
            "UV_INDEX",
            "UV_INDEX_URL",
            "UV_EXTRA_INDEX_URL",
        }
        default = self.settings.get("index-url") or self.settings.get("pypi-url") or ""
        extra = list(declared[1:] if own_default else declared)
        if not result.keys() & {"UV_INDEX", "UV_EXTRA_INDEX_URL"}:
            extra += self.settings.get("extra-index-url", "").split()
        elif extra:
            extra += result.pop("UV_INDEX", "").split() + result.pop("UV_EXTRA_INDEX_URL", "").split()
        if extra:
            result["UV_INDEX"] = " ".join(dict.fromkeys(extra))
        if own_default:
            result.pop("UV_INDEX_URL", None)
            result["UV_DEFAULT_INDEX"] = declared[0]
        elif default and not result.keys() & {"UV_DEFAULT_INDEX", "UV_INDEX_URL"}:
            result["UV_DEFAULT_INDEX"] = default.strip()
        if "UV_FIND_LINKS" not in result and (links := list(self._find_links())):
            result["UV_FIND_LINKS"] = ",".join(links)
        if not chosen_by_user:
            # pip looks at all its indexes and takes the best version; uv would stop at the first one.
            result.setdefault("UV_INDEX_STRATEGY", "unsafe-best-match")

    def _find_links(self) -> Iterator[str]:
        """Yield places of wheels; uv refuses a missing directory where pip passes over it."""
        for link in self.settings.get("find-links", "").split():
            if "://" in link and not link.startswith("file:"):
                yield link
                continue
            path = Path(unquote(urlsplit(link).path) if link.startswith("file:") else link).expanduser()
            if path.exists():
                yield path.absolute().as_uri() if "," in str(path) else str(path.absolute())

    def _paths(self, option: str) -> list[str]:
        values = self.settings.get(option, "").split()
        return [value if "://" in value else str(Path(value).expanduser().absolute()) for value in values]

    def redact(self, text: str, declared: Iterable[str] = ()) -> str:
        """Replace in ``text`` what only this machine's settings know; declared index addresses stay.

        Every other address goes, wherever it came from: an index answers with addresses of its own.
        """
        open_addresses = tuple(declared)

        def shown(match: re.Match[str]) -> str:
            try:
                plain = _without_credentials(match[0])
            except ValueError:
                return "<index>"
            return plain if plain.startswith(open_addresses) else "<index>"

        open_hosts = {urlsplit(address).hostname for address in open_addresses}
        text = _ADDRESS.sub(shown, text)
        for secret in sorted(self._secrets() - {host for host in open_hosts if host}, key=len, reverse=True):
            text = re.sub(rf"(?<![A-Za-z0-9]){re.escape(secret)}(?![A-Za-z0-9])", "<index>", text)
        return text

    def _secrets(self) -> set[str]:
        """Hosts, user names, passwords and paths that settings and variables name."""
        names = ("index-url", "extra-index-url", "find-links", "proxy", "trusted-host", "cert", "constraint")
        words = [word for name in names for word in self.settings.get(name, "").split()]
        for variable in _UV_ADDRESSES:
            words += re.split(r"[\s,]+", self.environ.get(variable, ""))
        found: set[str] = set()
        for word in words:
            address = word.partition("=")[2] if re.match(r"[A-Za-z0-9_-]+=", word) else word
            if "://" not in address:
                found.add(address)
                continue
            try:
                parts = urlsplit(address)
                found |= {parts.netloc.rpartition("@")[2], parts.hostname or ""}
                found |= {unquote(part) for part in (parts.username, parts.password) if part}
                found |= {part for part in (parts.username, parts.password) if part}
                if parts.scheme == "file":
                    found.add(unquote(parts.path))
            except ValueError:
                found.add(address)
        return {secret for secret in found if len(secret) >= 4}
