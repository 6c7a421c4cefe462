"""The JSON Schemas that editors use: they take what the readers take, and refuse what these refuse.

What no schema can say is not among it: names that lead nowhere, files, unclosed quotes. Nor is 1.0 for 1.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft7Validator

from dispatch import assets
from dispatch.config import KEYS, load
from dispatch.config.schema import FILES, schema_of
from dispatch.config.schema.settings import BEAKER
from dispatch.config.schema.steps import OPTIONS
from dispatch.environment import ImageKind
from dispatch.errors import DispatchError
from dispatch.options import KEYS as STEP_KEYS
from dispatch.resources import StepResources
from dispatch.settings import KEYS as SETTINGS_KEYS
from dispatch.settings import Settings, WorkspaceSetting, beaker, images, read_settings
from dispatch.settings.document import Document, read_document
from dispatch.settings.matrix import MATRIX, read_declared
from dispatch.settings.section import Section

ROOT = Path(__file__).parents[2]
SHELL = "{type: shell, command: x}"


VALIDATORS = {file: Draft7Validator(schema_of(file)) for file in (None, *FILES)}


def complaints(file: str | None, content: Any) -> list[str]:
    """What the schema says against a document."""
    return [error.message for error in VALIDATORS[file].iter_errors(content)]


def in_repository() -> Iterator[tuple[str, Path]]:
    """Every configuration, settings file and image of the repository's own."""
    for path in sorted((ROOT / "tests" / "pipelines").glob("*/*")):
        if path.stem in ("dispatch", "experiment", "config"):
            yield ("settings" if path.stem == "dispatch" else "experiment"), path
    for path in sorted((ROOT / "images").glob("*/image.yml")):
        yield "image", path


@pytest.mark.parametrize("file", [None, *FILES])
def test_the_schemas_are_schemas(file: str | None) -> None:
    """Each is a valid document of draft 7, and refers to nothing outside of itself."""
    schema = schema_of(file)
    Draft7Validator.check_schema(schema)
    text = json.dumps(schema)
    assert {each.split("/")[-1] for each in re.findall(r'"\$ref": "([^"]*)"', text)} <= set(
        schema["definitions"]
    )


def test_the_command_prints_them() -> None:
    """What is printed is the schema itself, which an editor takes as it is."""
    run = [sys.executable, "-m", "dispatch.cli", "schema"]
    for file in (None, *FILES):
        argv = run if file is None else [*run, file]
        printed = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
        assert json.loads(printed) == schema_of(file)


@pytest.mark.parametrize(
    ("file", "path"), [pytest.param(*each, id=str(each[1].relative_to(ROOT))) for each in in_repository()]
)
def test_what_is_in_the_repository_fits(file: str, path: Path) -> None:
    """Every file of ours that is read in tests or ships has nothing against it, on its own or among all."""
    content = read_document(
        path, {"points": "10", "rate": "0.1"} if path.suffix == ".jsonnet" else {}
    ).content
    assert complaints(file, content) == []
    assert complaints(None, content) == []


def test_what_the_readme_shows_fits(tmp_path: Path) -> None:
    """So has every whole configuration, settings file and image that the README prints."""
    shown = dict.fromkeys(FILES, 0)
    keys = {"settings": SETTINGS_KEYS, "experiment": KEYS, "image": (*images.KEYS[ImageKind.PIP], MATRIX)}
    for number, block in enumerate(re.findall(r"```yaml\n(.*?)```", (ROOT / "README.md").read_text(), re.S)):
        path = tmp_path / f"{number}.yml"
        path.write_text(block)
        content = read_document(path).content
        file = "image" if "image.yml" in block else "experiment" if "steps" in content else "settings"
        if set(content) <= set(keys[file]):
            assert complaints(file, content) == [], block
            shown[file] += 1
    assert all(shown.values())


