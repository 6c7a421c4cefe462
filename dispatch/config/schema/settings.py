"""The schema of ``dispatch.yml``."""

from __future__ import annotations

from dispatch.config.schema.images import IMAGE
from dispatch.config.schema.steps import TAKEN
from dispatch.config.schema.words import (
    DURATION,
    FLAG,
    NAME,
    TEXT,
    VARIABLE,
    VARIABLES,
    Node,
    about,
    absolute,
    given,
    keyed,
    matching,
    one_of,
    record,
    several,
    whole,
)
from dispatch.settings import beaker, beakerdata, images, registry
from dispatch.settings.source import SourceMode
from dispatch.settings.values import EXECUTORS, START_METHODS, WORKSPACES

_ANY: Node = {}
_MODULE = rf"{VARIABLE}(\.{VARIABLE})*"
_ONE_NAME = rf"{NAME}(/{NAME})?"
MODULES: Node = {"anyOf": [matching(_MODULE), several(matching(_MODULE))]}
IMAGE_NAME = matching(images.NAME)
IMAGES = keyed(images.NAME.pattern, IMAGE)

_CLIENT: dict[str, Node] = dict.fromkeys(beaker.CLIENT, _ANY)
_LOCATION: Node = {
    "type": "string",
    "pattern": rf"^(?!.*://)[^\u0000]+$|^(?:{'|'.join(WORKSPACES)})://[^\u0000]|^memory://$",
}


def _typed(kind: str, properties: dict[str, Node], required: tuple[str, ...] = ()) -> Node:
    return record({"type": {"const": kind}, **properties}, ("type", *required))


_ON_BEAKER = {
    **_typed("beaker", {"beaker_workspace": TEXT, "workspace": TEXT, **_CLIENT}),
    "oneOf": [given("beaker_workspace"), given("workspace")],
}
WORKSPACE: Node = {
    "anyOf": [
        _LOCATION,
        _typed("local", {"dir": TEXT}, ("dir",)),
        _typed("memory", {}),
        _ON_BEAKER,
        _typed("from_url", {"url": {"anyOf": [_LOCATION, {"type": "object"}]}}, ("url",)),
    ]
}

_GPU: Node = {"anyOf": [{"type": "integer"}, matching("[A-Za-z0-9][A-Za-z0-9:./_-]{0,99}")]}
_HOW_MANY: dict[str, Node] = {
    "parallelism": about("How many steps at once; -1 for no limit.", {"anyOf": [whole(1), {"const": -1}]}),
    "gpus": about(
        "How many GPUs may be used, or which.",
        {"anyOf": [whole(0, 64), {**several(_GPU), "uniqueItems": True}]},
    ),
}
_HERE = {**_HOW_MANY, "start_method": one_of(START_METHODS)}

_SOURCE: Node = {
    "anyOf": [
        TEXT,
        {
            "type": "object",
            "minProperties": 1,
            "maxProperties": 1,
            "propertyNames": {"enum": [*beakerdata.SOURCES, "hostPath"]},
            "additionalProperties": TEXT,
        },
    ]
}
_TARGET = absolute(*TAKEN)
_DATASET: Node = {
    "anyOf": [
        {"type": "string", "pattern": r"^(?:weka://|(?!.*://))[^:]+(?::[^:]+)?:/[^:]+$"},
        {
            **record(
                {
                    "source": _SOURCE,
                    "mount_path": _TARGET,
                    "mountPath": _TARGET,
                    "sub_path": TEXT,
                    "subPath": TEXT,
                    "mode": one_of(("readonly", "readwrite")),
                },
                ("source",),
            ),
            "anyOf": [given("mount_path"), given("mountPath")],
        },
    ]
}
_VARIABLE: Node = {
    "anyOf": [
        {"type": "string", "pattern": "="},
        {
            **record(
                {
                    "name": matching(VARIABLE),
                    "value": {"type": ["string", "integer"]},
                    "secret": matching("[A-Za-z0-9_][A-Za-z0-9_.-]*"),
                },
                ("name",),
            ),
            "not": given("value", "secret"),
        },
    ]
}
_IMAGE = matching("[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,299}")

