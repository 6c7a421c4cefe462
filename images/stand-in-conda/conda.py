#!/opt/conda/bin/python -I
"""A stand-in for conda: what the entrypoints of Beaker's clients call, over py-rattler. It is not conda.

Owns the environments below its own prefix: their names, their making, their activation in a POSIX shell.
Packages come by py-rattler from channels that answer. An environment that asks for nothing but Python and pip
is made from the image's own Python, so that it needs no channel at all; that is said. Refuses the rest of
conda with one error.

Where it differs from conda: channels that are named replace the default one (CONDA_CHANNELS, else
`conda-forge`); `defaults` is the channel `main`; names are resolved by CONDA_CHANNEL_ALIAS; no configuration
file is read.
"""

from __future__ import annotations

import argparse
import ast
import asyncio
import hashlib
import importlib.metadata
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

VERSION = "24.11.0"
NOTE = "this is dispatch's stand-in for conda, not conda"
MINOR = "{}.{}".format(*sys.version_info)
DEFAULT_CHANNEL = "conda-forge"
SHELLS = ("shell.bash", "shell.posix", "shell.zsh", "shell.dash")
NAME = re.compile(r"[A-Za-z0-9_.][A-Za-z0-9_.+-]*")
OWN = frozenset({"python", "pip"})
UPDATED = "# update specs: "
BASE_PARTS = ("pip", "setuptools", "wheel", "packaging")
PIP = ("-m", "pip", "--disable-pip-version-check", "--no-input")
SPEC = re.compile(r"(?P<name>[A-Za-z0-9_.-]+?)\s*(?P<version>[=<>!~ ][^\[\]]*)?")
CLAUSE = re.compile(r"(?P<sign>==|=|>=|<=|>|<|!=)?\s*(?P<version>[0-9]+(?:\.[0-9]+)*)(?P<any>\.?\*)?")


class CondaError(Exception):
    """What cannot be done (thing: fact), and what to do instead."""

    def __init__(self, message: str, remedy: str, code: int = 1) -> None:
        super().__init__(message)
        self.remedy = remedy
        self.code = code


def say(text: str) -> None:
    """Tell the user on stderr: stdout is what callers read."""
    print(f"conda: {text}", file=sys.stderr, flush=True)


# --- where environments are


@dataclass(frozen=True)
class Home:
    """This installation: the base environment, and where others are."""

    root: Path
    environ: Mapping[str, str]

    @property
    def envs_dirs(self) -> list[Path]:
        """Directories of environments; a new one goes into the first that can be written."""
        named = self.environ.get("CONDA_ENVS_DIRS") or self.environ.get("CONDA_ENVS_PATH") or ""
        user = Path(self.environ.get("HOME") or "/") / ".conda" / "envs"
        return [*map(Path, filter(None, named.split(":"))), self.root / "envs", user]

    @property
    def packages(self) -> Path:
        """The cache of packages."""
        named = self.environ.get("CONDA_PKGS_DIRS", "").partition(":")[0]
        own = self.root / "pkgs"
        return Path(named) if named else own if writable(own) else self.envs_dirs[-1].parent / "pkgs"

    @property
    def active(self) -> Path | None:
        """The active environment."""
        prefix = self.environ.get("CONDA_PREFIX")
        return Path(prefix) if prefix else None

    def environments(self) -> list[Path]:
        """All environments that have a name, the base first."""
        found = [path for place in self.envs_dirs if readable(place) for path in sorted(place.iterdir())]
        return [self.root, *dict.fromkeys(path for path in found if is_environment(path))]

    def name(self, prefix: Path) -> str:
        """What an environment is called: a name where it has one, else its path."""
        if prefix == self.root:
            return "base"
        return prefix.name if prefix.parent in self.envs_dirs else str(prefix)

    def new(self, name: str | None, prefix: str | None) -> Path:
        """Where an environment that shall be made goes."""
        if prefix:
            return Path(prefix).absolute()
        if not name or not NAME.fullmatch(name) or name in ("base", "root", ".", ".."):
            raise CondaError(
                f"environment {name or ''!r}: no name for a new environment", "name it by -n NAME"
            )
        known = [place / name for place in self.envs_dirs if is_environment(place / name)]
        places = [place for place in self.envs_dirs if writable(place)]
        if not known and not places:
            dirs = ", ".join(map(str, self.envs_dirs))
            raise CondaError(
                f"environment {name!r}: none of {dirs} can be written", "name a place by -p PREFIX"
            )
        return known[0] if known else places[0] / name

    def find(self, name: str | None, prefix: str | None = None) -> Path:
        """The environment that is meant: named, or the active one, or the base."""
        if name and "/" in name:
            name, prefix = None, name
        if prefix:
            found = [Path(prefix).absolute()]
        elif name:
            base = name in ("base", "root")
            found = [self.root] if base else [place / name for place in self.envs_dirs]
        else:
            found = [self.active or self.root]
        for path in found:
            if path == self.root or is_environment(path):
                return path
        raise CondaError(
            f"environment {name or prefix!r}: there is none; known: "
            + ", ".join(map(self.name, self.environments())),
            f"make it: `conda create -n {name or 'NAME'} python={MINOR} pip`",
        )


