"""``dispatch-conda-solver``: what conda-lock needs of a conda executable, by py-rattler's solver.

Owns the answers to ``--version``, ``create``, ``install``, ``update``, ``list`` and ``info``, as conda prints
them with ``--json``. Refuses to install: every run is a dry one. A program of its own, because py-rattler can
abort at the exit of an interpreter after its work is done; so it ends by ``os._exit`` behind its last word.

Virtual packages are those of the channel that conda-lock makes for them; the machine's own do not count.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from dispatch.lock.channels import Channels, channel_names

if TYPE_CHECKING:
    from rattler import Gateway, RepoDataRecord, Subdir
    from rattler.virtual_package import GenericVirtualPackage

NAME = "dispatch-conda-solver"
# A file with packages (JSON: name, subdir, file, sha256) whose versions are kept where they fit.
KEEP = "DISPATCH_CONDA_KEEP"
_VERSION = "conda 24.0.0"
_FAKE = "conda-lock-fake-repodata-"
_TAKES_VALUE = ("--prefix", "-p", "--name", "-n", "--channel", "-c")


@dataclass(frozen=True)
class Asked:
    """A command line: the command, its channels, its prefix, and what is left."""

    command: str
    channels: tuple[str, ...]
    prefix: str
    words: tuple[str, ...]


def parse(arguments: Sequence[str]) -> Asked:
    """Cut a command line of conda's; options without a value say what is so in any case."""
    channels: list[str] = []
    words: list[str] = []
    prefix = ""
    rest = iter(arguments)
    for word in rest:
        name, given, value = word.partition("=") if word.startswith("--") else (word, "", "")
        if name in _TAKES_VALUE:
            value = value if given else next(rest, "")
            if name in ("--channel", "-c"):
                channels.append(value)
            elif name in ("--prefix", "-p"):
                prefix = value
        elif not word.startswith("-") or word == "--version":
            words.append(word)
    command = words[0] if words else ""
    return Asked(command, tuple(channels), prefix, tuple(words[1:]))


def main() -> None:
    """Answer and end the process, whatever the interpreter's exit would do."""
    code = 1
    try:
        code, answer = respond(sys.argv[1:], os.environ)
        sys.stdout.write(answer if isinstance(answer, str) else json.dumps(answer, indent=1))
        sys.stdout.write("\n")
        sys.stdout.flush()
    finally:
        sys.stderr.flush()
        os._exit(code)


def respond(arguments: Sequence[str], environ: Mapping[str, str]) -> tuple[int, Any]:
    """Return the exit code and the answer to a command line."""
    asked = parse(arguments)
    if asked.command == "--version":
        return 0, _VERSION
    if asked.command == "info":
        return 0, {"pkgs_dirs": [environ.get("CONDA_PKGS_DIRS", "")]}
    if asked.command == "list":
        return 0, _installed(asked.prefix)
    if asked.command in ("create", "install", "update"):
        return _guarded(lambda: _solve(asked, environ))
    return 2, {"message": f"{NAME} knows no command {asked.command!r}", "exception_name": "ArgumentError"}


def _guarded(work: Callable[[], Coroutine[Any, Any, object]]) -> tuple[int, Any]:
    """Run it, and make of py-rattler's errors what conda says with ``--json``."""
    from rattler import exceptions

    kinds = (
        (exceptions.SolverError, "UnsatisfiableError"),
        (exceptions.InvalidMatchSpecError, "InvalidMatchSpec"),
        (exceptions.InvalidChannelError, "InvalidChannelError"),
        (exceptions.GatewayError, "ChannelError"),
        (exceptions.FetchRepoDataError, "ChannelError"),
    )
    try:
        return 0, asyncio.run(work())
    except Exception as error:
        name = next((name for kind, name in kinds if isinstance(error, kind)), type(error).__name__)
        return 1, {"message": str(error), "exception_name": name, "success": False}


async def _solve(asked: Asked, environ: Mapping[str, str]) -> dict[str, Any]:
    from rattler import Client, Gateway, MatchSpec, Subdir, solve

    platform = Subdir(environ.get("CONDA_SUBDIR") or "linux-64")
    cache = environ.get("RATTLER_CACHE_DIR")
    # It tries again where a server stumbles, and knows netrc, the keyring and RATTLER_AUTH_FILE.
    client = Client.default_client()
    gateway = Gateway(cache_dir=Path(cache) / "repodata" if cache else None, client=client)
    fake = [channel for channel in asked.channels if _FAKE in channel]
    known = Channels.of(environ)
    named = {name: _addresses(known, name) for name in asked.channels if name not in fake}
    channels = list(dict.fromkeys(address for each in named.values() for address in each))
    specs = [MatchSpec(_placed(word, named, known)) for word in asked.words]
    installed = _installed(asked.prefix) if asked.command != "create" else []
    held = [each for each in installed if each["name"] not in {spec_name(spec) for spec in specs}]
    solved = await solve(
        sources=channels,
        specs=[*specs, *(each["name"] for each in held)],
        gateway=gateway,
        platforms=[platform, _noarch()],
        locked_packages=await _offered(gateway, channels, platform, _kept(environ)),
        pinned_packages=await _offered(gateway, channels, platform, held),
        virtual_packages=_virtual(fake, platform),
        channel_relations="disabled",
    )
    records = [_record(each) for each in solved]
    before = {(each["name"], each["fn"]) for each in installed}
    linked = [each for each in records if (each["name"], each["fn"]) not in before]
    # All that is linked is fetched, so that nobody looks for it in a cache.
    return {"success": True, "dry_run": True, "actions": {"FETCH": linked, "LINK": linked}}


