"""Experiments' specs: what is understood, what is refused and by which name, and that nothing breaks it."""

from __future__ import annotations

import json
from copy import copy
from typing import Any

import pytest
from beaker import BeakerExperimentSpec, BeakerTaskSpec
from hypothesis import given, settings
from hypothesis import strategies as st

from dispatch.beakerd import quantities
from dispatch.beakerd.problems import Kind, Problem
from dispatch.beakerd.rpc.specs import container_spec, system_details
from dispatch.beakerd.spec import EnvVar, TaskSpec, dump_task, load_task
from dispatch.beakerd.spec_reader import read_spec
from dispatch.beakerd.yamltext import yaml_text

GIB, SECOND = 1 << 30, 1_000_000_000
IMAGE = {"docker": "busybox"}


def spec_of(**task: Any) -> dict[str, Any]:
    """A spec of one task."""
    return {"version": "v2", "tasks": [{"image": IMAGE, "context": {}, **task}]}


def read_task(**task: Any) -> TaskSpec:
    """Its task."""
    return read_spec(spec_of(**task)).tasks[0]


def refusal(body: dict[str, Any]) -> str:
    """Why a spec is refused."""
    with pytest.raises(Problem) as caught:
        read_spec(body)
    assert caught.value.kind is Kind.INVALID
    return caught.value.message


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("2.5GiB", 5 * GIB // 2),
        ("2.5 GiB", 5 * GIB // 2),
        ("1024m", 1_024_000_000),
        ("10 GB", 10_000_000_000),
        ("10gb", 10_000_000_000),
        ("1k", 1000),
        ("1kib", 1024),
        ("1024", 1024),
        ("0", 0),
        (".5kB", 500),
        ("5.GB", 5_000_000_000),
        ("1.0001 B", 1),
        ("9007199254740993", 9007199254740993),
        ("", None),
        (".", None),
        ("GiB", None),
        ("-1GiB", None),
        ("1  GiB", None),
        ("1 GiBs", None),
        ("1Gi", None),
        ("1e3", None),
        ("٣GB", None),
        ("lots", None),
    ],
)
def test_sizes(text: str, size: int | None) -> None:
    """Sizes are what the real API reads: prefixes without i are powers of 1000, in any case."""
    assert quantities.size(text) == size