def test_every_key_of_the_readers_is_there() -> None:
    """Whoever adds a key to a reader adds it here."""
    assert list(FILES["settings"]["properties"]) == list(SETTINGS_KEYS)
    assert set(FILES["experiment"]["properties"]) == set(KEYS)
    assert list(OPTIONS) == list(STEP_KEYS)
    assert set(BEAKER) == set(beaker.KEYS)
    resources = next(each for each in OPTIONS["step_resources"].values() if isinstance(each, dict))
    assert list(resources) == list(StepResources.__slots__)
    definitions = schema_of()["definitions"]
    for kind, keys in images.KEYS.items():
        assert set(definitions[f"image_{kind.value}"]["properties"]) == set(keys)
        assert set(definitions[f"matrix_{kind.value}"]["properties"]) == {*keys, MATRIX}


def read(root: Path, file: str, text: str) -> Any:
    """Have a file read by its reader, in a repository where all that it may name is there."""
    (root / ".git").touch()
    for name in ("a.in", "pyproject.toml", "Dockerfile"):
        (root / name).touch()
    (root / "environment.yml").write_text("dependencies: [python]")
    path = root / ("image.yml" if file == "image" else "x.yml")
    path.write_text(text)
    workspace = WorkspaceSetting("local", root / "workspace")
    if file == "settings":
        read_settings(path, root, workspace)
    elif file == "image":
        read_declared(Section.of(read_document(path)), "it")
    else:
        load(path, Settings(workspace=workspace), assets.images())
    return read_document(path).content


def step(rest: str) -> str:
    return f"steps: {{a: {{type: shell, command: x, {rest}}}}}"


ACCEPTED = [
    ("image", "{pip: a.in}"),
    ("image", "{pip: a.in, python: , env: {A: 1}, apt: [git], target: {cuda: '12.4'}}"),
    ("image", "{pip: pyproject.toml, extras: [a], groups: [b], resolver: pip-tools, sdists: [c]}"),
    ("image", "{pip: a.in, extras: }"),
    ("image", "{conda: environment.yml, platform: linux/arm64, copy: [{source: x, target: /opt/x}]}"),
    ("image", "{dockerfile: Dockerfile, base: b, args: {A: 1}, secrets: {t: {file: x}}, ssh: true}"),
    ("image", "{docker: 'u:1', run: [x], user: '1000:1000'}"),
    ("image", "{beaker: ai2/conda}"),
    ("image", "{debian: {suites: [s], packages: [p1], architecture: amd64, epoch: 1}, env: {A: b}}"),
    ("image", "{pip: a.in, matrix: {python: ['3.11']}, base: 'python:{python}'}"),
    ("image", "{pip: a.in, matrix: {cuda: ['12.1']}, target: {cuda: '{cuda}'}, lock: '{cuda}.lock'}"),
    ("experiment", f"steps: {{a: {SHELL}}}"),
    ("experiment", f"{{include_package: x.y, image: , images: {{b: {{docker: x}}}}, steps: {{a: {SHELL}}}}}"),
    ("experiment", "steps: {a: {type: train, anything: [1, {b: c}], lr: 0.1}}"),
    ("experiment", step("inputs: {a: 1, b: text}, paths: [src], step_image: {pip: a.in}")),
    ("experiment", step("step_resources: {cpu_count: 0.5, gpu_count: 0, memory: 1.5GiB, shared_memory: 5}")),
    ("experiment", step("step_retries: {limit: 2, on: [oom, 137, ConnectionError, a.b], delay: 1m30s}")),
    ("experiment", step("step_retries: 3, step_timeout: 1h30m, step_priority: -5, step_group: g")),
    ("experiment", step("step_secrets: [A, {name: B, env: true}], step_env: {A: 1.5, B: x}")),
    ("experiment", step("step_mounts: [{source: ~/x, target: /data}], step_network: none")),
    ("settings", "{}"),
    ("settings", "{workspace: ./ws, executor: docker, allow_dirty: false}"),
    ("settings", "{workspace: {type: local, dir: x}, executor: {type: local, start_method: fork}}"),
    ("settings", "{workspace: 'beaker://ai2/x', executor: {parallelism: -1, gpus: [0, a]}}"),
    ("settings", "{workspace: {type: from_url, url: 'memory://'}, trusted_workspaces: [x]}"),
    ("settings", "executor: {type: beaker, clusters: ai2/c, datasets: ['d:/data', 'weka://b:/w']}"),
    (
        "settings",
        "executor: {type: beaker, env_vars: [A=b, {name: C, secret: S}], timeout: 1h, scheduler: s}",
    ),
    ("settings", "{secrets: {A: {env: B}, C: {command: [x, y]}, D: {file: ~/d}}, groups: {g: 2}}"),
    ("settings", "{source: {mode: clone, token: T}, default_format: {type: json, indent: 1}}"),
    ("settings", "registry: 'registry.example.org:5000/team'"),
    ("settings", "registry: {address: localhost:5000, insecure: true}"),
    ("settings", "registry: ghcr.io/my-team"),
    ("settings", "registry: {address: 'localhost:5000', insecure: true, authority: ca.pem}"),
    ("settings", "images: {a: {pip: a.in}, b: {pip: a.in, matrix: {python: ['3.11', '3.12']}}}"),
]

