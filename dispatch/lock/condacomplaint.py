"""What conda-lock and the solver below it say when they fail, as an error of ours.

Owns the reading of conda's, mamba's and py-rattler's messages (their wording is no contract, so what is not
recognised is shown as it is), shortened to what a reader can use. Nothing is shown that is not redacted.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dispatch.errors import ConfigurationError, DispatchError, ImageError

_LINES = 14
_OPTIONS = 4
_UNSATISFIABLE = re.compile(
    r"[Uu]nsatisfiable|nothing provides|PackagesNotFound|ResolvePackageNotFound|Could not solve"
    r"|No candidates were found|Cannot solve the request|are incompatible|does not exist"
)
_MISSING = re.compile(
    r"No candidates were found for ([^\n]+?)\.?\s*(?:$|\n)"
    r"|nothing provides (?:requested )?([A-Za-z0-9_.-][^\n]*)"
    r"|not available from current channels:\s+-\s*([^\n]+)"
)
_NETWORK = re.compile(
    r"error sending request|Connection (?:refused|reset)|timed out|HTTP(?:Error|S?Connection)|dns error"
    r"|status (?:client|server) error|HTTP (?:status|code)|CondaHTTPError|CondaSSLError"
    r"|Could not resolve host|Download error|certificate"
)
_REFUSED = re.compile(r"\b(40[13])\b")
_NO_CHANNEL = re.compile(r"could not find subdir|UnavailableInvalidChannel|\b404\b|No such file or directory")


@dataclass(frozen=True)
class Failure:
    """What the solver said (empty if it was not its failure), its name for it, and conda-lock's words."""

    message: str
    name: str
    said: str

    @classmethod
    def of(cls, answers: Path, said: str) -> Failure:
        """Read what the relay kept in ``answers``."""
        try:
            out = (answers / "failure.out").read_text("utf-8", "replace")
            err = (answers / "failure.err").read_text("utf-8", "replace")
        except OSError:
            return cls("", "", said)
        answer = _json(out)
        problems = answer.get("solver_problems")
        message = "\n".join(map(str, problems)) if isinstance(problems, list) else ""
        message = message or str(answer.get("message") or answer.get("error") or err or out)
        return cls(message, str(answer.get("exception_name") or ""), said)


def translate(failure: Failure, what: str, redact: Callable[[str], str]) -> DispatchError:
    """Return the error to raise; ``what`` names the file that was to be locked."""
    said = f"{failure.name} {failure.message}"
    text = shortened(redact(failure.message or _last_words(failure.said)))
    cause = re.sub(r"^Request failed after \d+ retries: ", "", text.replace("\nCaused by: ", ": "))
    if match := _MISSING.search(failure.message):
        name = redact(next(group for group in match.groups() if group).strip())
        return ConfigurationError(
            f"{what}: no channel has {name}{_more(text, name)}",
            remedy="check its spelling and its version, and whether the channels have it for this platform",
        )
    if _NETWORK.search(said):
        if refused := _REFUSED.search(said):
            return ImageError(
                f"{what}: a channel refuses us ({refused[1]}): {cause}",
                remedy="check the credentials in condarc, netrc or the keyring",
            )
        if _NO_CHANNEL.search(said):
            return ImageError(
                f"{what}: a channel is not there: {cause}",
                remedy="check its name, and where condarc and CONDA_CHANNEL_ALIAS place it",
            )
        return ImageError(
            f"{what}: a channel does not answer: {cause}",
            remedy="check the network, its proxy and certificates, and condarc and CONDA_CHANNEL_ALIAS",
        )
    if _NO_CHANNEL.search(said):
        return ImageError(
            f"{what}: a channel is not there: {cause}",
            remedy="check its name, and where condarc and CONDA_CHANNEL_ALIAS place it",
        )
    if _UNSATISFIABLE.search(said):
        return ConfigurationError(
            f"{what}: the specifications cannot be met together:\n{text}",
            remedy="loosen one of the specifications named, or raise what `target:` promises",
        )
    return ImageError(f"{what}: conda-lock failed: {text or 'it said nothing'}", remedy="mend what it names")


def shortened(message: str) -> str:
    """Return a solver's explanation with long lists of versions cut, and no more lines than one reads."""
    message = message.removeprefix("Cannot solve the request because of:").strip()
    lines = [_cut(line.rstrip()) for line in message.splitlines() if line.strip()]
    lines = [
        line for line, before in zip(lines, ["", *lines], strict=False) if _plain(line) != _plain(before)
    ]
    if len(lines) > _LINES:
        return "\n".join([*lines[:_LINES], f"… and {len(lines) - _LINES} more lines"])
    return "\n".join(lines)


def _plain(line: str) -> str:
    """Return a line without the branches that are drawn before it."""
    return line.lstrip(" │├└─")


def _cut(line: str) -> str:
    parts = line.split(" | ")
    if len(parts) > _OPTIONS:
        line = " | ".join(parts[: _OPTIONS - 1]) + f" | … ({len(parts)} versions)"
    return line if len(line) <= 300 else line[:300] + " …"


def _more(text: str, name: str) -> str:
    """Return the explanation, where it says more than that there is none of the name."""
    return f":\n{text}" if len(text.splitlines()) > 1 and name.split()[0] in text else ""


def _last_words(said: str) -> str:
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return lines[-1] if lines else ""


def _json(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text[text.index("{") : text.rindex("}") + 1])
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