@pytest.mark.parametrize(
    ("text", "duration"),
    [
        ("90s", 90 * SECOND),
        ("90", 90 * SECOND),
        ("1h30m", 5400 * SECOND),
        ("1h 30 m", 5400 * SECOND),
        ("2.5 hours", 9000 * SECOND),
        ("15 min", 900 * SECOND),
        ("1d", 86400 * SECOND),
        ("250ms", SECOND // 4),
        ("7ns", 7),
        ("", None),
        ("soon", None),
        ("1 fortnight", None),
        ("-1s", None),
        ("1..5s", None),
        ("1" * 40 + "!", None),
    ],
)
def test_durations(text: str, duration: int | None) -> None:
    """Durations are nanoseconds; a number alone is seconds."""
    assert quantities.duration(text) == duration


def test_what_the_public_client_sends_is_understood() -> None:
    """Every field that the public client knows comes out as it went in."""
    task = BeakerTaskSpec.new(
        "main",
        cluster=["ai2/one", "ai2/two"],
        beaker_image="me/image",
        result_path="/results",
        priority="high",
        min_runtime="1h",
        auto_resume=False,
        command=["sh", "-c"],
        arguments=["echo", 3],
        timeout="10m",
        host_networking=True,
        propagate_failure=True,
        propagate_preemption=False,
        constraints={"hostname": ["node-1"]},
        replicas=1,
    )
    task = task.with_resources(cpu_count=1.5, gpu_count=2, memory="2.5GiB", shared_memory="1 GB")
    task = task.with_env_var("A", value="1").with_env_var("B", secret="token").with_env_var("C")
    task = task.with_dataset("/data", beaker="me/data", sub_path="a/b").with_dataset("/key", secret="key")
    task = task.with_dataset("/host", host_path="/srv/x").with_dataset("/w", weka="bucket")
    sent = BeakerExperimentSpec(tasks=[task], description="a trial", budget="ai2/b").with_retries(2)
    spec = read_spec(sent.to_json())
    (got,) = spec.tasks
    assert (spec.description, spec.budget, spec.allowed_retries) == ("a trial", "ai2/b", 2)
    assert (got.name, got.image.beaker, got.image.docker) == ("main", "me/image", None)
    assert (got.command, got.arguments) == (("sh", "-c"), ("echo", "3"))
    assert (got.clusters, got.hostnames, got.priority) == (("ai2/one", "ai2/two"), ("node-1",), 3)
    assert (got.min_runtime, got.auto_resume, got.timeout) == (3600 * SECOND, False, 600 * SECOND)
    assert (got.host_networking, got.propagate_failure, got.propagate_preemption) == (True, True, False)
    assert (got.resources.cpus, got.resources.gpus) == (1.5, 2)
    assert (got.resources.memory, got.resources.shared_memory) == (5 * GIB // 2, 10**9)
    assert got.env == (EnvVar("A", "1"), EnvVar("B", None, "token"), EnvVar("C"))
    assert [(m.mount_path, m.sub_path, m.read_only) for m in got.mounts] == [
        ("/data", "a/b", True),
        ("/key", None, True),
        ("/host", None, False),
        ("/w", None, False),
    ]
    assert load_task(dump_task(got)) == got


def test_a_task_that_says_nothing_has_defaults() -> None:
    """The least a task may be."""
    got = read_spec({"tasks": [{"image": IMAGE}]}).tasks[0]
    assert (got.priority, got.auto_resume, got.min_runtime, got.timeout) == (2, True, 0, None)
    assert (got.command, got.arguments, got.result_path, got.preemptible) == (None, None, None, None)


def test_unknown_fields_pass() -> None:
    """What the API may know one day is no reason to refuse, wherever it is."""
    body = spec_of(dreams={"deep": [1, None]}, resources={"tpuCount": 1}, envVars=[{"name": "A", "x": 1}])
    assert read_spec({**body, "novel": 1}).tasks[0].env == (EnvVar("A"),)


def test_the_last_of_two_variables_counts() -> None:
    """As in the environment of a process."""
    assert read_task(envVars=[{"name": "A", "value": "1"}, {"name": "A", "value": "2"}]).env == (
        EnvVar("A", "2"),
    )


def test_paths_are_normal() -> None:
    """What is mounted has one spelling."""
    got = read_task(
        result={"path": "/results/"},
        datasets=[{"mountPath": "//data/./x/", "subPath": "./a//b/", "source": {"beaker": "d"}}],
    )
    assert (got.result_path, got.mounts[0].mount_path, got.mounts[0].sub_path) == (
        "/results",
        "/data/x",
        "a/b",
    )


def mount(path: Any = "/data", **more: Any) -> dict[str, Any]:
    """A mount of a dataset."""
    return {"mountPath": path, "source": {"beaker": "d"}, **more}


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ({"image": None}, "tasks[0].image: is missing"),
        ({"image": {}}, "tasks[0].image: must have exactly one of"),
        ({"image": {"beaker": "a", "docker": "b"}}, "tasks[0].image: must have exactly one of"),
        ({"image": {"docker": "a b"}}, "tasks[0].image.docker: is no reference"),
        ({"image": "busybox"}, "tasks[0].image: must be an object, not a string"),
        ({"command": "ls"}, "tasks[0].command: must be a list, not a string"),
        ({"command": ["ls", 3]}, "tasks[0].command[1]: must be a string, not a number"),
        ({"name": 3}, "tasks[0].name: must be a string, not a number"),
        ({"name": "a\nb"}, "tasks[0].name: must be at most 200 printable"),
        ({"timeout": -1}, "tasks[0].timeout: must not be below zero"),
        ({"timeout": 1.5}, "tasks[0].timeout: must be a whole number"),
        ({"timeout": "soon"}, "tasks[0].timeout: 'soon' is no duration"),
        ({"timeout": True}, "tasks[0].timeout: must be a number, not a truth value"),
        ({"resources": {"memory": "lots"}}, "tasks[0].resources.memory: 'lots' is no size"),
        ({"resources": {"memory": "99999999999EB"}}, "tasks[0].resources.memory: "),
        ({"resources": {"cpuCount": -1}}, "tasks[0].resources.cpuCount: must not be below zero"),
        ({"resources": {"cpuCount": float("nan")}}, "tasks[0].resources.cpuCount: is not a number"),
        ({"resources": {"gpuCount": 0.5}}, "tasks[0].resources.gpuCount: must be a whole number"),
        ({"resources": {"gpuCount": 10**30}}, "tasks[0].resources.gpuCount: is beyond 64 bits"),
        ({"resources": {"gpuCount": 2**40}}, "tasks[0].resources.gpuCount: must be 1000000 at most"),
        ({"resources": {"cpuCount": 1e9}}, "tasks[0].resources.cpuCount: must be 1000000 at most"),
        ({"resources": []}, "tasks[0].resources: must be an object, not a list"),
        ({"context": {"priority": "utmost"}}, "tasks[0].context.priority: must be one of low, normal"),
        ({"context": {"priority": 3}}, "tasks[0].context.priority: must be a string"),
        (
            {"context": {"preemptible": True, "minRuntime": 0}},
            "tasks[0].context.preemptible: is the old form",
        ),
        (
            {"context": {"preemptible": False, "autoResume": True}},
            "tasks[0].context.preemptible: is the old",
        ),
        (
            {"context": {"cluster": "a"}, "constraints": {"cluster": ["b"]}},
            "tasks[0].context.cluster: is the",
        ),
        ({"constraints": {"cluster": "ai2/x"}}, "tasks[0].constraints.cluster: must be a list, not a string"),
        ({"envVars": [{"value": "1"}]}, "tasks[0].envVars[0].name: '' is no name"),
        ({"envVars": [{"name": "A=B"}]}, "tasks[0].envVars[0].name: 'A=B' is no name"),
        ({"envVars": [{"name": "A", "value": 1}]}, "tasks[0].envVars[0].value: must be a string"),
        ({"envVars": [{"name": "A", "value": "1", "secret": "s"}]}, "tasks[0].envVars[0]: has both"),
        ({"envVars": [{"name": "A", "value": "a\0"}]}, "tasks[0].envVars[0].value: holds a NUL"),
        ({"envVars": [{"name": "A", "value": "\ud800"}]}, "tasks[0].envVars[0].value: is not valid Unicode"),
        ({"datasets": [mount("data")]}, "tasks[0].datasets[0].mountPath: must be an absolute path"),
        ({"datasets": [mount(None)]}, "tasks[0].datasets[0].mountPath: must be an absolute path"),
        ({"datasets": [mount("/")]}, "tasks[0].datasets[0].mountPath: must not be the root"),
        ({"datasets": [mount("//.")]}, "tasks[0].datasets[0].mountPath: must not be the root"),
        ({"datasets": [mount("/a/../b")]}, "tasks[0].datasets[0].mountPath: must not hold `..`"),
        ({"datasets": [mount("/" + "a" * 300)]}, "tasks[0].datasets[0].mountPath: is longer"),
        ({"datasets": [mount(), mount()]}, "tasks[0].datasets[1].mountPath: /data lies in /data"),
        (
            {"datasets": [mount("/data/x"), mount("/data-x"), mount("/data")]},
            "tasks[0].datasets[0].mountPath: /data/x lies in /data, which is datasets[2].mountPath",
        ),
        (
            {"datasets": [mount("/results/in")], "result": {"path": "/results"}},
            "tasks[0].datasets[0].mountPath: /results/in lies in /results, which is result.path",
        ),
        ({"datasets": [mount(subPath="../x")]}, "tasks[0].datasets[0].subPath: must not hold `..`"),
        ({"datasets": [mount(subPath="/x")]}, "tasks[0].datasets[0].subPath: must be relative"),
        ({"datasets": [mount(mode="append")]}, "tasks[0].datasets[0].mode: must be readonly or readwrite"),
        (
            {"datasets": [mount(mode="readwrite")]},
            "tasks[0].datasets[0].mode: a mount of beaker is read-only",
        ),
        ({"datasets": [mount(source={})]}, "tasks[0].datasets[0].source: must have exactly one of"),
        ({"datasets": [mount(source={"beaker": "a", "secret": "b"})]}, "has beaker, secret"),
        ({"datasets": [mount(source={"hostPath": "x"})]}, "tasks[0].datasets[0].source.hostPath: must be an"),
        (
            {"datasets": [mount(source={"secret": "s"}, subPath="a")]},
            "tasks[0].datasets[0].subPath: a secret",
        ),
        ({"datasets": [mount(source={"result": "nobody"})]}, "tasks[0].datasets[0].source.result: no task"),
        ({"datasets": {}}, "tasks[0].datasets: must be a list, not an object"),
        ({"result": {}}, "tasks[0].result.path: must be an absolute path"),
        ({"replicas": 2}, "tasks[0].replicas: this server has no replicas yet"),
        ({"leaderSelection": True}, "tasks[0].leaderSelection: this server has no leaders"),
        ({"synchronizedStartTimeout": 5}, "tasks[0].synchronizedStartTimeout: this server has no replicas"),
    ],
)
def test_what_makes_no_sense_is_refused_by_its_name(task: dict[str, Any], message: str) -> None:
    """A refusal names the field and the fact."""
    assert message in refusal(spec_of(**task))