BEAKER: dict[str, Node] = {
    "type": {"const": "beaker"},
    "parallelism": _HOW_MANY["parallelism"],
    "clusters": {"anyOf": [matching(_ONE_NAME), several(matching(_ONE_NAME))]},
    "beaker_workspace": about("ORG/NAME, or an id.", matching(_ONE_NAME)),
    "github_token": TEXT,
    "google_token": _ANY,
    "beaker_image": _IMAGE,
    "docker_image": _IMAGE,
    "datasets": several(_DATASET),
    "env_vars": {"anyOf": [VARIABLES, several(_VARIABLE)]},
    "venv_name": matching(NAME),
    "install_cmd": TEXT,
    "priority": one_of(beaker.PRIORITIES),
    "allow_dirty": FLAG,
    "scheduler": {"anyOf": [TEXT, {"type": "object"}]},
    "budget": TEXT,
    "preemptible": FLAG,
    "min_runtime": DURATION,
    "timeout": DURATION,
    **_CLIENT,
}

EXECUTOR: Node = {
    "anyOf": [
        one_of(EXECUTORS),
        record(_HERE),
        _typed("docker", _HOW_MANY),
        _typed("local", _HERE),
        {**record(BEAKER, ("type",)), "not": given("beaker_image", "docker_image")},
    ]
}

_CODE: Node = {
    "anyOf": [
        one_of([mode.value for mode in SourceMode]),
        record({"mode": one_of([mode.value for mode in SourceMode])}),
        record(
            {
                "mode": {"const": SourceMode.CLONE.value},
                "remote": TEXT,
                "user": matching("[A-Za-z0-9_][A-Za-z0-9._-]*"),
                "token": matching(VARIABLE),
                "ssh_key": matching(VARIABLE),
            },
            ("mode",),
        ),
    ]
}
_FORMAT = matching("[A-Za-z_][A-Za-z0-9_.:-]*")
_FROM: Node = {
    "anyOf": [
        record({"env": matching(VARIABLE)}, ("env",)),
        record({"file": TEXT}, ("file",)),
        record({"command": {"anyOf": [TEXT, several(TEXT, some=True)]}}, ("command",)),
    ]
}
_MOUNT = record({"source": TEXT, "target": _TARGET, "read_only": FLAG}, ("source", "target"))

_ADDRESS = matching(registry.ADDRESS)
_REGISTRY: Node = {
    "anyOf": [
        _ADDRESS,
        record({"address": _ADDRESS, "insecure": FLAG, "authority": TEXT}, ("address",)),
    ]
}

SETTINGS: dict[str, Node] = {
    "workspace": about("Where results are kept: a directory, a URL, or a mapping with its type.", WORKSPACE),
    "executor": about("What runs the steps.", EXECUTOR),
    "include_package": about("Modules that declare steps.", MODULES),
    "image": about("The image for steps that name none.", IMAGE_NAME),
    "images": about("Images by name.", IMAGES),
    "registry": about("Where the team shares its images, as ADDRESS/dispatch:TAG.", _REGISTRY),
    "env": about("Variables that every step is given.", VARIABLES),
    "mounts": about("Paths of the engine's host that every step sees.", several(_MOUNT)),
    "groups": about("How many steps of a group may run at once.", keyed(NAME, whole(1))),
    "secrets": about("Where the values of secrets come from.", keyed(VARIABLE, _FROM)),
    "shared_dirs": about("Paths that are the same on all machines.", several(TEXT)),
    "allow_dirty": about("Whether changes that are not committed may run.", FLAG),
    "source": about("How a step's container gets the source.", _CODE),
    "default_format": about(
        "How results are stored.",
        {"anyOf": [_FORMAT, {"type": "object", "properties": {"type": _FORMAT}, "required": ["type"]}]},
    ),
    "trusted_workspaces": about("Workspaces whose pickles may be loaded.", several(_LOCATION)),
}
