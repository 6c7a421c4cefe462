"""The values of the secrets that a run's steps name: found once, by the client, before anything starts.

Owns where they are looked for and what a value may be. No message holds a value, or what a command printed.
"""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path

from dispatch.errors import ConfigurationError
from dispatch.plan import RunPlan, Standing
from dispatch.runtime.mask import SHORTEST
from dispatch.settings.secrets import FromCommand, FromFile, FromVariable, SecretSource

LARGEST = 64 * 1024
PATIENCE = 60.0


class _MissingError(Exception):
    """A value that cannot be had: the fact, and what to do."""

    def __init__(self, fact: str, remedy: str) -> None:
        super().__init__(fact)
        self.fact = fact
        self.remedy = remedy


def needed(plan: RunPlan) -> Mapping[str, str]:
    """Return the secrets that the steps name which will run, each with who asks for it first."""
    found: dict[str, str] = {}
    for step in plan.standing(Standing.RUN):
        for secret in step.node.options.secrets:
            found.setdefault(secret.name, f"step {step.node.name!r}")
    return found


def resolve(
    wanted: Mapping[str, str],
    sources: Mapping[str, SecretSource],
    environ: Mapping[str, str],
    directory: Path,
) -> Mapping[str, str]:
    """Return the values of ``wanted`` (names, with who asks for each).

    A name without a source is that of a variable in ``environ``. Raises ConfigurationError for those that
    cannot be had, all in one.
    """
    found: dict[str, str] = {}
    faults: dict[str, _MissingError] = {}
    for name, asking in wanted.items():
        source = sources.get(name) or FromVariable(name)
        try:
            found[name] = _checked(_value(source, name in sources, environ, directory))
        except _MissingError as fault:
            faults[f"{asking}: secret {name!r}: {fault.fact}"] = fault
    if faults:
        remedies = dict.fromkeys(fault.remedy for fault in faults.values())
        raise ConfigurationError("\n".join(faults), "; ".join(remedies))
    return found


def _value(source: SecretSource, declared: bool, environ: Mapping[str, str], directory: Path) -> str:
    if isinstance(source, FromVariable):
        if source.variable not in environ:
            elsewhere = "" if declared else f", or say under `secrets: {source.variable}:` where it is"
            raise _MissingError(f"{source} is not set", f"export {source.variable}{elsewhere}")
        return environ[source.variable]
    if isinstance(source, FromFile):
        return _content(source)
    return _printed(source, environ, directory)


def _content(source: FromFile) -> str:
    try:
        with source.path.open("rb") as file:
            return _text(file.read(LARGEST + 1), f"{source}")
    except OSError as error:
        raise _MissingError(
            f"{source} cannot be read: {error.strerror}", f"let {source.path} be a file that you can read"
        ) from None


def _printed(source: FromCommand, environ: Mapping[str, str], directory: Path) -> str:
    try:
        done = subprocess.run(
            source.argv,
            cwd=source.directory if source.directory.is_dir() else directory,
            env=dict(environ),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=PATIENCE,
            check=False,
        )
    except OSError as error:
        raise _MissingError(
            f"{source} cannot be run: {error.strerror}", "install it, or mend its name"
        ) from None
    except subprocess.TimeoutExpired:
        raise _MissingError(
            f"{source} took longer than {PATIENCE:.0f} s", "log in to it beforehand"
        ) from None
    if done.returncode != 0:
        raise _MissingError(
            f"{source} failed with exit code {done.returncode}", "run it by hand to see what it says"
        )
    return _text(done.stdout.removesuffix(b"\n"), f"{source}")


def _text(data: bytes, source: str) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        raise _MissingError(f"{source} gives no text", "encode it, for example in Base64") from None


def _checked(value: str) -> str:
    if not value.strip():
        raise _MissingError("its value is empty", "give it one, or take it out of `step_secrets`")
    if len(value.strip()) < SHORTEST:
        raise _MissingError(
            f"its value has fewer than {SHORTEST} characters, too few to be kept out of logs",
            "use a longer one",
        )
    if "\0" in value:
        raise _MissingError("its value holds a NUL", "encode it, for example in Base64")
    if len(value.encode("utf-8", "surrogateescape")) > LARGEST:
        raise _MissingError(f"its value is larger than {LARGEST // 1024} KiB", "give it as a step's input")
    return value