def chain(*waits: tuple[str, str | None]) -> dict[str, Any]:
    """A spec of tasks, each with the name of the one whose result it waits for."""
    return {
        "tasks": [
            {
                "name": name,
                "image": IMAGE,
                "datasets": [] if other is None else [mount(source={"result": other})],
            }
            for name, other in waits
        ]
    }


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({}, "tasks: must hold between 1 and 1000 tasks, holds 0"),
        ({"tasks": [3]}, "tasks[0]: must be an object, not a number"),
        ({"tasks": "none"}, "tasks: must be a list, not a string"),
        ({**spec_of(), "version": "v1"}, "version: must be v2 or v2-alpha, is 'v1'"),
        ({**spec_of(), "groups": ["g"]}, "groups: this server has no groups yet"),
        ({**spec_of(), "retry": {"allowedTaskRetries": 1001}}, "retry.allowedTaskRetries: must be 1000"),
        ({**spec_of(), "description": 5}, "description: must be a string"),
        ({**spec_of(), "x": {"\ud800": 1}}, "a name in x: is not valid Unicode"),
        (chain(("a", None), ("a", None)), "tasks[1].name: 'a' is the name of another task"),
        (chain(("a", "a")), "tasks[0].datasets: waits for a result of tasks that wait for its own"),
        (chain(("x", None), ("a", "b"), ("b", "a")), "tasks[1].datasets: waits for a result"),
    ],
)
def test_an_experiment_that_makes_no_sense_is_refused(body: dict[str, Any], message: str) -> None:
    """As for tasks."""
    assert message in refusal(body)


