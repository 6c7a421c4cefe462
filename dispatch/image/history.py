"""Which specification an environment was last built from on this machine: what `--explain` compares with.

Owns one small file for each environment, named by its declaration's file and name. It may be deleted at any
time: only an explanation is lost.
"""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

from dispatch.environment import Environment
from dispatch.image.atomic import write_atomically
from dispatch.image.spec import ImageSpec, canonical_digest, differences


class SpecHistory:
    """The last specifications, under one directory."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def changes(self, environment: Environment, spec: ImageSpec) -> list[str]:
        """Return one line for each input that changed since the last build; none where there was no build."""
        try:
            before = json.loads(self._file(environment).read_text("ascii"))
        except (OSError, ValueError):
            return []
        return differences(before, spec.document()) if isinstance(before, dict) else []

    def record(self, environment: Environment, spec: ImageSpec) -> None:
        """Remember what an environment was built from; a disk that refuses costs an explanation only."""
        with contextlib.suppress(OSError):
            write_atomically(self._file(environment), json.dumps(spec.document(), sort_keys=True))

    def _file(self, environment: Environment) -> Path:
        return self._root / f"{canonical_digest([str(environment.origin), environment.name])}.json"


def history_of(cache: Path) -> SpecHistory:
    """Return the history that builds with this cache write."""
    return SpecHistory(cache / "specs")
