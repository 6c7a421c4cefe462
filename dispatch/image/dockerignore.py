"""Which files of a directory are no part of a build's context: the patterns of ``.dockerignore``.

Owns their meaning, which is that of moby's ``patternmatcher`` (the last pattern that fits decides, ``!``
takes a file back in, what is below an excluded directory is excluded). Looks at no
file but the list.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dispatch.errors import ConfigurationError

IGNORE_FILE = ".dockerignore"


@dataclass(frozen=True)
class _Rule:
    pattern: re.Pattern[str]
    keeps: bool


@dataclass(frozen=True)
class Ignored:
    """The patterns of one list, in its order."""

    rules: tuple[_Rule, ...] = ()

    @property
    def takes_back(self) -> bool:
        """Whether a file in an excluded directory may be wanted all the same."""
        return any(rule.keeps for rule in self.rules)

    def excludes(self, path: str) -> bool:
        """Tell whether a path (relative, with ``/``) is left out, by itself or with a directory above."""
        parts = path.split("/")
        ways = ["/".join(parts[: end + 1]) for end in range(len(parts))]
        excluded = False
        for rule in self.rules:
            # A rule that would change nothing need not be tried.
            if rule.keeps == excluded and any(map(rule.pattern.fullmatch, ways)):
                excluded = not rule.keeps
        return excluded


def read_ignored(context: Path, dockerfile: Path) -> Ignored:
    """Read the list that holds for a Dockerfile: ``<Dockerfile>.dockerignore`` beside it, else the context's.

    Raises ConfigurationError for one that cannot be read, or holds a pattern that is none.
    """
    for path in (dockerfile.with_name(f"{dockerfile.name}{IGNORE_FILE}"), context / IGNORE_FILE):
        try:
            return parse_ignored(path.read_text("utf-8-sig").splitlines(), path)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            raise ConfigurationError(f"{path}: {error.strerror}", "make it readable") from error
        except UnicodeDecodeError as error:
            raise ConfigurationError(f"{path}: it is no text in UTF-8", "write it in UTF-8") from error
    return Ignored()


def parse_ignored(lines: Sequence[str], path: Path) -> Ignored:
    """Return the rules of a list; ConfigurationError names ``path`` and the line of a bad pattern."""
    rules = []
    for number, line in enumerate(lines, start=1):
        text = line.strip()
        if line.startswith("#") or not text:
            continue
        keeps = text.startswith("!")
        text = text[1:].strip() if keeps else text
        if not text:
            raise ConfigurationError(f"{path}, line {number}: '!' stands alone", "name what is taken back in")
        cleaned = posixpath.normpath(text).lstrip("/") or "."
        try:
            rules.append(_Rule(re.compile(_regular(cleaned), re.DOTALL), keeps))
        except re.error as error:
            raise ConfigurationError(
                f"{path}, line {number}: {text!r} is no pattern ({error})", "correct it"
            ) from error
    return Ignored(tuple(rules))


def _regular(pattern: str) -> str:
    """Return a pattern as a regular expression for a whole path."""
    found, at = "", 0
    while at < len(pattern):
        sign = pattern[at]
        at += 1
        if sign == "*" and pattern[at : at + 1] == "*":
            at += 1
            at += pattern[at : at + 1] == "/"
            found += ".*" if at == len(pattern) else "(?:.*/)?"
        elif sign == "*":
            found += "[^/]*"
        elif sign == "?":
            found += "[^/]"
        elif sign == "[" and (end := pattern.find("]", at + 1)) > 0:
            found += "[" + pattern[at:end].replace("\\", "\\\\").replace("[", "\\[") + "]"
            at = end + 1
        elif sign == "\\":
            found += re.escape(pattern[at : at + 1] or "\\")
            at += 1
        else:
            found += re.escape(sign)
    return found
