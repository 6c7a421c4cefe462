"""Reads a declaration that stands for several images: one for each combination of Python and CUDA.

Owns ``matrix:``, the names of the images and of their locks, and what takes the place of ``{python}`` and
``{cuda}``. Which combinations can work is not said here.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from typing import Any

from dispatch.environment import Environment
from dispatch.settings.imagekeys import PYTHON, VERSION, missing, read_names
from dispatch.settings.images import IMAGE_FILE, NAME, read_image, read_kind
from dispatch.settings.section import Section

MATRIX = "matrix"
AXES = {"python": (PYTHON, "py"), "cuda": (VERSION, "cu")}
"""What images may differ in: the spelling of each value, and what stands before it in a name."""

# A variable of the shell, ${python}, is left alone.
_PLACE = re.compile(r"(?<!\$)\{(" + "|".join(AXES) + r")\}")
_WITH_TARGET = ("pip", "conda")


def read_images(section: Section | None) -> dict[str, Environment]:
    """Read all entries of an ``images:`` section."""
    entries: dict[str, Environment] = {}
    for name in section or ():
        assert section is not None
        if not NAME.fullmatch(name):
            remedy = "use letters, digits, '_', '.' and '-'"
            raise section.refusal(name, f"{name!r} is no name for an image", remedy)
        entry = section.section(name)
        if entry is None:
            raise section.wrong(name, "a declaration such as {pip: requirements.in}", None)
        entries.update(read_declared(entry, name))
    return entries


def read_declared(section: Section, name: str) -> dict[str, Environment]:
    """Read a declaration as the images that it stands for, by name; without ``matrix:`` that is one."""
    if MATRIX not in section.content:
        return {name: read_image(section, name)}
    found: dict[str, Environment] = {}
    for combination in _combinations(section):
        label = "-".join(AXES[axis][1] + value for axis, value in combination.items())
        full = f"{name}-{label}"
        if not NAME.fullmatch(full):
            raise section.refusal(MATRIX, f"{full!r} is no name for an image", "give it a shorter name")
        found[full] = read_image(_with(section, name, combination, label), full)
    return found


def _combinations(section: Section) -> list[dict[str, str]]:
    matrix = section.section(MATRIX)
    axes: dict[str, tuple[str, ...]] = {}
    if matrix is not None:
        matrix.only(tuple(AXES))
        for axis in matrix:
            expected = "versions in quotes, such as " + ('"3.11"' if axis == "python" else '"12.4"')
            axes[axis] = read_names(matrix, axis, AXES[axis][0], expected)
            if not axes[axis]:
                raise missing(matrix, axis, f"a list of {expected}")
    if not axes:
        raise missing(section, MATRIX, 'versions such as {python: ["3.11", "3.12"], cuda: ["12.4"]}')
    ordered = [axis for axis in AXES if axis in axes]
    return [
        dict(zip(ordered, values, strict=True))
        for values in itertools.product(*(axes[axis] for axis in ordered))
    ]


def _with(section: Section, name: str, combination: Mapping[str, str], label: str) -> Section:
    """Return the declaration of one combination; what it leaves open is as the combination says."""
    content = {key: _filled(value, combination) for key, value in section.content.items() if key != MATRIX}
    own = section.document.path.name == IMAGE_FILE
    kind = read_kind(section, name).value
    if kind in (*_WITH_TARGET, "debian"):
        content.setdefault("lock", f"{'image' if own else name}.{label}.lock")
    if kind in _WITH_TARGET:
        if "python" in combination:
            content.setdefault("python", combination["python"])
        target = content.get("target") or {}
        if "cuda" in combination and isinstance(target, dict):
            content["target"] = {"cuda": combination["cuda"], **target}
    return Section(section.document, section.keys, content)


def _filled(value: Any, combination: Mapping[str, str]) -> Any:
    """Put a combination's values where their names stand, in all texts but keys."""
    if isinstance(value, str):
        return _PLACE.sub(lambda match: combination.get(match[1], match[0]), value)
    if isinstance(value, dict):
        return {key: _filled(item, combination) for key, item in value.items()}
    if isinstance(value, list):
        return [_filled(item, combination) for item in value]
    return value
