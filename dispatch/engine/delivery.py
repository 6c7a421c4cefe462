"""How the values of secrets get into a container: through its standard input, into memory.

Owns the place, and the lines that the entrypoint reads (``templates/entrypoint/common.sh.j2``): for each
secret ``NAME LINES NEWLINE EXPORTED``, where NEWLINE says whether the value ends with one and EXPORTED
whether it becomes a variable, then so many lines; a line with a dot ends them. So nothing of a value is in
the container's description, its image, an argument or a file of any disk, wherever the engine is.

A client that dies in between leaves a container whose input ends without the dot, and the entrypoint gives up
before the step begins.
"""

from __future__ import annotations

from collections.abc import Mapping

from dispatch._docker.containers import Containers
from dispatch.engine.base import JobSpec

SECRETS_TARGET = "/dispatch/secrets"
_PAGE = 4096


def start(containers: Containers, name: str, job: JobSpec) -> None:
    """Start a created container, and hand it the job's secrets if it has any."""
    if not job.secrets:
        containers.start(name)
        return
    entry = containers.attach_input(name)
    try:
        containers.start(name)
        entry.send(message(job.secrets, job.secret_variables))
    finally:
        entry.close()


def message(secrets: Mapping[str, str], variables: tuple[str, ...]) -> bytes:
    """Return what the entrypoint reads."""
    parts = []
    for name, value in secrets.items():
        ends = value.endswith("\n")
        lines = value.count("\n") + (not ends)
        parts.append(f"{name} {lines} {int(ends)} {int(name in variables)}\n{value}{'' if ends else chr(10)}")
    return "".join([*parts, ".\n"]).encode("utf-8", "surrogateescape")


def memory_of(secrets: Mapping[str, str], user: str) -> dict[str, str]:
    """Return the file system in memory that holds the secrets of a job that runs as ``uid:gid``, by place."""
    if not secrets:
        return {}
    uid, _, gid = user.partition(":")
    pages = 1 + sum(2 + 4 * len(value) // _PAGE for value in secrets.values())
    options = f"rw,noexec,nosuid,nodev,mode=0700,uid={uid},gid={gid or uid},size={pages * _PAGE}"
    return {SECRETS_TARGET: options}
