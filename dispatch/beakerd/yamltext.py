"""JSON as YAML: the one thing that the API answers with in YAML is an experiment's spec."""

from __future__ import annotations

import json

import yaml

# The one in C is ten times as fast, and not everywhere.
_DUMPER = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


def yaml_text(text: str) -> str:
    """The YAML of a JSON text, its fields in their order."""
    written: str = yaml.dump(json.loads(text), Dumper=_DUMPER, sort_keys=False, allow_unicode=True)
    return written
