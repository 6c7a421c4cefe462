"""What a job was started from, kept beside it, for a client that comes to look after it later.

Owns ``provenance.json`` in an attempt's directory. It only says what is recorded of the attempt; nothing is
decided by it, and where it is missing or damaged the record says less.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from dispatch.executor.materials import Common
from dispatch.info import AttemptFacts

_NAME = "provenance.json"
_TEXTS = ("image", "image_digest", "commit", "tree", "code")


def provenance_of(common: Common, image: str | None, digest: str) -> Mapping[str, str]:
    """What is recorded of an attempt that is started now, by the names of :class:`AttemptFacts`."""
    return {
        "image": image or "",
        "image_digest": digest,
        "commit": common.commit,
        "tree": common.tree,
        "code": common.code,
    }


def write_provenance(directory: Path, provenance: Mapping[str, str]) -> None:
    """Keep it in an attempt's directory, before the job is submitted."""
    (directory / _NAME).write_text(json.dumps(dict(provenance)), encoding="utf-8")


def with_provenance(facts: AttemptFacts, directory: Path) -> AttemptFacts:
    """Say of an attempt what was kept, and nothing where that is not known."""
    try:
        kept = json.loads((directory / _NAME).read_bytes())
        found = {name: str(kept[name]) for name in _TEXTS}
    except (OSError, ValueError, KeyError, TypeError):
        found = dict.fromkeys(_TEXTS, "")
    return replace(
        facts,
        image=found["image"],
        image_digest=found["image_digest"],
        commit=found["commit"],
        tree=found["tree"],
        code=found["code"],
    )
