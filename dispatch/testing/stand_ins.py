"""The stand-ins for Beaker's images, from the archive as it is today: the locks that ship may have aged."""

from __future__ import annotations

import shutil
from pathlib import Path

from dispatch import assets
from dispatch._docker import Door
from dispatch.app.standins import StandIns
from dispatch.environment import Environment
from dispatch.lock.apt import Apt
from dispatch.lock.debian import renew_debian
from dispatch.reporting import Lines
from dispatch.settings.document import read_document
from dispatch.settings.images import read_image
from dispatch.settings.section import Section
from dispatch.settings.surroundings import read_environment

QUIET = Lines(lambda _: None)


def declarations(copy: Path) -> Path:
    """Copy the declarations that ship to a new directory, and renew the locks of their bases there."""
    shutil.copytree(assets.images(), copy)
    for name in ("stand-in-bookworm", "stand-in-bullseye"):
        path = copy / name / "image.yml"
        declared = read_image(Section.of(read_document(path)), name)
        assert isinstance(declared, Environment)
        renew_debian(declared, Apt(read_environment().environ), QUIET)
    return copy


def stand_ins(door: Door, copy: Path) -> StandIns:
    """Return the stand-ins of an engine, made of declarations that are copied to ``copy``."""
    return StandIns(read_environment(), lambda: door, QUIET, declarations(copy))
