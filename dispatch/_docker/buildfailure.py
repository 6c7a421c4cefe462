"""Why a build failed: an engine's own sentence in our words, with what can be done about it.

Owns the wordings of BuildKit and of the classic builder, old and new. What is not known here is passed on as
the engine said it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from dispatch.errors import ImageError

# Who passed an error on is of no use to a reader.
_PASSED_ON = re.compile(
    r"(?:failed to solve(?: with frontend [\w.]+)?|failed to create LLB definition"
    r"|rpc error: code = \w+ desc =|failed to compute cache key"
    r"|failed to calculate checksum of ref \S+|failed to read dockerfile"
    r"|dockerfile parse error(?: on)?(?= line))[: ]+"
)
_RUN = (
    re.compile(r"executor failed running \[(?P<command>.*)\]: (?P<end>.*)", re.DOTALL),
    re.compile(r"process \"(?P<command>.*)\" did not complete successfully: (?P<end>.*)", re.DOTALL),
    re.compile(r"The command '(?P<command>.*)' returned a non-zero code: (?P<end>\d+)", re.DOTALL),
)
_CODE = re.compile(r"(?:exit code: )?(\d+)")
_NO_BUILDKIT = re.compile(r"the (--\S+) option requires BuildKit", re.IGNORECASE)
_SYNTAX = re.compile(
    r"line \d+: .*|.*unknown (?:instruction|flag).*|the Dockerfile .*cannot be empty"
    r"|.*requires (?:at least|exactly).*|.*no build stage in current context.*"
    r"|.*unexpected end of statement.*",
    re.IGNORECASE | re.DOTALL,
)
_STAGE = re.compile(
    r"(?:target stage \"?([^\s\"]+)\"? could not be found|failed to reach build target (\S+) in Dockerfile.*)"
)
_FILE = re.compile(
    r"\"?(?P<path>/[^\"]*)\"?:? not found(?:: not found)?|COPY failed: file not found in build context .*"
    r" stat (?P<stat>.*): file does not exist|lstat (?P<lstat>.*): no such file or directory"
)
_REGISTRY = re.compile(
    r".*(?:failed to do request|pull access denied|failed to resolve source metadata|dial tcp"
    r"|manifest unknown|failed to authorize|not found: manifest|unauthorized).*",
    re.DOTALL,
)
_NO_ROOM = "no space left on device"


def explain(what: str, detail: str, step: str, last: Sequence[str], declared: str) -> ImageError:
    """Return the error of a build; ``step`` is where it stopped, ``last`` what that printed at the end."""
    fact = _PASSED_ON.sub("", detail).strip()
    if _NO_ROOM in detail or any(_NO_ROOM in line for line in last):
        return _with(
            f"{what}: the engine has no room left on its disk",
            last,
            "remove what is not needed (`docker image prune`, `docker builder prune`), repeat the command",
        )
    for pattern in _RUN:
        run = pattern.search(fact)
        if run:
            return _run(what, run["command"], run["end"], step, last, declared)
    return _of_declaration(what, fact, step, declared)


def _run(what: str, command: str, end: str, step: str, last: Sequence[str], declared: str) -> ImageError:
    code = _CODE.search(end)
    ended = f"ended with exit code {code[1]}" if code else end
    shown = re.sub(r"^\[[^]]*\] ", "", step) if " RUN " in f" {step}" else f"RUN {command}"
    remedy = f"correct the command in {declared}"
    if any(_NO_ROOM in line.lower() for line in last):
        remedy += ", or make room on the engine's disk (`docker image prune`, `docker builder prune`)"
    if code and code[1] == "137":
        ended += " (killed, perhaps for want of memory)"
        remedy = "give the engine more memory, or let the step need less"
    return _with(f"{what}: a step of the build failed: `{shown}` {ended}", last, remedy)


def _of_declaration(what: str, fact: str, step: str, declared: str) -> ImageError:
    if found := _NO_BUILDKIT.search(fact):
        return ImageError(
            f"{what}: `{found[1]}` in the Dockerfile needs BuildKit; the engine's classic builder has none",
            f"unset DOCKER_BUILDKIT, use an engine of 18.09 or newer, or leave `{found[1]}` out",
        )
    if "no active session" in fact:
        return ImageError(
            f"{what}: the Dockerfile asks for a secret or for ssh, and none is declared",
            "declare `secrets:` or `ssh: true` beside `dockerfile:`",
        )
    if "manifest lists" in fact:
        return ImageError(
            f"{what}: this engine holds an image for one platform only",
            "switch its containerd image store on, or name one under `platforms:`",
        )
    if found := _STAGE.fullmatch(fact):
        return ImageError(
            f"{what}: {declared} has no stage {found[1] or found[2]!r}",
            "correct `stage:`, or name one AS this",
        )
    if _REGISTRY.fullmatch(fact):
        return ImageError(
            f"{what}: an image that the Dockerfile names is not in the engine, and cannot be pulled ({fact})",
            "load it (`docker load`), or pull it with your login (`docker pull`), then repeat the command",
        )
    if found := _FILE.fullmatch(fact):
        path = (found["path"] or found["stat"] or found["lstat"]).lstrip("/")
        return ImageError(
            f"{what}: {path!r}, which the Dockerfile copies, is not in the context",
            f"correct the path in {declared}, or see whether .dockerignore leaves it out",
        )
    if _SYNTAX.fullmatch(fact):
        return ImageError(f"{what}: {declared}: {fact}", "correct the Dockerfile")
    at = f" (at `{step}`)" if step else ""
    return ImageError(f"{what}: the build failed: {fact}{at}", f"see {declared}")


def _with(message: str, last: Sequence[str], remedy: str) -> ImageError:
    return ImageError("\n".join([message, *(f"  | {line}" for line in last)]), remedy)
