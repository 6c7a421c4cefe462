"""How parts of a canonical tree look to a user: short, as config would write them where it could.

Owns the words for values. Reads every tag that ``fingerprint`` writes; one it does not know is shown as the
JSON it is.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

WIDTH = 60
_DIGEST = 8
_ELLIPSIS = "…"

NameOf = Callable[[str], str]


def show(tree: Any, name_of: NameOf) -> str:
    """Return a value as text, of whatever length. ``name_of`` gives the name of a step by unique id."""
    shower = _SHOWERS.get(tree[0])
    return shower(tree, name_of) if shower is not None else json.dumps(tree, ensure_ascii=False)


def show_change(before: str, after: str) -> str:
    """Return ``before → after``, of which long ones are cut to where they begin to differ."""
    same = 0
    while same < min(len(before), len(after)) and before[same] == after[same]:
        same += 1
    # With a little of what is equal, so that the place is recognised.
    start = max(0, same - WIDTH // 3)
    return f"{_cut(before, start)} → {_cut(after, start)}"


def shortened(text: str) -> str:
    """Return the beginning of a long text."""
    return _cut(text, 0)


def _cut(text: str, start: int) -> str:
    text = text.replace("\n", "⏎")
    if len(text) <= WIDTH:
        return text
    piece = text[start : start + WIDTH]
    end = "" if start + WIDTH >= len(text) else _ELLIPSIS
    return f"{_ELLIPSIS if start else ''}{piece}{end}"


def last_name(qualified: str) -> str:
    """Return the class's own name of ``module.Qualname``."""
    return qualified.rpartition(".")[2]


def _text(tree: Any, name_of: NameOf) -> str:  # noqa: ARG001
    return repr(tree[1])


def _plain(tree: Any, name_of: NameOf) -> str:  # noqa: ARG001
    return str(tree[-1])


def _float(tree: Any, name_of: NameOf) -> str:  # noqa: ARG001
    return repr(float.fromhex(tree[1])) if tree[1] != "nan" else "nan"


def _boolean(tree: Any, name_of: NameOf) -> str:  # noqa: ARG001
    return "true" if tree[1] else "false"


def _bytes(tree: Any, name_of: NameOf) -> str:  # noqa: ARG001
    return f"{tree[1]} bytes (sha256 {tree[2][:_DIGEST]}{_ELLIPSIS})"


def _array(tree: Any, name_of: NameOf) -> str:  # noqa: ARG001
    shape = "×".join(str(size) for size in tree[2]) or "scalar"
    return f"array of {tree[1].lstrip('<>|=')}, {shape} (sha256 {tree[3][:_DIGEST]}{_ELLIPSIS})"


def _member(tree: Any, name_of: NameOf) -> str:  # noqa: ARG001
    return f"{last_name(tree[1])}.{tree[2]}"


def _duration(tree: Any, name_of: NameOf) -> str:  # noqa: ARG001
    return f"{int(tree[1]) / 1_000_000:.15g} s"


def _time(tree: Any, name_of: NameOf) -> str:  # noqa: ARG001
    return f"{tree[2]} UTC" if tree[1] == "utc" else str(tree[2])


def _items(tree: Any, name_of: NameOf) -> str:
    brackets = {"l": "[]", "t": "()", "S": "{}"}[tree[0]]
    return f"{brackets[0]}{', '.join(show(item, name_of) for item in tree[1])}{brackets[1]}"


def _mapping(tree: Any, name_of: NameOf) -> str:
    pairs = (f"{key_of(key, name_of)}: {show(item, name_of)}" for key, item in tree[1])
    return f"{{{', '.join(pairs)}}}"


def _object(tree: Any, name_of: NameOf) -> str:
    fields = ", ".join(f"{name}={show(item, name_of)}" for name, item in tree[2].items())
    made = f"{last_name(tree[1])}({fields})"
    return f"Lazy {made}" if tree[0] == "L" else made


def _step(tree: Any, name_of: NameOf) -> str:
    item = "" if tree[2] is None else f"item {tree[2]!r} of "
    return f"{item}step {name_of(tree[1])!r}"


def key_of(key: Any, name_of: NameOf) -> str:
    """Return a mapping's key as it stands in config: a text without quotes."""
    return str(key[1]) if key[0] == "s" else show(key, name_of)


_SHOWERS: dict[str, Callable[[Any, NameOf], str]] = {
    "n": lambda _tree, _name_of: "null",
    "o": _boolean,
    "i": _plain,
    "f": _float,
    "s": _text,
    "b": _bytes,
    "a": _array,
    "e": _member,
    "p": _plain,
    "td": _duration,
    "date": _plain,
    "dt": _time,
    "time": _time,
    "l": _items,
    "t": _items,
    "S": _items,
    "d": _mapping,
    "c": _object,
    "L": _object,
    "step": _step,
}
