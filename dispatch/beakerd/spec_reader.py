"""The JSON of an experiment's spec to typed values.

Owns what is refused in a spec, with the field's path in the message. Unknown fields pass. What needs the
tables (whether an image, a dataset, a cluster is there) is :mod:`dispatch.beakerd.store.references`'.
"""

from __future__ import annotations

import itertools
import posixpath
import re
from collections.abc import Mapping, Sequence
from typing import Any

from dispatch.beakerd import quantities
from dispatch.beakerd.fields import LARGEST, Fields, check_values
from dispatch.beakerd.problems import invalid
from dispatch.beakerd.spec import DataMount, EnvVar, ExperimentSpec, ImageSource, Resources, TaskSpec
from dispatch.beakerd.store.setup import PRIORITIES

VERSIONS = ("v2", "v2-alpha")
MOST_TASKS = 1000
MOST_RETRIES = 1000
# More than any machine has, and what every message and table can hold.
MOST_UNITS = 1_000_000
SOURCES = {
    "beaker": "beaker",
    "hostPath": "host_path",
    "weka": "weka",
    "result": "result",
    "secret": "secret",
    "volume": "volume",
}
WRITABLE = ("hostPath", "weka", "volume")
MODES = {"readonly": True, "readwrite": False}
# What may follow one day: it is refused, since a job would run without it and fail for unclear reasons.
LATER = {
    "leaderSelection": "leaders of replicas",
    "synchronizedStartTimeout": "replicas that start together",
}
_VARIABLE = re.compile(r"[^=\s\x00-\x1f]{1,1024}")


def read_spec(body: Mapping[str, Any]) -> ExperimentSpec:
    """Read a spec.

    :raises Problem: INVALID, with the path of the field that makes no sense
    """
    check_values(body)
    root = Fields(body)
    version = root.text("version")
    if version not in (None, *VERSIONS):
        raise root.refuse("version", f"must be {' or '.join(VERSIONS)}, is {version!r}")
    found = root.objects("tasks")
    if not 0 < len(found) <= MOST_TASKS:
        raise root.refuse("tasks", f"must hold between 1 and {MOST_TASKS} tasks, holds {len(found)}")
    if root.texts("groups"):
        raise root.refuse("groups", "this server has no groups yet; leave them out")
    tasks = tuple(_task(each) for each in found)
    _check_names(tasks)
    retry = root.object("retry")
    retries = (retry.whole("allowedTaskRetries") or 0) if retry else 0
    if retry and retries > MOST_RETRIES:
        raise retry.refuse("allowedTaskRetries", f"must be {MOST_RETRIES} at most, is {retries}")
    return ExperimentSpec(
        tasks=tasks,
        description=root.text("description") or "",
        budget=root.text("budget") or None,
        allowed_retries=retries,
    )


def _task(task: Fields) -> TaskSpec:
    for name, what in LATER.items():
        if task.any(name):
            raise task.refuse(name, f"this server has no {what} yet; leave it out")
    if (task.whole("replicas") or 1) != 1:
        raise task.refuse("replicas", "this server has no replicas yet; it must be 1")
    context = task.object("context") or Fields({}, "")
    preemptible, auto_resume = context.flag("preemptible"), context.flag("autoResume")
    if preemptible is not None and (context.has("minRuntime") or auto_resume is not None):
        raise context.refuse("preemptible", "is the old form of minRuntime and autoResume: give only one")
    mounts = tuple(_mount(each) for each in task.objects("datasets"))
    result = task.object("result")
    result_path = None if result is None else _absolute(result, "path")
    _check_overlaps(task, mounts, result_path)
    return TaskSpec(
        image=_image(task),
        name=_task_name(task),
        command=task.texts("command"),
        arguments=task.texts("arguments"),
        env=_environment(task),
        mounts=mounts,
        result_path=result_path,
        resources=_resources(task.object("resources") or Fields({})),
        clusters=_clusters(task, context),
        hostnames=(task.object("constraints") or Fields({})).texts("hostname") or (),
        priority=_priority(context),
        preemptible=preemptible,
        min_runtime=_duration(context, "minRuntime") or 0,
        auto_resume=auto_resume is not False,
        # A client that writes 0 for "none" is understood, too.
        timeout=_duration(task, "timeout") or None,
        host_networking=bool(task.flag("hostNetworking")),
        propagate_failure=bool(task.flag("propagateFailure")),
        propagate_preemption=bool(task.flag("propagatePreemption")),
    )