REFUSED = [
    ("image", "{}"),
    ("image", "{pip: a.in, docker: x}"),
    ("image", "{pip: }"),
    ("image", "{pip: a.in, pyton: '3.11'}"),
    ("image", "{pip: a.in, python: 3.11}"),
    ("image", "{pip: a.in, python: '3.11.2'}"),
    ("image", "{pip: a.in, extras: [x]}"),
    ("image", "{pip: a.in, resolver: poetry}"),
    ("image", "{pip: a.in, platform: windows/amd64}"),
    ("image", "{pip: a.in, target: {cuda: 12.4}}"),
    ("image", "{pip: a.in, target: {gpu: x}}"),
    ("image", "{pip: a.in, apt: ['-y']}"),
    ("image", "{pip: a.in, run: make}"),
    ("image", "{pip: a.in, user: 'a b'}"),
    ("image", "{pip: a.in, copy: [{source: x}]}"),
    ("image", "{pip: a.in, copy: [{source: x, target: y}]}"),
    ("image", "{pip: a.in, copy: [{source: x, target: /a/../b}]}"),
    ("image", "{pip: a.in, copy: [{source: x, target: /opt/venv/y}]}"),
    ("image", "{pip: a.in, env: {DISPATCH_X: y}}"),
    ("image", "{pip: a.in, env: {A: true}}"),
    ("image", "{pip: a.in, bytecode: 1}"),
    ("image", "{docker: -x}"),
    ("image", "{docker: x, python: '3.11'}"),
    ("image", "{beaker: a/b/c}"),
    ("image", "{dockerfile: D, apt: [git]}"),
    ("image", "{dockerfile: D, secrets: {t: value}}"),
    ("image", "{dockerfile: D, secrets: {t: {file: a, env: B}}}"),
    ("image", "{dockerfile: D, platform: linux/amd64, platforms: [linux/arm64]}"),
    ("image", "{dockerfile: D, base: b, args: {BASE: x}}"),
    ("image", "{debian: {suites: [x], packages: [p1], architecture: amd64}}"),
    ("image", "{debian: {suites: [], packages: [p1], architecture: amd64, epoch: 1}}"),
    ("image", "{pip: a.in, python: '{python}'}"),
    ("image", "{pip: a.in, matrix: {}}"),
    ("image", "{pip: a.in, matrix: {python: []}}"),
    ("image", "{pip: a.in, matrix: {python: [3.11]}}"),
    ("image", "{pip: a.in, matrix: {pyton: ['3.11']}}"),
    ("experiment", "{}"),
    ("experiment", "steps: {}"),
    ("experiment", f"{{step: {{a: {SHELL}}}}}"),
    ("experiment", f"{{image: 'a:1', steps: {{a: {SHELL}}}}}"),
    ("experiment", "steps: {a b: {type: shell, command: x}}"),
    ("experiment", "steps: {a: {command: x}}"),
    ("experiment", "steps: {a: {type: ref}}"),
    ("experiment", "steps: {a: {type: shell}}"),
    ("experiment", "steps: {a: {type: shell, command: ' '}}"),
    ("experiment", step("lr: 1")),
    ("experiment", step("step_imag: x")),
    ("experiment", "steps: {a: {type: train, step_imag: x}}"),
    ("experiment", step("step_image: {pip: a.in, matrix: {python: ['3.11']}}")),
    ("experiment", step("step_network: host")),
    ("experiment", step("inputs: {a: {b: c}}")),
    ("experiment", step("step_timeout: '0'")),
    ("experiment", step("step_retries: {limit: }")),
    ("experiment", step("step_secrets: [A, A]")),
    ("experiment", step("step_resources: {cpus: 1}")),
    ("experiment", step("step_resources: {memory: 16G}")),
    ("experiment", step("step_resources: {cpu_count: 0}")),
    ("experiment", step("step_retries: -1")),
    ("experiment", step("step_retries: {on: [ooms]}")),
    ("experiment", step("step_retries: {times: 1}")),
    ("experiment", step("step_timeout: soon")),
    ("experiment", step("step_priority: 1001")),
    ("experiment", step("step_secrets: [a-b]")),
    ("experiment", step("step_env: {A: true}")),
    ("experiment", step("step_env: {dispatch_x: y}")),
    ("experiment", step("step_mounts: [{source: x, target: /src/y}]")),
    ("experiment", step("paths: [/etc]")),
    ("experiment", step("paths: [a/../b]")),
    ("experiment", step("inputs: {a: [1]}")),
    ("experiment", step("cache_results: 1")),
    ("experiment", step("step_metadata: []")),
    ("settings", "registry: https://ghcr.io/my-team"),
    ("settings", "registry: ghcr.io/my-team:latest"),
    ("settings", "registry: my-team"),
    ("settings", "registry: {insecure: true}"),
    ("settings", "registry: {address: ghcr.io, password: x}"),
    ("settings", "x: 1"),
    ("settings", "workspace: 'x://y'"),
    ("settings", "registry: 'https://registry.example.org'"),
    ("settings", "registry: {insecure: true}"),
    ("settings", "workspace: {type: local}"),
    ("settings", "workspace: {type: beaker, beaker_workspace: a, workspace: b}"),
    ("settings", "executor: slurm"),
    ("settings", "executor: {type: docker, start_method: fork}"),
    ("settings", "executor: {parallelism: 0}"),
    ("settings", "executor: {gpus: ['0,1']}"),
    ("settings", "executor: {type: beaker, beaker_image: a, docker_image: b}"),
    ("settings", "executor: {type: beaker, priority: highest}"),
    ("settings", "executor: {type: beaker, env_vars: [A]}"),
    ("settings", "executor: {type: beaker, env_vars: [{name: A, value: b, secret: C}]}"),
    ("settings", "executor: {type: beaker, datasets: [{source: {volume: x}, mount_path: /x}]}"),
    ("settings", "executor: {type: beaker, datasets: ['d:x']}"),
    ("settings", "executor: {type: beaker, datasets: ['s3://b:/x']}"),
    ("settings", "executor: {type: beaker, datasets: [{source: {beaker: a, weka: b}, mount_path: /x}]}"),
    ("settings", "image: [a]"),
    ("settings", "images: {../x: {docker: x}}"),
    ("settings", "images: {a: }"),
    ("settings", "mounts: [{source: x, target: /}]"),
    ("settings", "groups: {a: 0}"),
    ("settings", "secrets: {A: value}"),
    ("settings", "secrets: {A: {env: B, file: c}}"),
    ("settings", "shared_dirs: x"),
    ("settings", "source: {mode: export, token: T}"),
    ("settings", "default_format: {indent: 1}"),
    ("settings", "include_package: [a b]"),
    ("settings", "trusted_workspaces: ['x://y']"),
]


