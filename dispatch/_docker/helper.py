"""Helper containers: one short command in an image, its output, and no trace afterwards.

Owns the life of such a container. Refuses anything long: steps are the engine's business.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from dispatch._docker.containers import STDERR, STDOUT, Bind, Containers, ContainerSpec
from dispatch._docker.socket import ApiError
from dispatch.errors import ImageError

HELPER_LABEL = "dispatch.helper"


@dataclass(frozen=True)
class OneShot:
    """A helper container without network. ``timeout`` is in seconds, ``memory`` in bytes.

    ``command`` replaces the image's entrypoint and command; ``user`` is ``uid:gid`` or empty for the image's.
    """

    image: str
    command: tuple[str, ...]
    binds: tuple[Bind, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    user: str = ""
    working_dir: str = ""
    memory: int | None = None
    timeout: float | None = None


@dataclass(frozen=True)
class Finished:
    """The end of a helper container."""

    exit_code: int
    stdout: bytes
    stderr: bytes


def run_once(containers: Containers, shot: OneShot) -> Finished:
    """Run a helper container to its end and remove it, whatever happens.

    :raises ImageError: when the engine does not hold the image, or the image lacks the command
    :raises EngineError: also when it has not ended after ``shot.timeout`` seconds
    """
    spec = ContainerSpec(
        image=shot.image,
        command=shot.command,
        labels={HELPER_LABEL: "1"},
        env=shot.env,
        user=shot.user,
        working_dir=shot.working_dir,
        binds=shot.binds,
        memory=shot.memory,
        init=False,
    )
    try:
        container = containers.create(spec)
    except ApiError as error:
        if error.status != 404:
            raise
        raise _refused(shot, error) from error
    try:
        try:
            containers.start(container)
        except ApiError as error:
            raise _refused(shot, error) from error
        code = containers.wait(container, shot.timeout)
        frames = list(containers.logs(container))
    finally:
        containers.remove(container)
    return Finished(
        code,
        b"".join(frame.data for frame in frames if frame.stream == STDOUT),
        b"".join(frame.data for frame in frames if frame.stream == STDERR),
    )


def _refused(shot: OneShot, error: ApiError) -> ImageError:
    return ImageError(f"image {shot.image}: it cannot run {shot.command[0]}: {error.detail}")
