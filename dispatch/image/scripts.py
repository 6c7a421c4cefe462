"""Console scripts: the text of an entry point, and the interpreter line of a script that came as a file.

Source of the format: "Entry points specification" of the Python Packaging User Guide.
"""

from __future__ import annotations

import configparser
import re

_PYTHON_SHEBANG = re.compile(rb"#!\s*(?P<program>/\S*/(?:python|pypy)[0-9.]*w?)(?P<options>[^\n]*)\n")
_WRAPPED_SHEBANG = re.compile(rb"#!/bin/sh\n'''exec' [^\n]*\n' '''\n")
_OBJECT = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*")
_SCRIPT = """\
#!{python}
import sys

from {module} import {name}

if __name__ == "__main__":
    sys.exit({call}())
"""


def with_interpreter(text: bytes, python: str) -> bytes:
    """Return a script that names an interpreter by absolute path with ``python`` in its place.

    Both spellings of installers are known: a plain ``#!`` line, and the ``/bin/sh`` line they write
    where the path is longer than the kernel allows. ``#!/usr/bin/env …`` and other programs stay.
    """
    wrapped = _WRAPPED_SHEBANG.match(text)
    if wrapped:
        return f"#!{python}\n".encode() + text[wrapped.end() :]
    plain = _PYTHON_SHEBANG.match(text)
    if plain:
        return f"#!{python}".encode() + plain["options"] + b"\n" + text[plain.end() :]
    return text


def entry_point_script(target: str, python: str) -> bytes | None:
    """Return the script of an entry point (``package.module:object.attribute``), or None if it is none."""
    reference = target.partition("[")[0]
    module, colon, call = (part.strip() for part in reference.partition(":"))
    if not (colon and _OBJECT.fullmatch(module) and _OBJECT.fullmatch(call)):
        return None
    name = call.partition(".")[0]
    return _SCRIPT.format(python=python, module=module, name=name, call=call).encode()


def entry_points(listing: bytes) -> dict[str, str]:
    """Return the scripts that an ``entry_points.txt`` asks for, by name; an unreadable one asks for none."""
    parser = configparser.RawConfigParser(delimiters=("=",), strict=False)
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    try:
        parser.read_string(listing.decode("utf-8"))
    except (configparser.Error, UnicodeDecodeError):
        return {}
    sections = [parser[name] for name in ("console_scripts", "gui_scripts") if parser.has_section(name)]
    return {name: target for section in sections for name, target in section.items()}