# Values of which some fit some keys of images, and most do not.
VALUES: list[Any] = [
    None, True, 0, -1, 3.11, "", "a", "a.in", "x\0y", "3.11", "3.11.2", "12.4", "12", "linux/arm64",
    "b:1", "-x", "a/b/c", "G++", "app", "1000:1000", "a b", "uv", "pyproject.toml",
    "{python}", "x{cuda}", "${python}",
    [], ["git"], ["a b"], [1], [None], [""], {}, {"A": "b"}, {"A": 1}, {"A": True}, {"DISPATCH_X": "a"},
    {"BASE": "x"}, {"cuda": "12.4"}, {"cuda": 12.4}, {"glibc": "2.28", "cuda": None}, {"t": {"file": "x"}},
    {"t": {"env": "A B"}}, {"t": {"file": "x", "env": "A"}}, {"t": "v"}, {"t t": {"file": "x"}},
    [{"source": "a", "target": "/b"}], [{"source": "a", "target": "//opt//venv/x"}], [{"source": "a"}],
    [{"source": "a", "target": "/b", "x": 1}], {"python": ["3.11"]}, {"python": ["3.11"], "cuda": ["12.4"]},
    {"python": []}, {"python": None},
    {"suites": ["s"], "packages": ["p1"], "architecture": "amd64", "epoch": 1},
    {"suites": ["s"], "packages": ["p1"], "architecture": "amd64", "epoch": -1},
]  # fmt: skip
SOUND: dict[ImageKind, Any] = {
    ImageKind.DOCKER: "u:1",
    ImageKind.PIP: "pyproject.toml",
    ImageKind.CONDA: "environment.yml",
    ImageKind.DOCKERFILE: "Dockerfile",
    ImageKind.BEAKER: "ai2/conda",
    ImageKind.DEBIAN: {"suites": ["s"], "packages": ["p1"], "architecture": "amd64", "epoch": 1},
}


