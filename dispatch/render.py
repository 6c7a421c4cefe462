"""Renders the templates: one strict Jinja environment, and the only importer of jinja2.

A value cannot reach a shell unquoted, whatever a template says. Two locks hold that:

- every printed value passes through :func:`quote`, whether or not the template writes the filter;
- a template may print values only in its head, before its first line of script, each as a whole line
  ``name={{ value }}``. So a value never stands inside quotes, a substitution or a here-document, where
  quoting would be void. From there on it is a shell variable, and shellcheck sees to ``"$name"``.

Undefined names are errors. Tags stand alone on their lines, without whitespace control, and only those of
:data:`TAGS` exist: captured or filtered output would come after the quoting.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping

import jinja2
from jinja2.ext import Extension

from dispatch import assets
from dispatch.errors import ConfigurationError

TAGS = ("extends", "block", "endblock", "if", "elif", "else", "endif")

_COMMENT = re.compile(r"\{#.*?#\}", re.DOTALL)
_VALUE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*=\{\{ [^{}]+ \}\}")
_TAG = re.compile(r"[ \t]*\{% (?:" + "|".join(TAGS) + r")(?: [^{}%]*)? %\}")
_HEAD = re.compile(r"[ \t]*(?:#.*)?")


class Quoted(str):
    """Text that is one word of POSIX sh already."""


def quote(value: object) -> Quoted:
    """Return ``value`` as one single-quoted word of POSIX sh; the shell sees exactly the text again.

    Only str and int have a text of their own that a script could mean; a None or a list is a mistake of
    ours (TypeError). A NUL or a lone surrogate cannot stand in a script: ConfigurationError.
    """
    if isinstance(value, Quoted):
        return value
    if isinstance(value, jinja2.Undefined):
        return Quoted(str(value))  # raises UndefinedError, which names it
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        raise TypeError(f"a template printed {type(value).__name__}, not text: {value!r}")
    text = str(value)
    if "\0" in text:
        raise ConfigurationError(f"{text!r} holds a NUL character", remedy="remove it: no shell takes one")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ConfigurationError(f"{text!r} is not valid Unicode", remedy="write it in UTF-8") from error
    return Quoted("'" + text.replace("'", "'\\''") + "'")


class HeadValuesOnly(Extension):
    """Refuses, when a template is loaded, a value or a tag that stands where it must not."""

    def preprocess(self, source: str, name: str | None, filename: str | None = None) -> str:
        """Return ``source`` unchanged; TemplateSyntaxError at the first line that breaks the rules."""
        bare = _COMMENT.sub(lambda comment: "\n" * comment[0].count("\n"), source)
        in_head = True
        for number, line in enumerate(bare.split("\n"), start=1):
            fault = ""
            if "{{" in line or "}}" in line:
                if not (in_head and _VALUE.fullmatch(line)):
                    fault = "a value is printed only in a template's head, as a line name={{ value }}"
            elif any(mark in line for mark in ("{%", "%}", "{#", "#}")):
                if not _TAG.fullmatch(line):
                    fault = f"a tag stands alone on its line, and is one of: {', '.join(TAGS)}"
            elif not _HEAD.fullmatch(line):
                in_head = False
            if fault:
                raise jinja2.TemplateSyntaxError(fault, number, name, filename)
        return source


def environment(loader: jinja2.BaseLoader) -> jinja2.Environment:
    """Return the strict environment over ``loader``."""
    made = jinja2.Environment(
        loader=loader,
        undefined=jinja2.StrictUndefined,
        finalize=quote,
        extensions=[HeadValuesOnly],
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,
    )
    made.filters["quote"] = quote
    return made


@functools.cache
def _shipped() -> jinja2.Environment:
    return environment(jinja2.FileSystemLoader(assets.templates()))


def render(template: str, values: Mapping[str, object]) -> str:
    """Render ``templates/<template>`` with ``values``.

    A value that no shell can take is a ConfigurationError; a fault of the template itself leaves as jinja2's
    own error, since no user can mend it.
    """
    return _shipped().get_template(template).render(values)