def _addresses(known: Channels, name: str) -> tuple[str, ...]:
    """Return where a channel is; of ``defaults`` all of its channels, of any other the best place."""
    here = Path()
    return tuple(known.addresses(each, here)[0] for each in channel_names(name))


def _placed(spec: str, named: Mapping[str, tuple[str, ...]], known: Channels) -> str:
    """Return a specification with the address of the channel that it is bound to.

    conda-lock makes ``chan::name`` of ``https://host/chan::name``.
    """
    channel, bound, rest = spec.partition("::")
    if not bound:
        return spec
    ends = [places for name, places in named.items() if name == channel or name.endswith(f"/{channel}")]
    return f"{(ends[0] if ends else _addresses(known, channel))[0]}::{rest}"


def spec_name(spec: Any) -> str:
    """Return the name that a match specification of py-rattler is for."""
    return str(getattr(spec.name, "normalized", spec.name))


def _kept(environ: Mapping[str, str]) -> list[dict[str, Any]]:
    path = environ.get(KEEP)
    return list(json.loads(Path(path).read_text("utf-8"))) if path else []


async def _offered(
    gateway: Gateway, channels: Sequence[str], platform: Subdir, packages: Iterable[Mapping[str, Any]]
) -> list[RepoDataRecord]:
    """Return the records of packages that the channels still offer, by file and SHA-256."""
    wanted = {(each["name"], each["fn"]): each for each in packages}
    if not wanted:
        return []
    names = sorted({name for name, _ in wanted})
    found = await gateway.query(
        channels, [platform, _noarch()], names, recursive=False, channel_relations="disabled"
    )
    records = []
    for record in (each for channel in found for each in channel):
        asked = wanted.get((record.name.normalized, record.file_name))
        same = asked is not None and (
            record.sha256 is None or asked.get("sha256") in (None, record.sha256.hex())
        )
        if asked is not None and same:
            records.append(record)
            del wanted[record.name.normalized, record.file_name]
    return records


def _noarch() -> Subdir:
    from rattler import Subdir

    return Subdir("noarch")


def _virtual(channels: Iterable[str], platform: Subdir) -> list[GenericVirtualPackage]:
    """Read conda-lock's channel of virtual packages; of two versions of one the higher one counts."""
    from rattler import PackageName, Version
    from rattler.package import BuildString
    from rattler.virtual_package import GenericVirtualPackage

    best: dict[str, tuple[Version, str]] = {}
    for channel in channels:
        index = Path(unquote(urlsplit(channel).path)) / str(platform) / "repodata.json"
        for entry in json.loads(index.read_text("utf-8"))["packages"].values():
            version = Version(entry["version"])
            if entry["name"] not in best or version > best[entry["name"]][0]:
                best[entry["name"]] = (version, entry["build"])
    return [
        GenericVirtualPackage(PackageName(name), version, BuildString(build))
        for name, (version, build) in sorted(best.items())
    ]


def _installed(prefix: str) -> list[dict[str, Any]]:
    """Return the records of a prefix; conda-lock makes one of what was locked before."""
    files = sorted(Path(prefix, "conda-meta").glob("*.json")) if prefix else []
    return [json.loads(path.read_text("utf-8")) for path in files]


def _record(record: RepoDataRecord) -> dict[str, Any]:
    """Return a record as conda prints it."""
    noarch = "python" if record.noarch.python else "generic" if record.noarch.generic else None
    return {
        "name": record.name.normalized,
        "version": str(record.version),
        "build": str(record.build),
        "build_number": record.build_number,
        "channel": record.channel,
        "subdir": record.subdir,
        "fn": record.file_name,
        "url": record.url,
        "md5": record.md5.hex() if record.md5 else "",
        "sha256": record.sha256.hex() if record.sha256 else None,
        "size": record.size or 0,
        "noarch": noarch,
        "depends": list(record.depends),
    }


if __name__ == "__main__":
    main()