@st.composite
def declarations(draw: st.DrawFn) -> dict[str, Any]:
    """Declarations of every kind with up to three further keys, most of them of that kind."""
    kind = draw(st.sampled_from(list(ImageKind)))
    every = [key for keys in images.KEYS.values() for key in keys]
    keys = st.sampled_from([*images.KEYS[kind], MATRIX] * 5 + every)
    content = draw(st.dictionaries(keys, st.sampled_from(VALUES), max_size=3))
    return {**content, kind.value: draw(st.sampled_from([SOUND[kind]] * 3 + VALUES))}


@settings(max_examples=400, deadline=None, derandomize=True)
@given(declarations())
def test_reader_and_schema_judge_alike(content: dict[str, Any]) -> None:
    """Of any declaration of an image both say the same."""
    section = Section(Document(Path("/here/image.yml"), content, {}), (), content)
    try:
        read_declared(section, "it")
    except DispatchError as error:
        assert complaints("image", content), error.message
    else:
        assert complaints("image", content) == []


@pytest.mark.parametrize(("file", "text"), ACCEPTED)
def test_what_readers_take_the_schema_takes(tmp_path: Path, file: str, text: str) -> None:
    """An editor marks nothing that would work."""
    assert complaints(file, read(tmp_path, file, text)) == []


@pytest.mark.parametrize(("file", "text"), REFUSED)
def test_what_readers_refuse_the_schema_refuses(tmp_path: Path, file: str, text: str) -> None:
    """A mistake that a schema can tell is marked in the editor, before any command is run."""
    with pytest.raises(DispatchError):
        read(tmp_path, file, text)
    path = tmp_path / "again.yml"
    path.write_text(text)
    assert complaints(file, read_document(path).content)
