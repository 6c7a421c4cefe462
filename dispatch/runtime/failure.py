"""What an exception was, for people and for records: type, message, and the user's part of the traceback."""

# pathlib takes longer to import than all of the runtime.
# ruff: noqa: PTH100, PTH120

from __future__ import annotations

import os

from dispatch.errors import DispatchError, StepError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

# A message may hold a whole array. The end of a traceback is the part that tells, the beginning of a message.
MESSAGE_LIMIT = 10_000
TRACEBACK_LIMIT = 200_000

_RUNTIME = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def record(error: BaseException, secrets: Sequence[str] = ()) -> dict[str, str]:
    """Return ``type``, ``message``, ``traceback`` and ``bases`` as ``outcome.json`` holds them.

    ``bases`` are the classes that the exception's derives from, with blanks between them. None of the texts
    holds any of ``secrets``.
    """
    kind = type(error)
    known = kind.__module__ == "builtins" or isinstance(error, DispatchError)
    name = kind.__qualname__ if known else f"{kind.__module__}.{kind.__qualname__}"
    return {
        "type": name,
        "message": _hide(secrets, message(error))[:MESSAGE_LIMIT],
        "traceback": _hide(secrets, _traceback(error, name))[-TRACEBACK_LIMIT:],
        "bases": " ".join(map(_name, kind.__mro__[1:])),
    }


def _name(kind: type) -> str:
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _hide(secrets: Sequence[str], text: str) -> str:
    if not secrets:
        return text
    from dispatch.runtime.mask import mask_text

    return mask_text(secrets, text)


def message(error: BaseException) -> str:
    """Return what the exception says; our own errors say their remedy, too."""
    try:
        text = str(error)
    except Exception as fault:
        # A user's __str__ may raise anything.
        return f"(its message cannot be told: {type(fault).__name__})"
    remedy = error.remedy if isinstance(error, DispatchError) else ""
    return f"{text}; {remedy}" if remedy else text


def _traceback(error: BaseException, name: str) -> str:
    """Format the exception without the runtime's frames; of an error of ours, the message alone.

    Unless it tells of another step's: that one's traceback is what its author needs.
    """
    trace = users_part(error.__traceback__)
    inner = error.__cause__ if isinstance(error, StepError) else None
    if trace is None and inner is None and isinstance(error, DispatchError):
        return f"{name}: {message(error)}\n"
    try:
        import traceback

        return "".join(traceback.format_exception(type(error), error, trace))
    except Exception:
        # Whatever the exception's class does, its name must be recorded.
        return f"{name}: {message(error)}\n"


def users_part(trace: TracebackType | None) -> TracebackType | None:
    """Return a traceback from the user's first frame on, without those of the runtime that lead to it."""
    while trace is not None and trace.tb_frame.f_code.co_filename.startswith((_RUNTIME, "<frozen importlib")):
        trace = trace.tb_next
    return trace
