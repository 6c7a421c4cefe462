"""Evaluates Jsonnet, in a process of its own.

Owns how an evaluation is started and how its failures are worded. An import is looked for beside the file
that names it, then beside the configuration, and may lead to any file that the user may read: a configuration
is the user's own, as a Makefile is. What Jsonnet calls a number is a double, so ``1.0`` arrives as ``1``, and
whole numbers beyond 2⁵³ are rounded.

Of the libraries, rjsonnet has one wheel for all versions of Python and evaluates in 0.5 ms; the reference
implementation takes 50 ms each time, the one in Go brings threads and signal handlers along. But rjsonnet
takes the interpreter down with an expression that is nested deeply enough, and lets Ctrl-C wait while it
works: hence the process, which costs 15 ms.
"""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from dispatch.errors import ConfigurationError
from dispatch.settings.jsontext import loads


class NotJsonnetError(ConfigurationError):
    """A text is not Jsonnet at all."""


_PROGRAM = Path(__file__).with_name("jsonnet_process.py")
# A line of the library's stack: ``    file:2:5``, ``    file:1:5-24: function <f> call``.
_FRAME = re.compile(r" {4}(?P<file>\S.*?):(?P<line>\d+):(?P<column>\d+)(?:-[\d:]+)?(?::.*)?")
_FIELD = re.compile(r" {4}field <(.*)> manifestification")
_VARIABLE = "external variable is not defined: "


def evaluate(text: str, name: str, variables: Mapping[str, str]) -> Any:
    """Return what a Jsonnet text evaluates to, as plain data.

    ``name`` is the file it stands in: imports are looked for beside it, and messages name it. ``variables``
    are what ``std.extVar`` gives. What the text traces goes to stderr. Raises ConfigurationError.
    """
    asked = {"name": name, "text": text, "beside": str(Path(name).parent), "variables": dict(variables)}
    # Nothing of the user's environment is loaded but the one library, which is found from here.
    command = [sys.executable, "-I", "-S", str(_PROGRAM), str(_library())]
    done = subprocess.run(command, input=json.dumps(asked).encode(), stdout=subprocess.PIPE, check=False)
    if done.returncode < 0:
        fact = f"{name}: its evaluation was ended by {signal.Signals(-done.returncode).name}"
        raise ConfigurationError(fact, "nest its expressions less deeply, and see that memory suffices")
    try:
        answer: dict[str, str] = json.loads(done.stdout)
    except ValueError:
        fact = f"{name}: its evaluation ended with code {done.returncode} and no answer"
        raise ConfigurationError(fact, "see what it said above") from None
    if "error" in answer:
        raise _refusal(name, answer["error"])
    try:
        return loads(answer["result"], name)
    except json.JSONDecodeError:
        # The library prints infinity as such.
        raise ConfigurationError(f"{name}: one of its numbers is beyond all bounds", "mend it") from None


def _library() -> Path:
    """The directory that the library is imported from."""
    found = find_spec("rjsonnet")
    if found is None or found.origin is None:
        raise ConfigurationError("Jsonnet needs the package rjsonnet", "pip install rjsonnet")
    return Path(found.origin).parent.parent


def _refusal(name: str, complaint: str) -> ConfigurationError:
    lines = complaint.splitlines()
    frames = [frame for line in lines if (frame := _FRAME.fullmatch(line))]
    facts = [line.strip() for line in lines if line.strip() and not line.startswith("    ")]
    fact = "; ".join(facts).removeprefix("runtime error: ") or "cannot be evaluated"
    # The library's own functions are not where the mistake is.
    own = next((frame for frame in frames if not frame["file"].startswith("<")), None)
    keys = ".".join(found[1] for line in reversed(lines) if (found := _FIELD.fullmatch(line)))
    place = f"{name}: {keys}" if keys else name
    if own:
        place = f"{own['file']}:{own['line']}:{own['column']}"
    if fact.startswith("syntax error: "):
        fact = fact.removeprefix("syntax error: ")
        return NotJsonnetError(f"{place}: not Jsonnet: {fact}", "mend it at this place")
    if fact.startswith(_VARIABLE):
        variable = fact.removeprefix(_VARIABLE)
        return ConfigurationError(
            f"{place}: the variable {variable!r} is not set",
            f"set it: `-D {variable}=VALUE`, or `-D {variable}` to take it from the environment",
        )
    if fact.startswith("can't resolve "):
        return ConfigurationError(
            f"{place}: {fact}", "imports are looked for beside the file that names them"
        )
    return ConfigurationError(f"{place}: {fact}", "mend it at this place" if own else "mend the expression")
