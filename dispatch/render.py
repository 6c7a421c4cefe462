"""Renders the templates: one strict Jinja environment, and the only importer of jinja2.

A value cannot reach a shell unquoted, whatever a template says. Two locks hold that:

- every printed value passes through :func:`quote`, whether or not the template writes the filter;
- a template may print values only in its head, before its first line of script, each as a whole line
  ``name={{ value }}``. So a value never stands inside quotes, a substitution or a here-document, where
  quoting would be void. From there on it is a shell variable, and shellcheck sees to ``"$name"``.

A Dockerfile has no quoting that holds everywhere: its values are JSON, and stand only as elements of an exec
form (``RUN ["/bin/sh", "-ec", {{ command }}]``), in which nothing is expanded.

Undefined names are errors. Tags stand alone on their lines, without whitespace control, and only those of
:data:`TAGS` exist: captured or filtered output would come after the quoting.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Mapping

import jinja2
from jinja2.ext import Extension

from dispatch import assets
from dispatch.errors import ConfigurationError

TAGS = ("extends", "block", "endblock", "if", "elif", "else", "endif")

DOCKERFILE_TAGS = (*TAGS, "for", "endfor")

_COMMENT = re.compile(r"\{#.*?#\}", re.DOTALL)
_VALUE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*=\{\{ [^{}]+ \}\}")
_TAG = re.compile(r"[ \t]*\{% (?:" + "|".join(TAGS) + r")(?: [^{}%]*)? %\}")
_ELEMENT = r'(?:"(?:[^"\\{]|\\.|\{(?!\{))*"|\{\{ [^{}]+ \}\})'
_EXEC_FORM = re.compile(rf"RUN \[{_ELEMENT}(?:, {_ELEMENT})*\]")
_DOCKERFILE_TAG = re.compile(r"\{% (?:" + "|".join(DOCKERFILE_TAGS) + r")(?: [^{}%]*)? %\}")
_MARKS = ("{%", "%}", "{#", "#}")
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
            elif any(mark in line for mark in _MARKS):
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


class ExecFormsOnly(Extension):
    """Refuses, when a Dockerfile's template is loaded, a value or a tag that stands where it must not."""

    def preprocess(self, source: str, name: str | None, filename: str | None = None) -> str:
        """Return ``source`` unchanged; TemplateSyntaxError at the first line that breaks the rules."""
        for number, line in enumerate(source.split("\n"), start=1):
            fault = ""
            if ("{{" in line or "}}" in line) and not _EXEC_FORM.fullmatch(line):
                fault = "a value is printed only as an element of an exec form"
            elif any(mark in line for mark in _MARKS) and not _DOCKERFILE_TAG.fullmatch(line):
                fault = f"a tag stands alone on its line, and is one of: {', '.join(DOCKERFILE_TAGS)}"
            if fault:
                raise jinja2.TemplateSyntaxError(fault, number, name, filename)
        return source


def exec_words(value: object) -> str:
    """Return text as one JSON string, several texts as elements of an array; in ASCII, on one line."""
    if isinstance(value, jinja2.Undefined):
        return str(value)  # raises UndefinedError, which names it
    given = list(value) if isinstance(value, (list, tuple)) else [value]
    words = [word for word in given if isinstance(word, str)]
    if not words or words != given:
        raise TypeError(f"a template printed {value!r}, which is no text")
    if any("\0" in word for word in words):
        raise ConfigurationError(f"{words!r} holds a NUL character", remedy="remove it: no shell takes one")
    try:
        "".join(words).encode()
    except UnicodeEncodeError as error:
        raise ConfigurationError(f"{words!r} is not valid Unicode", remedy="write it in UTF-8") from error
    return ", ".join(json.dumps(word, ensure_ascii=True) for word in words)


def dockerfile_environment(loader: jinja2.BaseLoader) -> jinja2.Environment:
    """Return the strict environment for Dockerfiles over ``loader``."""
    return jinja2.Environment(
        loader=loader,
        undefined=jinja2.StrictUndefined,
        finalize=exec_words,
        extensions=[ExecFormsOnly],
        trim_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,
    )


def render_dockerfile(template: str, values: Mapping[str, object]) -> str:
    """Render ``templates/dockerfile/<template>`` with ``values``, each text or a list of texts."""
    loader = jinja2.FileSystemLoader(assets.templates() / "dockerfile")
    return dockerfile_environment(loader).get_template(template).render(values)


def render(template: str, values: Mapping[str, object]) -> str:
    """Render ``templates/<template>`` with ``values``.

    A value that no shell can take is a ConfigurationError; a fault of the template itself leaves as jinja2's
    own error, since no user can mend it.
    """
    return _shipped().get_template(template).render(values)
