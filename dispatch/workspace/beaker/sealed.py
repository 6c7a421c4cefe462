"""JSON that tells whether it is whole: its first line has the SHA-256 of all the others.

The form of ``manifest.json``, for every small file that we keep on Beaker.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any


class BrokenSealError(ValueError):
    """The bytes are not those that were sealed."""


def seal(data: Mapping[str, Any]) -> bytes:
    """Return the bytes of a JSON object; equal objects have equal bytes."""
    rest = f"{json.dumps(dict(data), sort_keys=True)[1:]}\n".encode("ascii")
    return _line(rest) + rest


def unseal(stored: bytes) -> dict[str, Any]:
    """Return the object of :func:`seal`'s bytes. BrokenSealError for anything else."""
    first, _, rest = stored.partition(b"\n")
    if not rest or first + b"\n" != _line(rest):
        raise BrokenSealError("other bytes than were written")
    try:
        data = json.loads(stored)
    except ValueError as error:
        raise BrokenSealError(str(error)) from error
    del data["seal"]
    return dict(data)


def _line(rest: bytes) -> bytes:
    return b'{"seal": "%s",\n' % hashlib.sha256(rest).hexdigest().encode("ascii")
