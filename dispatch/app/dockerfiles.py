"""Composes what builds Dockerfiles: the engine's own builder, and the docker command where that is needed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from dispatch._docker import Door

if TYPE_CHECKING:
    from dispatch._docker.buildcli import Command
    from dispatch.image.dockerfile import DockerfileMaker


def dockerfile_maker(door: Door, environ: Mapping[str, str]) -> DockerfileMaker:
    """Return what builds Dockerfiles on an engine; the docker command is looked for when it is needed."""
    from dispatch._docker.proxies import build_proxies
    from dispatch.image.dockerfile import DockerfileMaker

    def command() -> Command:
        from dispatch._docker.buildcli import Command, find_tool

        return Command(find_tool(environ), door.address, environ)

    return DockerfileMaker(door, environ, command, build_proxies(environ, door.address.url))
