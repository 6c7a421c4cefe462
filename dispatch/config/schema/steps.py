"""The schema of what stands under ``steps:``; the arguments of a Python step are its class's, and free."""

from __future__ import annotations

from dispatch.config.schema.images import INLINE
from dispatch.config.schema.words import (
    DURATION,
    FLAG,
    NAME,
    SIZE,
    TEXT,
    VARIABLE,
    Node,
    about,
    absolute,
    keyed,
    matching,
    one_of,
    optional,
    record,
    several,
    whole,
)
from dispatch.options import KEYS
from dispatch.retry import REASONS
from dispatch.step import SHELL

TAKEN = ("/dispatch", "/src", "/proc", "/sys", "/dev")
"""Places in a step's container that nothing can be mounted on."""

_SOME: Node = {"type": "string", "minLength": 1}
_LISTED: Node = {"anyOf": [_SOME, {"type": "object"}]}

_RESOURCES = record(
    {
        "cpu_count": about("CPUs; may be a fraction.", {"type": "number", "exclusiveMinimum": 0}),
        "gpu_count": whole(0),
        "gpu_type": {"type": "string"},
        "memory": about("A size such as 16GiB.", SIZE),
        "shared_memory": about("A size such as 5GiB.", SIZE),
        "machine": about("Where it must run: local, or the name of a cluster.", {"type": "string"}),
    }
)
_SECRET: Node = {"anyOf": [matching(VARIABLE), record({"name": matching(VARIABLE), "env": FLAG}, ("name",))]}
_MOUNT = record({"source": TEXT, "target": absolute(*TAKEN), "read_only": FLAG}, ("source", "target"))
_REASON: Node = {
    "anyOf": [
        whole(1, 255),
        one_of(REASONS),
        # A name of an exception: what is all lowercase and plain is meant as a reason.
        {"type": "string", "pattern": rf"^(?=.*[A-Z.]){VARIABLE}(\.{VARIABLE})*$"},
    ]
}
_RETRIES: Node = {
    "anyOf": [
        whole(0, 1000),
        {
            "type": "object",
            "properties": {
                "limit": whole(0, 1000),
                "on": {"anyOf": [_REASON, several(_REASON)]},
                "delay": DURATION,
                "factor": {"type": "number", "minimum": 1, "maximum": 100},
                "max_delay": DURATION,
            },
            "additionalProperties": False,
        },
    ]
}
_ENV: Node = {
    "type": "object",
    "propertyNames": {"pattern": f"^(?![Dd][Ii][Ss][Pp][Aa][Tt][Cc][Hh]_){VARIABLE}$"},
    "additionalProperties": {"type": ["string", "number"]},
}

OPTIONS: dict[str, Node] = {
    "step_image": about(
        "The image that it runs in: a name, or a declaration.", {"anyOf": [_SOME, *INLINE["anyOf"]]}
    ),
    "step_resources": about("What it asks of the machine.", _RESOURCES),
    "step_env": about("Variables that it is given.", _ENV),
    "step_network": one_of(("bridge", "none")),
    "step_secrets": about("Names of secrets that it is given.", {**several(_SECRET), "uniqueItems": True}),
    "step_mounts": several(_MOUNT),
    "step_retries": about("How often, when and after what it is tried again.", _RETRIES),
    "step_timeout": about("How long an attempt may run, such as 1h30m.", DURATION),
    "step_priority": about("Of ready steps the highest are started first.", whole(-1000, 1000)),
    "step_group": about("Of a group only so many run at once, as the settings say.", matching(NAME)),
    "step_format": about("How its result is stored.", _LISTED),
    "step_metadata": about("Your own, kept with its record.", {"type": "object"}),
    "step_extra_dependencies": about("Steps to wait for beside its inputs.", several(_LISTED)),
    "step_unique_id_override": matching("[A-Za-z0-9_][A-Za-z0-9_.-]{0,149}"),
    "step_name": _SOME,
    "cache_results": about("Whether its result is kept; by default its class says.", FLAG),
}

_INPUT: Node = {
    "anyOf": [{"type": ["string", "number", "boolean", "null"]}, {"type": "object", "required": ["ref"]}]
}
_SHELL: dict[str, Node] = {
    "command": about("What sh -c is given.", {"type": "string", "pattern": r"\S"}),
    "inputs": about(
        "Results and values that it is given, by name: {ref: STEP}.", keyed(r"[A-Za-z0-9_.-]{1,100}", _INPUT)
    ),
    "paths": about(
        "Files of the repository that it depends on.",
        several({"type": "string", "pattern": r"^(?!/)(?!(?:.*/)?\.\.(?:/|$))[^\u0000\n]+$"}),
    ),
}


def step_definitions() -> dict[str, Node]:
    """The definitions of one step."""
    of_type = {"type": about("The name of a registered step, or shell.", {**_SOME, "not": {"const": "ref"}})}
    python: Node = {"propertyNames": {"pattern": f"^(?!step_)|^(?:{'|'.join(KEYS)})$"}}
    shell: Node = {
        "properties": _SHELL,
        "required": ["command"],
        "propertyNames": {"enum": ["type", *KEYS, *_SHELL]},
    }
    step: Node = {
        "type": "object",
        "properties": {**of_type, **{key: optional(node) for key, node in OPTIONS.items()}},
        "required": ["type"],
        "if": {"properties": {"type": {"const": SHELL}}, "required": ["type"]},
        "then": shell,
        "else": python,
    }
    return {"step": step}