# What another user's home holds is as if it were not there, and no error: hence `access`.


def is_environment(path: Path) -> bool:
    """conda's own test: a directory with conda-meta/history."""
    return os.access(path / "conda-meta" / "history", os.F_OK)


def readable(path: Path) -> bool:
    """Whether a directory can be listed."""
    return os.access(path, os.R_OK | os.X_OK)


def writable(path: Path) -> bool:
    """Whether a directory is there, or can be made, and can be written."""
    while not os.access(path, os.F_OK) and path != path.parent:
        path = path.parent
    return path.is_dir() and os.access(path, os.W_OK | os.X_OK)


# --- what is asked for


@dataclass(frozen=True)
class Wish:
    """What an environment shall hold. ``directory`` is what paths in the pip section are relative to."""

    specs: tuple[str, ...] = ()
    channels: tuple[str, ...] = ()
    pip: tuple[str, ...] = ()
    name: str | None = None
    directory: Path = field(default_factory=Path)

    @property
    def own(self) -> bool:
        """Whether the image's own Python is enough: nothing but python and pip is asked for."""
        return all(parsed(spec)[0] in OWN for spec in self.specs)


def parsed(spec: str) -> tuple[str, str]:
    """Name and version of a package's specification; the name is empty where it is more than that."""
    match = SPEC.fullmatch(spec.strip())
    return (match["name"].lower(), (match["version"] or "").strip()) if match else ("", "")


def satisfied(version: str, wanted: str) -> bool | None:
    """Whether a version is as wanted; None for what is not read here (alternatives, ~=)."""
    for clause in filter(None, (part.strip() for part in wanted.split(","))):
        match = CLAUSE.fullmatch(clause)
        if match is None:
            return None
        have = [int(part) for part in version.split(".")]
        want = [int(part) for part in match["version"].split(".")]
        sign = match["sign"] or "=="
        width = max(len(have), len(want))
        left, right = have + [0] * (width - len(have)), want + [0] * (width - len(want))
        if sign == "=" or (match["any"] and sign in ("==", "!=")):
            left, right = have[: len(want)], want
        good = {
            "=": left == right,
            "==": left == right,
            "!=": left != right,
            ">=": left >= right,
            "<=": left <= right,
            ">": left > right,
            "<": left < right,
        }
        if not good[sign]:
            return False
    return True


def base_version(name: str) -> str:
    """The version of a package of the base environment."""
    return base_part(name).version


def own_python(wish: Wish, version_of: Callable[[str], str] = base_version) -> bool:
    """Whether the image's own Python is what is asked for, and nothing else is."""
    if not wish.own:
        return False
    for name, wanted in map(parsed, wish.specs):
        # `python==3.11` is 3.11.0 to the letter, and is meant as the minor by whoever writes it.
        python = ("{}.{}.{}".format(*sys.version_info), MINOR)
        if wanted and not any(
            satisfied(have, wanted) for have in (python if name == "python" else (version_of(name),))
        ):
            return False
    return True


