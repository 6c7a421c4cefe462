"""What is known of layers in registries: under which digest a layer went there, and where it was seen.

Owns small files under one directory, one for each layer. They are hints: a registry is asked whether it still
has what they say, and whoever loses them compresses a layer once more.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from dispatch._registry import Descriptor
from dispatch._registry.manifest import GZIP_LAYER, LAYER, as_oci
from dispatch.image.atomic import write_atomically

# A layer that is everywhere is asked for in the places where it was seen last.
_PLACES = 8


@dataclass(frozen=True)
class BlobFacts:
    """One compressed form of a layer, and the repositories (``host/name``) that had it, the latest first."""

    blob: Descriptor
    places: tuple[str, ...] = ()

    def repositories(self, host: str) -> list[str]:
        """Return those of one registry."""
        return [name for name in (_below(place, host) for place in self.places) if name]


class KnownBlobs:
    """Facts of layers by their ``diff_id``, under ``root``."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def of(self, diff_id: str) -> BlobFacts | None:
        """Return what is known of a layer; whatever cannot be read is not known."""
        try:
            facts = json.loads(self._file(diff_id).read_text("ascii"))
            blob = Descriptor(str(facts["mediaType"]), str(facts["digest"]), int(facts["size"]))
            return BlobFacts(blob, tuple(str(place) for place in facts["places"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def seen(self, diff_id: str, blob: Descriptor, place: str) -> None:
        """Remember that a repository (``host/name``) has a layer in this form.

        Only what every engine can read is passed on: not all know zstd.
        """
        if as_oci(blob).media_type not in (LAYER, GZIP_LAYER):
            return
        known = self.of(diff_id)
        places = known.places if known is not None and known.blob == blob else ()
        latest = (place, *(each for each in places if each != place))[:_PLACES]
        if known is None or known.blob != blob or known.places != latest:
            facts = {**blob.to_json(), "places": list(latest)}
            write_atomically(self._file(diff_id), json.dumps(facts, sort_keys=True))

    def _file(self, diff_id: str) -> Path:
        return self._root / f"{diff_id.rpartition(':')[2]}.json"


def _below(place: str, host: str) -> str:
    first, _, rest = place.partition("/")
    return rest if first == host else ""