def _task_name(task: Fields) -> str:
    name = task.text("name") or ""
    if len(name) > 200 or not name.isprintable():
        raise task.refuse("name", "must be at most 200 printable characters")
    return name


def _image(task: Fields) -> ImageSource:
    image = task.object("image")
    if image is None:
        raise task.refuse("image", "is missing: name an image by `beaker` or `docker`")
    beaker, docker = image.text("beaker"), image.text("docker")
    if bool(beaker) == bool(docker):
        raise image.refuse("", "must have exactly one of `beaker` and `docker`")
    if docker and (len(docker) > 1024 or re.search(r"\s", docker)):
        raise image.refuse("docker", "is no reference of an image")
    return ImageSource(beaker or None, docker or None)


def _environment(task: Fields) -> tuple[EnvVar, ...]:
    found: dict[str, EnvVar] = {}
    for variable in task.objects("envVars"):
        name = variable.text("name") or ""
        if not _VARIABLE.fullmatch(name):
            raise variable.refuse("name", f"{name[:100]!r} is no name of a variable")
        value, secret = variable.text("value"), variable.text("secret") or None
        if value is not None and secret is not None:
            raise variable.refuse("", "has both a value and a secret")
        # As in a container's environment, the last of one name counts.
        found.pop(name, None)
        found[name] = EnvVar(name, value, secret)
    return tuple(found.values())


def _mount(mount: Fields) -> DataMount:
    path = _absolute(mount, "mountPath")
    source = mount.object("source") or Fields({})
    given = {name: value for name in SOURCES if (value := source.text(name))}
    if len(given) != 1:
        names = ", ".join(given) or "none"
        raise mount.refuse("source", f"must have exactly one of {', '.join(SOURCES)}; has {names}")
    ((kind, value),) = given.items()
    if kind == "hostPath":
        value = _absolute(source, "hostPath")
    mode = mount.text("mode") or None
    if mode not in (None, *MODES):
        raise mount.refuse("mode", f"must be {' or '.join(MODES)}, is {mode!r}")
    read_only = MODES[mode] if mode else kind not in WRITABLE
    if not read_only and kind not in WRITABLE:
        raise mount.refuse("mode", f"a mount of {kind} is read-only")
    sub_path = _relative(mount, "subPath")
    if sub_path and kind == "secret":
        raise mount.refuse("subPath", "a secret is one file and has no paths")
    return DataMount(mount_path=path, sub_path=sub_path, read_only=read_only, **{SOURCES[kind]: value})


def _absolute(fields: Fields, name: str) -> str:
    path = fields.text(name) or ""
    if not path.startswith("/"):
        raise fields.refuse(name, f"must be an absolute path, is {path[:200]!r}")
    if ".." in path.split("/"):
        raise fields.refuse(name, "must not hold `..`")
    normal = "/" + posixpath.normpath(path).strip("/")
    if normal == "/":
        raise fields.refuse(name, "must not be the root")
    return _short(fields, name, normal)


def _relative(fields: Fields, name: str) -> str | None:
    path = fields.text(name)
    if not path:
        return None
    if path.startswith("/"):
        raise fields.refuse(name, "must be relative to what is mounted")
    if ".." in path.split("/"):
        raise fields.refuse(name, "must not hold `..`")
    normal = posixpath.normpath(path)
    return None if normal == "." else _short(fields, name, normal)


