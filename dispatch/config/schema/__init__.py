"""JSON Schemas (draft 7) of the files that users write, so that editors complete and check them.

What a schema refuses the readers refuse, and the other way round as far as a schema can say it: that names
lead somewhere and files exist is for the readers alone.
"""

from __future__ import annotations

from dispatch.config.schema.images import IMAGE, image_definitions
from dispatch.config.schema.settings import IMAGE_NAME, IMAGES, MODULES, SETTINGS
from dispatch.config.schema.steps import step_definitions
from dispatch.config.schema.words import NAME, Node, about, keyed, record, reference

__all__ = ["FILES", "schema_of"]

_HEAD: Node = {"$schema": "http://json-schema.org/draft-07/schema#", "title": "dispatch"}
_EXPERIMENT: dict[str, Node] = {
    "image": about("The image for steps that name none.", IMAGE_NAME),
    "images": about("Images by name.", IMAGES),
    "include_package": about("Modules that declare steps.", MODULES),
    "steps": about("What to compute.", {**keyed(NAME, reference("step")), "minProperties": 1}),
}

FILES = {
    "settings": record(SETTINGS),
    "experiment": record(_EXPERIMENT, ("steps",)),
    "image": IMAGE,
}
"""What a schema can be of: ``dispatch.yml``, a configuration of steps, and an ``image.yml``."""


def schema_of(file: str | None = None) -> Node:
    """Return the schema of one of :data:`FILES`; without a name, of any of them."""
    definitions = {**image_definitions(), **step_definitions()}
    if file is None:
        definitions |= {f"file_{name}": node for name, node in FILES.items()}
        return {**_HEAD, "anyOf": [reference(f"file_{name}") for name in FILES], "definitions": definitions}
    root = FILES[file]
    # Beside a reference no other word counts in draft 7.
    return {**_HEAD, **({"allOf": [root]} if "$ref" in root else root), "definitions": definitions}
