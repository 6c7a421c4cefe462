"""What uv says when it fails, as an error of ours: the package, the fact, the remedy.

Owns the reading of uv's messages (their wording is no contract of uv's, so what is not recognised is
shown as it is). Refuses to see anything that is not redacted yet.
"""

from __future__ import annotations

import re

from dispatch.errors import ConfigurationError, DispatchError, ImageError, LockError
from dispatch.lock.model import Target

_NAME = r"([A-Za-z0-9][A-Za-z0-9._-]*)(?:\[[^\]]*\])?((?:[=<>!~]=?=?[^\s,`]+,?)*)"
_MISMATCH = re.compile(rf"[Hh]ash mismatch for `{_NAME}`(.*)", re.DOTALL)
_NO_WHEEL = re.compile(
    rf"{_NAME} (?:has|have) no (?:usable |matching |compatible )?wheels?"
    rf"|{_NAME} has no `?[\w.-]*`?-?compatible wheels"
)
_NO_SOURCE = re.compile(rf"{_NAME} (?:has|have) no source distribution")
_UNKNOWN = re.compile(
    rf"{_NAME} was not found in (?:the )?(?:provided )?(package registry|cache|package locations)"
)
_NETWORK = re.compile(
    r"[Ff]ailed to fetch|error sending request|dns error|[Cc]onnection (?:refused|reset|closed)"
    r"|timed out|operation timed out|Request failed after|client error \(Connect\)|invalid peer certificate"
)
_REFUSED = re.compile(r"\b(40[13]) (?:Unauthorized|Forbidden)")
_CUDA = re.compile(r"\b(?:nvidia-[a-z-]+|cuda-toolkit)\b")
_MARKER = re.compile(r"\{[^{}]*\}")
_STEP = re.compile(r"(?<=\.) (?=And because|\(?[0-9]+\)|Because)")
_LONGEST = 500
_SETTINGS = "PIP_* or UV_* variables, pip.conf"
_SHA256 = re.compile(r"sha256:[0-9a-f]{64}")


def reason(said: str) -> str:
    """Return uv's message as one readable paragraph: no frames, no arrows, no hints about uv's options."""
    text = said.split("\nhint:")[0]
    kept: list[str] = []
    for line in text.splitlines():
        line = re.sub(r"^\s*[×╰├─▶│]*[─▶]*\s*", "", line)
        line = re.sub(r"^(error|cause|Caused by):\s*", "", line).strip()
        if line and not line.startswith(("Using CPython", "warning:", "No solution found when")):
            kept.append(line)
    return " ".join(kept)


def shortened(explanation: str) -> str:
    """Return a resolver's chain of reasons without markers, and of a long one its beginning and its end."""
    text = _MARKER.sub("", explanation)
    steps = _STEP.split(text)
    if len(text) <= _LONGEST or len(steps) < 3:
        return text
    first, last = steps[0], steps[-1]
    for step in steps[1:-1]:
        if len(first) + len(step) + len(last) > _LONGEST:
            break
        first += f" {step}"
    return f"{first} … {last}"


def translate(said: str, target: Target, what: str, command: str, installing: bool) -> DispatchError:
    """Return the error to raise for uv's (redacted) message.

    ``what`` names the file or image in question; ``command`` renews the lock.
    """
    if match := _MISMATCH.search(said):
        return _hash_mismatch(match, what, command)
    text = reason(said)
    if match := _REFUSED.search(said):
        return ImageError(
            f"{what}: the package index refuses us ({match[1]})",
            remedy="check the credentials in PIP_* or UV_* variables, pip.conf, netrc or the keyring",
        )
    if match := _NO_WHEEL.search(text):
        package = (match[1] or match[3]) + _exact(match[2] or match[4] or "")
        return (LockError if installing else ConfigurationError)(
            f"{what}: package {package} has no wheel for {target} ({text})",
            remedy="ask for a version that has one, choose another Python or base, or name it in `sdists:`, "
            "which builds it from source inside the image",
        )
    if match := _NO_SOURCE.search(text):
        return ConfigurationError(
            f"{what}: package {match[1]} has no source distribution to build from ({text})",
            remedy="take it out of `sdists:`, so that its wheel is used",
        )
    if match := _UNKNOWN.search(text):
        place = "uv's cache" if match[3] == "cache" else "any package index"
        offline = match[3] == "cache"
        return (LockError if installing else ConfigurationError)(
            f"{what}: package {match[1]} was not found in {place}",
            remedy="allow the network (UV_OFFLINE is set)"
            if offline
            else f"check its spelling, and the index settings of this machine ({_SETTINGS})",
        )
    if "No solution found" in said:
        if installing:
            return LockError(
                f"{what}: what the lock names is not to be had: {text}", remedy=f"renew it with `{command}`"
            )
        return _no_solution(what, target, shortened(text))
    if _NETWORK.search(said):
        return ImageError(
            f"{what}: the package index does not answer: {text}",
            remedy=f"check the network, and the proxy, certificate and index settings ({_SETTINGS})",
        )
    return ImageError(f"{what}: uv failed: {text or 'it said nothing'}", remedy="mend what it names")


def _no_solution(what: str, target: Target, text: str) -> ConfigurationError:
    if target.cuda and _CUDA.search(text):
        return ConfigurationError(
            f"{what}: the requirements cannot be met together with a driver for CUDA {target.cuda}: {text}",
            remedy="ask for older releases, or raise `target: {cuda: …}` where the driver is newer",
        )
    return ConfigurationError(
        f"{what}: the requirements cannot be met together: {text}",
        remedy="loosen one of the requirements named",
    )


def _exact(specifier: str) -> str:
    return f" {specifier[2:]}" if re.fullmatch(r"==[^,]+", specifier) else ""


def _hash_mismatch(match: re.Match[str], what: str, command: str) -> LockError:
    expected, _, computed = match[3].partition("Computed:")
    wanted = ", ".join(_SHA256.findall(expected)) or "another hash"
    got = ", ".join(_SHA256.findall(computed))
    return LockError(
        f"{what}: the download of {match[1]}{_exact(match[2])} does not match the lock: expected {wanted}"
        + (f", got {got}" if got else ""),
        remedy="the index serves another file than the one locked: find out why before you renew the lock "
        f"with `{command}`",
    )