def _short(fields: Fields, name: str, path: str) -> str:
    """A path that the system can hold."""
    if len(path.encode()) > 4095 or any(len(part.encode()) > 255 for part in path.split("/")):
        raise fields.refuse(name, "is longer than a path may be")
    return path


def _check_overlaps(task: Fields, mounts: Sequence[DataMount], result_path: str | None) -> None:
    places = [(mount.mount_path, f"datasets[{number}].mountPath") for number, mount in enumerate(mounts)]
    if result_path is not None:
        places.append((result_path, "result.path"))
    # Sorted by their parts, a path stands directly behind one that it lies in.
    ordered = sorted(places, key=lambda place: place[0].split("/"))
    for (outer, other), (inner, name) in itertools.pairwise(ordered):
        if f"{inner}/".startswith(f"{outer}/"):
            raise task.refuse(name, f"{inner} lies in {outer}, which is {other}")


def _resources(resources: Fields) -> Resources:
    for name in ("cpuCount", "gpuCount"):
        if (resources.number(name) or 0) > MOST_UNITS:
            raise resources.refuse(name, f"must be {MOST_UNITS} at most")
    return Resources(
        cpus=float(resources.number("cpuCount") or 0),
        gpus=resources.whole("gpuCount") or 0,
        memory=_size(resources, "memory") or 0,
        shared_memory=_size(resources, "sharedMemory"),
    )


def _size(fields: Fields, name: str) -> int | None:
    if not isinstance(fields.any(name), str):
        return fields.whole(name)
    text = fields.text(name) or ""
    value = quantities.size(text)
    if value is None or value > LARGEST:
        raise fields.refuse(name, f"{text[:100]!r} is no size; write a number with B, kB, MiB, GB, GiB …")
    return value


def _duration(fields: Fields, name: str) -> int | None:
    if not isinstance(fields.any(name), str):
        return fields.whole(name)
    text = fields.text(name) or ""
    value = quantities.duration(text)
    if value is None or value > LARGEST:
        raise fields.refuse(name, f"{text[:100]!r} is no duration; write nanoseconds, or 90s, 15m, 1h30m")
    return value


def _priority(context: Fields) -> int:
    name = context.text("priority") or "normal"
    if name not in PRIORITIES:
        raise context.refuse("priority", f"must be one of {', '.join(PRIORITIES)}, is {name[:100]!r}")
    return PRIORITIES[name]


def _clusters(task: Fields, context: Fields) -> tuple[str, ...]:
    old = context.text("cluster")
    new = (task.object("constraints") or Fields({})).texts("cluster") or ()
    if old and new:
        raise context.refuse("cluster", "is the old form of constraints.cluster: give only one")
    return (old,) if old else tuple(dict.fromkeys(new))


def _check_names(tasks: Sequence[TaskSpec]) -> None:
    """Names are unique where there are any, and results that are waited for can come."""
    place: dict[str, int] = {}
    for number, task in enumerate(tasks):
        if task.name and place.setdefault(task.name, number) != number:
            raise invalid(f"tasks[{number}].name: {task.name!r} is the name of another task")
    waits: dict[int, set[int]] = {}
    for number, task in enumerate(tasks):
        for order, mount in enumerate(task.mounts):
            if mount.result is None:
                continue
            if mount.result not in place:
                where = f"tasks[{number}].datasets[{order}].source.result"
                raise invalid(f"{where}: no task of the experiment is named {mount.result!r}")
            waits.setdefault(number, set()).add(place[mount.result])
    _check_order(waits)


def _check_order(waits: dict[int, set[int]]) -> None:
    """Take away what waits for nothing that is left, until nothing is left: else there is a circle."""
    while waits:
        ready = [number for number, others in waits.items() if not any(other in waits for other in others)]
        if not ready:
            number = min(waits)
            raise invalid(f"tasks[{number}].datasets: waits for a result of tasks that wait for its own")
        for number in ready:
            del waits[number]