def test_tasks_may_wait_for_each_other_in_any_order() -> None:
    """A task may be named before it comes."""
    assert len(read_spec(chain(("c", "b"), ("b", "a"), ("a", None))).tasks) == 3


def test_what_is_nested_too_deep_is_refused() -> None:
    """No reader behind this one has to follow it."""
    value: Any = 1
    for _ in range(500):
        value = [value]
    assert "is nested deeper than 64" in refusal({**spec_of(), "x": value})


ANY = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(exclude_categories=()), max_size=8)
    | st.sampled_from(["v2", "a", "b", "/a", "/a/b", "../x", "normal", "1GiB", "90s", "readonly"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


def some(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Objects with some of these fields."""
    return st.fixed_dictionaries({}, optional=fields)


NAMES = st.sampled_from(["a", "b", "ai2/c"])
PATHS = st.sampled_from(["/a", "/a/b", "/c", "//d/", "/e/../f"])
SIZES = st.sampled_from(["1GiB", "10 GB", "0", 5, "lots"])
TIMES = st.sampled_from([0, 10**9, "90s", "1h30m"])
TASKS = st.fixed_dictionaries(
    {"image": st.sampled_from([IMAGE, {"beaker": "me/x"}])},
    optional={
        "name": st.sampled_from(["a", "b", "c"]),
        "command": st.lists(st.text(max_size=3), max_size=2),
        "arguments": st.lists(st.text(max_size=3), max_size=2),
        "timeout": TIMES,
        "replicas": st.sampled_from([0, 1, 1, 2]),
        "hostNetworking": st.booleans(),
        "propagateFailure": st.booleans(),
        "context": some(
            priority=st.sampled_from(["low", "urgent"]), minRuntime=TIMES, autoResume=st.booleans()
        ),
        "constraints": some(cluster=st.lists(NAMES, max_size=2), hostname=st.lists(NAMES, max_size=2)),
        "resources": some(
            cpuCount=st.floats(0, 1e7), gpuCount=st.integers(0, 8), memory=SIZES, sharedMemory=SIZES
        ),
        "result": st.fixed_dictionaries({"path": PATHS}),
        "envVars": st.lists(
            st.fixed_dictionaries({"name": NAMES}, optional={"value": st.text(max_size=3)}), max_size=2
        ),
        "datasets": st.lists(
            st.fixed_dictionaries(
                {
                    "mountPath": PATHS,
                    "source": st.sampled_from(
                        [
                            {"beaker": "d"},
                            {"result": "a"},
                            {"result": "b"},
                            {"hostPath": "/x"},
                            {"secret": "s"},
                        ]
                    ),
                },
                optional={"subPath": st.sampled_from(["x", "./x//y", "../x"])},
            ),
            max_size=3,
        ),
    },
)
BODIES = st.fixed_dictionaries(
    {"tasks": st.lists(TASKS, min_size=1, max_size=3)},
    optional={
        "version": st.just("v2"),
        "budget": NAMES,
        "description": st.text(max_size=5),
        "retry": some(allowedTaskRetries=st.integers(0, 3)),
    },
)


@st.composite
def spoilt(draw: st.DrawFn) -> dict[str, Any]:
    """A spec with one value in it replaced by any other."""
    body: dict[str, Any] = draw(BODIES)
    place: Any = body
    while True:
        key = (
            draw(st.sampled_from(sorted(place)))
            if isinstance(place, dict)
            else draw(st.integers(0, len(place) - 1))
        )
        if isinstance(place[key], (dict, list)) and place[key] and draw(st.integers(0, 3)):
            place[key] = copy(place[key])
            place = place[key]
            continue
        place[key] = draw(ANY)
        return body


@settings(max_examples=400, deadline=None)
@given(BODIES | spoilt())
def test_nothing_breaks_the_reader(body: dict[str, Any]) -> None:
    """Whatever is sent is understood or refused, and what is understood can be kept and shown."""
    try:
        spec = read_spec(body)
    except Problem as problem:
        assert problem.kind is Kind.INVALID
        problem.message.encode()
        return
    for task in spec.tasks:
        assert load_task(dump_task(task)) == task
        container_spec(task).SerializeToString()
        system_details(task, task.priority).SerializeToString()
    yaml_text(json.dumps(body)).encode()