def read_file(path: str) -> Wish:
    """Read an environment.yml."""
    import yaml

    try:
        document = yaml.safe_load(Path(path).read_text("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise CondaError(
            f"{path}: it cannot be read: {error}", "name an environment.yml by -f FILE"
        ) from error
    except yaml.YAMLError as error:
        raise CondaError(f"{path}: it is no YAML: {' '.join(str(error).split())}", "correct it") from error
    if not isinstance(document, dict):
        raise CondaError(f"{path}: it has no keys", "write name:, channels: and dependencies:")
    unknown = sorted(map(str, document.keys() - {"name", "channels", "dependencies", "prefix"}))
    if unknown:
        remedy = "take it out: this stand-in reads name, channels and dependencies"
        raise CondaError(f"{path}: {', '.join(unknown)}: this is not supported", remedy)
    specs: list[str] = []
    pip: list[str] = []
    for item in listed(document, "dependencies", path):
        if isinstance(item, dict) and set(item) == {"pip"}:
            pip += texts(item["pip"] or [], f"{path}: pip")
        else:
            specs += texts([item], f"{path}: dependencies")
    channels = texts(listed(document, "channels", path), f"{path}: channels")
    name = document.get("name")
    directory = Path(path).resolve().parent
    return Wish(tuple(specs), tuple(channels), tuple(pip), str(name) if name is not None else None, directory)


def listed(document: Mapping[str, Any], key: str, path: str) -> list[Any]:
    """A list of the document; absence is an empty one."""
    value = document.get(key)
    if value is None or isinstance(value, list):
        return value or []
    raise CondaError(f"{path}: {key}: it is no list", f"write each of {key} in a line with `- ` before it")


def texts(items: Any, what: str) -> list[str]:
    """Items that must be text."""
    for item in items if isinstance(items, list) else [items]:
        if not isinstance(item, str):
            raise CondaError(f"{what}: {item!r} is no text", "write it in quotes")
    return list(items)


# --- channels and packages (py-rattler)


def channel_url(channel: str, environ: Mapping[str, str]) -> str:
    """The address of a channel: its own, or its name after CONDA_CHANNEL_ALIAS; without that the name alone,
    which py-rattler knows where to find."""
    if "://" in channel:
        return channel.rstrip("/")
    if channel.startswith(("/", "./", "../")):
        return Path(channel).resolve().as_uri()
    name = "main" if channel == "defaults" else channel.strip("/")
    alias = environ.get("CONDA_CHANNEL_ALIAS", "").rstrip("/")
    return f"{alias}/{name}" if alias else name


def channels_of(wish: Wish, environ: Mapping[str, str]) -> list[str]:
    """Addresses of the channels to ask, the first before the others."""
    named = [channel for channel in wish.channels if channel != "nodefaults"]
    default = (environ.get("CONDA_CHANNELS") or DEFAULT_CHANNEL).split(",")
    return [channel_url(each.strip(), environ) for each in dict.fromkeys(named or default)]


def plain(text: str) -> str:
    """Text without the credentials that addresses in it may have, in one line."""
    text = re.sub(r"://[^/@\s]*@", "://", re.sub(r"/t/[^/\s]+/", "/t/…/", text))
    return "; ".join(line.strip().removeprefix("Caused by: ") for line in text.splitlines() if line.strip())


def in_rattler(coroutine: Any) -> Any:
    """Run what py-rattler is asked for."""
    return asyncio.run(coroutine)


def solve(prefix: Path | None, wish: Wish, environ: Mapping[str, str]) -> list[Any]:
    """Resolve a wish to the records of all packages that the environment shall hold."""
    import rattler

    sources = channels_of(wish, environ)
    shown = ", ".join(map(plain, sources))
    before = installed(prefix) if prefix else []
    named = {parsed(spec)[0] for spec in wish.specs}
    kept = [spec for spec in asked_before(prefix) if parsed(spec)[0] not in named] if prefix else []
    specs = [*wish.specs, *kept]
    try:
        wanted = [rattler.MatchSpec(spec) for spec in specs]
    except Exception as error:
        raise CondaError(f"{' '.join(specs)}: {plain(str(error))}", "correct the specification") from error
    alias = environ.get("CONDA_CHANNEL_ALIAS", "").rstrip("/")
    config = rattler.ChannelConfig(channel_alias=f"{alias}/") if alias else rattler.ChannelConfig()
    try:
        return list(
            in_rattler(
                rattler.solve(
                    sources=[rattler.Channel(source, config) for source in sources],
                    specs=wanted,
                    gateway=rattler.Gateway(cache_dir=cache(environ, "repodata")),
                    platforms=[str(rattler.Platform.current()), "noarch"],
                    locked_packages=before,
                    virtual_packages=rattler.VirtualPackage.detect(),
                )
            )
        )
    except Exception as error:
        said = plain(str(error))
        if type(error).__name__ == "SolverError":
            raise CondaError(
                f"{', '.join(specs)}: {said}", f"correct it, or ask other channels than {shown}"
            ) from error
        raise unanswered(wish, shown, said) from error


def unanswered(wish: Wish, shown: str, said: str) -> CondaError:
    """The error where no channel is to be had: it says what works without one."""
    asked = ", ".join(wish.specs) or "nothing"
    remedy = (
        "name a channel that answers by -c URL or CONDA_CHANNEL_ALIAS; without one, this stand-in makes"
        f" environments of Python {MINOR} and pip alone: ask for those, and for the rest under `pip:`"
    )
    return CondaError(f"{asked}: {shown} does not answer ({said})", remedy)


def cache(environ: Mapping[str, str], name: str) -> Path:
    """A directory of the package cache."""
    return Home(Path(sys.prefix), environ).packages / name


def installed(prefix: Path) -> list[Any]:
    """The records of what py-rattler has installed into an environment."""
    files = sorted((prefix / "conda-meta").glob("*.json"))
    if not files:
        return []
    import rattler

    return [rattler.PrefixRecord.from_path(path) for path in files]


def link(prefix: Path, records: Sequence[Any], environ: Mapping[str, str]) -> None:
    """Bring packages into an environment."""
    import rattler

    for record in records:
        check_file(record)
    try:
        in_rattler(
            rattler.install(
                list(records),
                target_prefix=str(prefix),
                cache_dir=cache(environ, "packages"),
                execute_link_scripts=True,
                show_progress=False,
            )
        )
    except Exception as error:
        raise CondaError(f"{prefix}: {plain(str(error))}", "check the channel and the disk") from error


def check_file(record: Any) -> None:
    """Hold that a package of a file:// channel is the one that its index names: py-rattler does not look."""
    if not str(record.url).startswith("file://") or not record.sha256:
        return
    from urllib.parse import unquote, urlsplit

    path = Path(unquote(urlsplit(str(record.url)).path))
    try:
        found = hashlib.sha256(path.read_bytes()).digest()
    except OSError as error:
        raise CondaError(f"{path}: it cannot be read: {error.strerror}", "index the channel anew") from error
    if found != record.sha256:
        raise CondaError(
            f"{path}: its SHA-256 is not the one in the channel's index", "index the channel anew"
        )


# --- making environments


@contextmanager
def made(prefix: Path) -> Iterator[None]:
    """A new environment is there whole or not at all, also when the making is killed by TERM."""

    def stop(*_: object) -> NoReturn:
        raise SystemExit(143)

    before = signal.signal(signal.SIGTERM, stop)
    try:
        prefix.mkdir(parents=True)
    except OSError as error:
        signal.signal(signal.SIGTERM, before)
        raise CondaError(
            f"{prefix}: {error.strerror}", "name another place by -p PREFIX, or remove it"
        ) from error
    try:
        yield
    except BaseException:
        shutil.rmtree(prefix, ignore_errors=True)
        raise
    finally:
        signal.signal(signal.SIGTERM, before)


def make(prefix: Path, wish: Wish, environ: Mapping[str, str]) -> None:
    """Make an environment; one that is in its place stays until packages are resolved."""
    own = own_python(wish)
    records = [] if own else solve(None, wish, environ)
    if is_environment(prefix):
        shutil.rmtree(prefix)
    with made(prefix):
        (prefix / "conda-meta").mkdir()
        if own:
            make_own(prefix, wish)
        else:
            link(prefix, records, environ)
        history(prefix, wish.specs)
        install_pip(prefix, wish)


def make_own(prefix: Path, wish: Wish) -> None:
    """Fill an environment with the image's own Python and pip; one that asks for nothing stays empty."""
    if not wish.specs:
        return
    say(f"{prefix}: made from the image's own Python {MINOR} and pip, not from a channel: {NOTE}")
    python = getattr(sys, "_base_executable", None) or sys.executable
    command = [python, "-I", "-m", "venv", "--without-pip", str(prefix)]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if done.returncode:
        said = plain(done.stdout.decode("utf-8", "replace"))[-500:]
        raise CondaError(f"{prefix}: the image's Python makes no environment ({said})", "free its disk")
    for name in BASE_PARTS:
        copy_part(base_part(name), prefix)
    (prefix / "conda-meta" / "stand-in").write_text(f"python {MINOR}\n", "utf-8")


def base_part(name: str) -> importlib.metadata.Distribution:
    """A package of the base environment that others get, too."""
    try:
        return importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        remedy = f"install {name} into the base environment again"
        raise CondaError(f"{sys.prefix}: the base environment has lost {name}", remedy) from None


def copy_part(part: importlib.metadata.Distribution, prefix: Path) -> None:
    """Copy a package of the base, compiled as it is there: the distribution's own pip may be years older."""
    site = prefix / "lib" / f"python{MINOR}" / "site-packages"
    tops = set()
    for file in part.files or ():
        source = Path(str(file.locate()))
        if ".." not in file.parts:
            tops.add((Path(str(part.locate_file(file.parts[0]))), site / file.parts[0]))
        elif source.parent.name == "bin":
            first, _, rest = source.read_text("utf-8").partition("\n")
            target = prefix / "bin" / source.name
            target.write_text(f"#!{prefix}/bin/python\n{rest}" if first.startswith("#!") else rest, "utf-8")
            target.chmod(0o755)
    for source, target in tops:
        if source.is_dir():
            shutil.copytree(source, target)
        elif source.exists():
            shutil.copy(source, target)


def history(prefix: Path, specs: Sequence[str]) -> None:
    """Write what makes a directory an environment."""
    with (prefix / "conda-meta" / "history").open("a", encoding="utf-8") as file:
        file.write(f"{UPDATED}{list(specs)!r}\n")


def asked_before(prefix: Path) -> list[str]:
    """What an environment was asked to hold until now, but for the image's own Python."""
    specs: dict[str, str] = {}
    for line in (prefix / "conda-meta" / "history").read_text("utf-8").splitlines():
        if line.startswith(UPDATED):
            specs.update((parsed(spec)[0] or spec, spec) for spec in ast.literal_eval(line[len(UPDATED) :]))
    own = OWN if has_own(prefix) else frozenset()
    return [spec for name, spec in specs.items() if name not in own]


def change(prefix: Path, wish: Wish, environ: Mapping[str, str]) -> None:
    """Bring what is wished for into an environment that is there."""
    if wish.specs and not (has_own(prefix) and own_python(wish)):
        records = solve(prefix, wish, environ)
        if has_own(prefix) and any(record.name.normalized == "python" for record in records):
            raise CondaError(
                f"{', '.join(wish.specs)}: this needs a Python from the channel, and that of {prefix} is the"
                " image's own",
                "ask for all packages when the environment is made: `conda create` or `conda env create`",
            )
        link(prefix, records, environ)
        history(prefix, wish.specs)
    install_pip(prefix, wish)


def has_own(prefix: Path) -> bool:
    """Whether an environment's Python is the image's own."""
    return (prefix / "conda-meta" / "stand-in").is_file()


def install_pip(prefix: Path, wish: Wish) -> None:
    """Install the pip section: requirements beside the file, so that relative paths mean the same."""
    if not wish.pip:
        return
    python = prefix / "bin" / "python"
    if not python.exists():
        raise CondaError(
            f"{prefix}: there is no Python for the `pip:` section", "add python and pip to dependencies"
        )
    place = wish.directory if writable(wish.directory) else None
    with tempfile.NamedTemporaryFile("w", suffix=".requirements.txt", prefix="condaenv.", dir=place) as file:
        file.write("".join(f"{line}\n" for line in wish.pip))
        file.flush()
        command = [str(python), *PIP, "install", "-r", file.name]
        done = subprocess.run(command, cwd=wish.directory, stdout=sys.stderr, env=activated(prefix))
    if done.returncode:
        raise CondaError(f"{prefix}: pip could not install the `pip:` section", "pip says above why")


# --- activation


@dataclass(frozen=True)
class Shell:
    """Text for a POSIX shell that changes the active environment."""

    home: Home

    def hook(self) -> str:
        """What `eval` defines: the function, and the base made active, as conda does by default."""
        return f"{self.function()}\nconda activate base\n"

    def function(self) -> str:
        """The shell function `conda`; it holds under `set -eu`."""
        exe = shlex.quote(str(self.home.root / "bin" / "conda"))
        python = shlex.quote(str(self.home.root / "bin" / "python"))
        return f"""\
export CONDA_EXE={exe}
export CONDA_PYTHON_EXE={python}
export CONDA_SHLVL="${{CONDA_SHLVL:-0}}"
conda() {{
    case "${{1-}}" in
        activate|deactivate|reactivate)
            __conda_text="$("$CONDA_EXE" shell.posix "$@")" || return $?
            eval "$__conda_text"
            unset __conda_text
            hash -r
            ;;
        *)
            "$CONDA_EXE" "$@"
            ;;
    esac
}}"""

    def activate(self, prefix: Path) -> str:
        """Make an environment the active one."""
        environ = self.home.environ
        level = int(environ.get("CONDA_SHLVL") or 0)
        old = self.home.active if level else None
        if old == prefix:
            return self._change(old, prefix, {"CONDA_SHLVL": str(level)}, ())
        values = {"CONDA_SHLVL": str(level + 1)}
        if old is not None:
            values[f"CONDA_PREFIX_{level}"] = str(old)
        return self._change(old, prefix, values, ())

    def deactivate(self) -> str:
        """Go back to the environment that was active before, or to none."""
        environ = self.home.environ
        level = int(environ.get("CONDA_SHLVL") or 0)
        if level < 1:
            return ""
        before = environ.get(f"CONDA_PREFIX_{level - 1}")
        gone = (f"CONDA_PREFIX_{level - 1}",) if before else ()
        new = Path(before) if before else None
        return self._change(self.home.active, new, {"CONDA_SHLVL": str(level - 1)}, gone)

    def _change(
        self, old: Path | None, new: Path | None, values: dict[str, str], gone: tuple[str, ...]
    ) -> str:
        """From one environment to another; the prompt first, while the old one's part of it is known."""
        lines = (
            []
            if old is None
            else [f". {shlex.quote(str(path))}" for path in reversed(scripts(old, "deactivate"))]
        )
        modifier = f"({self.home.name(new)}) " if new else ""
        prompt = shlex.quote(modifier)
        lines.append(f'if [ -n "${{PS1-}}" ]; then PS1={prompt}"${{PS1#"${{CONDA_PROMPT_MODIFIER-}}"}}"; fi')
        if new is None:
            gone = (*gone, "CONDA_PREFIX", "CONDA_DEFAULT_ENV", "CONDA_PROMPT_MODIFIER")
        else:
            name = self.home.name(new)
            values.update(CONDA_PREFIX=str(new), CONDA_DEFAULT_ENV=name, CONDA_PROMPT_MODIFIER=modifier)
        values["PATH"] = self.path(old, new)
        lines += [f"export {name}={shlex.quote(value)}" for name, value in sorted(values.items())]
        lines += [f"unset {name}" for name in gone]
        lines += [] if new is None else [f". {shlex.quote(str(path))}" for path in scripts(new, "activate")]
        return "\n".join(lines) + "\n"

    def path(self, old: Path | None, new: Path | None) -> str:
        """PATH with the new environment's programs in front, and the old one's taken out once."""
        parts = self.home.environ.get("PATH", os.defpath).split(":")
        if old is not None and str(old / "bin") in parts:
            parts.remove(str(old / "bin"))
        return ":".join([*([str(new / "bin")] if new else []), *parts])


def scripts(prefix: Path, when: str) -> list[Path]:
    """The scripts that packages want to be read at that moment."""
    return sorted((prefix / "etc" / "conda" / f"{when}.d").glob("*.sh"))


def activated(prefix: Path) -> dict[str, str]:
    """The environment variables of a program that runs in an environment; its scripts are not read."""
    environ = dict(os.environ)
    home = Home(Path(sys.prefix), environ)
    environ.update(
        PATH=Shell(home).path(home.active, prefix),
        CONDA_PREFIX=str(prefix),
        CONDA_DEFAULT_ENV=home.name(prefix),
    )
    return environ


# --- the commands


def create(home: Home, args: argparse.Namespace) -> None:
    """`conda create`, `conda env create`."""
    wish = wished(args)
    prefix = home.new(args.name or wish.name, args.prefix)
    if prefix.exists() and not (args.yes and is_environment(prefix)):
        raise CondaError(f"{prefix}: it exists", "remove it with `conda env remove`, or replace it by -y")
    make(prefix, wish, home.environ)
    say(f"{prefix}: ready; `conda activate {home.name(prefix)}`")


def update(home: Home, args: argparse.Namespace) -> None:
    """`conda install`, `conda env update`: the latter makes an environment that is not there."""
    wish = wished(args)
    name = args.name or (None if args.prefix else wish.name)
    try:
        prefix = home.find(name, args.prefix)
    except CondaError:
        if args.command != "env":
            raise
        make(home.new(name, args.prefix), wish, home.environ)
        return
    change(prefix, wish, home.environ)
    say(f"{prefix}: up to date")


def wished(args: argparse.Namespace) -> Wish:
    """What the command line and the files it names ask for."""
    channels = tuple(args.channel or ())
    if args.command == "env":
        wish = read_file(args.file)
        return Wish(wish.specs, (*channels, *wish.channels), wish.pip, wish.name, wish.directory)
    specs = list(args.specs)
    for path in args.file or ():
        try:
            lines = Path(path).read_text("utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise CondaError(
                f"{path}: it cannot be read: {error}", "name a list of packages by --file"
            ) from error
        specs += [line.strip() for line in lines if line.strip() and not line.startswith(("#", "@"))]
    return Wish(tuple(specs), channels)


def remove(home: Home, args: argparse.Namespace) -> None:
    """`conda env remove`."""
    if not (args.name or args.prefix):
        raise CondaError("env remove: no environment is named", "name it by -n NAME or -p PREFIX", 2)
    prefix = home.find(args.name, args.prefix)
    if prefix in (home.root, home.active):
        raise CondaError(f"{prefix}: it is the base or active", "deactivate it first; the base stays")
    shutil.rmtree(prefix)
    say(f"{prefix}: removed")


def show_environments(home: Home, args: argparse.Namespace) -> None:
    """`conda env list`, `conda info --envs`."""
    if args.json:
        print(json.dumps({"envs": list(map(str, home.environments()))}, indent=2))
        return
    print("# conda environments:\n#")
    for path in home.environments():
        name = home.name(path)
        print(f"{'' if '/' in name else name:<20} {'*' if path == home.active else ' '} {path}")
    print()


def info(home: Home, args: argparse.Namespace) -> None:
    """`conda info`."""
    if args.base:
        print(json.dumps({"root_prefix": str(home.root)}) if args.json else home.root)
        return
    if args.envs and not args.json:
        show_environments(home, args)
        return
    facts = {
        "active_prefix": str(home.active) if home.active else None,
        "active_prefix_name": home.name(home.active) if home.active else None,
        "channels": channels_of(Wish(), home.environ),
        "conda_prefix": str(home.root),
        "conda_shlvl": int(home.environ.get("CONDA_SHLVL") or -1),
        "conda_version": VERSION,
        "default_prefix": str(home.active or home.root),
        "envs": list(map(str, home.environments())),
        "envs_dirs": list(map(str, home.envs_dirs)),
        "pkgs_dirs": [str(home.packages)],
        "platform": "linux-64" if os.uname().machine == "x86_64" else f"linux-{os.uname().machine}",
        "python_version": "{}.{}.{}.final.0".format(*sys.version_info),
        "root_prefix": str(home.root),
        "root_writable": writable(home.root),
        "stand_in": NOTE,
    }
    if args.json:
        print(json.dumps(facts, indent=2, sort_keys=True))
        return
    for key, value in facts.items():
        print(f"{key.replace('_', ' '):>20} : {plain(str(value))}")


def show_packages(home: Home, args: argparse.Namespace) -> None:
    """`conda list`."""
    prefix = home.find(args.name, args.prefix)
    rows = packages_of(prefix, with_pip=not args.no_pip)
    if args.pattern:
        rows = [row for row in rows if re.search(args.pattern, row["name"])]
    if args.json:
        print(json.dumps(rows, indent=2))
        return
    print(f"# packages in environment at {prefix}:\n#\n# {'Name':<23} {'Version':<15} {'Build':<15} Channel")
    for row in rows:
        print(f"{row['name']:<25} {row['version']:<15} {row['build_string']:<15} {row['channel']}")


def packages_of(prefix: Path, *, with_pip: bool) -> list[dict[str, str]]:
    """What an environment holds: packages of channels, and what pip installed."""
    rows: dict[str, dict[str, str]] = {}
    for path in sorted((prefix / "conda-meta").glob("*.json")):
        record = json.loads(path.read_text("utf-8"))
        channel = plain(str(record.get("channel", ""))).rstrip("/").rpartition("/")[2]
        rows[record["name"]] = row(record["name"], record["version"], record["build"], channel)
    if has_own(prefix):
        rows["python"] = row("python", "{}.{}.{}".format(*sys.version_info), "stand-in", "stand-in")
    sites = sorted(str(path) for path in (prefix / "lib").glob("python3.*/site-packages"))
    for found in importlib.metadata.distributions(path=sites) if with_pip else ():
        name = re.sub(r"[-_.]+", "-", found.metadata["Name"]).lower()
        rows.setdefault(name, row(name, found.version, "pypi_0", "pypi"))
    return [rows[name] for name in sorted(rows)]


def row(name: str, version: str, build: str, channel: str) -> dict[str, str]:
    """One package, with the keys that conda gives it."""
    return {"name": name, "version": version, "build_string": build, "channel": channel}


def run(home: Home, args: argparse.Namespace) -> NoReturn:
    """`conda run`: the command takes this process's place, so that its end and its signals are its own."""
    prefix = home.find(args.name, args.prefix)
    if not args.words:
        raise CondaError("run: no command is given", f"conda run -n {home.name(prefix)} COMMAND", 2)
    directory = f"cd -- {shlex.quote(args.cwd)}\n" if args.cwd else ""
    text = f'{Shell(home).activate(prefix)}{directory}exec "$@"'
    sys.stdout.flush()
    os.execv("/bin/sh", ["/bin/sh", "-c", text, "conda", *args.words])


def shell(home: Home, words: Sequence[str]) -> None:
    """`conda shell.NAME hook | activate | deactivate | reactivate`: what the function reads."""
    what, *rest = words or ("",)
    text = Shell(home)
    if what == "hook":
        sys.stdout.write(text.hook())
    elif what == "function":
        sys.stdout.write(text.function() + "\n")
    elif what == "activate" and len([word for word in rest if not word.startswith("--")]) <= 1:
        named = [word for word in rest if not word.startswith("--")]
        sys.stdout.write(text.activate(home.find(named[0] if named else "base")))
    elif what == "deactivate":
        sys.stdout.write(text.deactivate())
    elif what == "reactivate":
        sys.stdout.write(text.activate(home.active) if home.active else "")
    else:
        raise CondaError(
            f"shell {what} {' '.join(rest)}: this is not supported", "activate one environment", 2
        )


class Parser(argparse.ArgumentParser):
    """A parser whose errors are ours."""

    def error(self, message: str) -> NoReturn:
        """Refuse a command line."""
        where = self.prog.removeprefix("conda").strip()
        raise CondaError(
            f"{where}: {message}; {NOTE}" if where else f"{message}; {NOTE}",
            "it has: activate, create, deactivate, env create|list|remove|update, info, install, list, run",
            2,
        )


def parser() -> Parser:
    """The command line."""
    top = Parser(prog="conda", description=f"{NOTE}.", allow_abbrev=False)
    top.add_argument("-V", "--version", action="store_true", help="the version of conda that is stood in for")
    commands = top.add_subparsers(dest="command", metavar="COMMAND")

    def command(of: Any, name: str, call: Any, text: str) -> Parser:
        made: Parser = of.add_parser(name, help=text, description=text, allow_abbrev=False)
        made.set_defaults(call=call)
        where = made.add_mutually_exclusive_group()
        where.add_argument("-n", "--name", help="the environment's name")
        where.add_argument("-p", "--prefix", help="or its place")
        made.add_argument("--json", action="store_true", help="answer in JSON, where there is an answer")
        return made

    def changing(made: Parser) -> None:
        made.add_argument("-y", "--yes", action="store_true", help="nothing is ever asked")
        made.add_argument("-q", "--quiet", action="store_true", help="as without it")
        made.add_argument("-c", "--channel", action="append", help="ask this channel, not the default one")
        made.add_argument("--override-channels", action="store_true", help="as without it")

    for name, call in (("create", create), ("install", update)):
        made = command(commands, name, call, f"{name} packages, each NAME or NAME=VERSION")
        changing(made)
        made.add_argument("--file", action="append", help="a list of packages")
        made.add_argument("specs", nargs="*")
    env = commands.add_parser("env", help="environments").add_subparsers(dest="action", required=True)
    for name, call in (("create", create), ("update", update)):
        made = command(env, name, call, f"{name} an environment by an environment.yml")
        changing(made)
        made.add_argument("-f", "--file", default="environment.yml")
        made.add_argument("--prune", action="store_true", help="nothing is pruned")
    command(env, "list", show_environments, "list environments")
    gone = command(env, "remove", remove, "remove an environment")
    changing(gone)
    about = command(commands, "info", info, "facts about this installation")
    about.add_argument("--base", action="store_true")
    about.add_argument("-e", "--envs", action="store_true")
    packages = command(commands, "list", show_packages, "list packages")
    packages.add_argument("--no-pip", action="store_true")
    packages.add_argument("pattern", nargs="?")
    runs = command(commands, "run", run, "run a command in an environment")
    runs.add_argument("--cwd")
    runs.add_argument("--no-capture-output", "--live-stream", action="store_true", help="always so")
    runs.add_argument("words", nargs=argparse.REMAINDER)
    return top


def main(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """Carry out a command line; return the exit code."""
    home = Home(Path(sys.prefix), environ)
    try:
        if argv and argv[0] in SHELLS:
            shell(home, argv[1:])
            return 0
        if argv and argv[0] in ("activate", "deactivate"):
            hook = f'eval "$({home.root}/bin/conda shell.bash hook)"'
            raise CondaError(f"{argv[0]}: this shell has no function `conda`", f"define it: {hook}")
        args = parser().parse_args(argv)
        if args.version:
            print(f"conda {VERSION}")
            say(NOTE)
        elif args.command is None:
            parser().print_help()
        else:
            args.call(home, args)
        return 0
    except CondaError as error:
        say(f"error: {error}\n  {error.remedy}")
        return error.code
    except OSError as error:
        what = error.filename or "conda"
        say(f"error: {what}: {error.strerror or error}\n  mend it, and repeat the command")
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    code = main(sys.argv[1:], os.environ)
    sys.stdout.flush()
    sys.stderr.flush()
    # py-rattler's threads may abort an interpreter that ends in the usual way, after all work is done.
    os._exit(code)
