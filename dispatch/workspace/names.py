"""Names that become files: which are allowed, and inventing one for a run."""

from __future__ import annotations

import os
import re
from collections.abc import Callable

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")
_ID = re.compile(r"[^\W.][\w.-]{0,199}")
_ID_BYTES = 200

_FIRST = (
    "amber bold brave bright brisk calm clear clever cosy crisp eager early fair fleet fond frank "
    "gentle glad golden keen kind lively lucid mellow merry mild neat nimble noble patient plain proud "
    "quick quiet rapid ready silent silver sleek solid spry steady stout sunny swift tidy vivid warm"
)
_SECOND = (
    "badger beaver bison bittern buzzard crane curlew deer dolphin dove eagle egret falcon ferret finch "
    "fox gannet grouse hare heron ibex jackdaw kestrel kite lark linnet lynx magpie marten merlin mole "
    "newt otter owl petrel plover puffin quail raven robin seal shrew stoat stork swan swift tern wren"
)


def is_name(name: str) -> bool:
    """Say whether a run or step may have this name: up to 100 of ``A-Z a-z 0-9 _ . -``, not led by . or -."""
    return _NAME.fullmatch(name) is not None


def is_unique_id(unique_id: str) -> bool:
    """Say whether this can be a unique id: one path component that is neither hidden nor an option.

    Up to 200 bytes, since names of files, which have 255, are made of it.
    """
    return _ID.fullmatch(unique_id) is not None and len(os.fsencode(unique_id)) <= _ID_BYTES


def invent(below: Callable[[int], int]) -> str:
    """Make up a readable name such as ``calm-heron-407``; ``below(n)`` draws from 0 to n-1."""
    first, second = _FIRST.split(), _SECOND.split()
    return f"{first[below(len(first))]}-{second[below(len(second))]}-{below(1000):03d}"
