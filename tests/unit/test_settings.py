"""What ``dispatch.yml`` and the environment variables mean, and how every mistake in them is answered."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dispatch.environment import BeakerImage, DebianImage, DockerImage, Environment, Extras, PipImage
from dispatch.errors import ConfigurationError
from dispatch.settings import (
    Base,
    ExecutorSetting,
    MountSetting,
    Settings,
    SourceMode,
    SourceSetting,
    Surroundings,
    WorkspaceSetting,
    find_settings,
    parse_workspace,
    read_environment,
    read_settings,
)
from dispatch.settings.document import read_document
from dispatch.settings.images import read_image
from dispatch.settings.secrets import FromCommand, FromFile, FromVariable
from dispatch.settings.section import Section
from dispatch.workspace import Workspace

HOME = Path("/home/someone")


def surroundings(home: Path = HOME) -> Surroundings:
    return read_environment({"HOME": str(home)})


def document(tmp_path: Path, text: str | bytes) -> Any:
    path = tmp_path / "x.yml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_document(path)


def settings(tmp_path: Path, text: str) -> Settings:
    path = tmp_path / "dispatch.yml"
    path.write_text(text)
    return read_settings(path, HOME, WorkspaceSetting("local", tmp_path / "workspace"))


def refused(tmp_path: Path, text: str) -> ConfigurationError:
    with pytest.raises(ConfigurationError) as caught:
        settings(tmp_path, text)
    caught.value.message = caught.value.message.replace(f"{tmp_path}/", "")
    return caught.value


def image(tmp_path: Path, text: str, name: str = "it", file: str = "image.yml") -> Any:
    path = tmp_path / file
    path.write_text(text)
    return read_image(Section.of(read_document(path)), name)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", 1),
        ("+1", 1),
        ("010", 10),
        ("0o10", 8),
        ("0x1F", 31),
        ("1_000", "1_000"),
        ("12:30", "12:30"),
        ("1.5", 1.5),
        ("1e-3", 0.001),
        ("1E3", 1000.0),
        (".5", 0.5),
        ("1.", 1.0),
        ("-.inf", -math.inf),
        ("true", True),
        ("FALSE", False),
        ("yes", "yes"),
        ("no", "no"),
        ("on", "on"),
        ("y", "y"),
        ("null", None),
        ("~", None),
        ("", None),
        ("nil", "nil"),
        ("2024-01-01", "2024-01-01"),
        ("'1'", "1"),
        ("!!str 1", "1"),
        ("=", "="),
        ("é", "é"),
        ("1.2.3", "1.2.3"),
        ("e3", "e3"),
    ],
)
def test_scalars_follow_the_core_schema(tmp_path: Path, text: str, value: Any) -> None:
    """A plain scalar is what YAML 1.2's core schema says, types included."""
    read = document(tmp_path, f"key: {text}\n").content["key"]
    assert (type(read), read) == (type(value), value)


def test_not_a_number_is_read(tmp_path: Path) -> None:
    """``.nan`` is the float that equals nothing."""
    assert math.isnan(document(tmp_path, "key: .nan").content["key"])


def test_anchors_and_merges(tmp_path: Path) -> None:
    """Own keys win over merged ones, earlier merged mappings over later ones."""
    text = """
    one: &one {a: 1, b: 1}
    two: &two {b: 2, c: 2}
    both: {<<: [*one, *two], a: 0}
    """
    assert document(tmp_path, text).content["both"] == {"a": 0, "b": 1, "c": 2}


def test_content_is_what_json_can_hold(tmp_path: Path) -> None:
    """Whatever is read survives JSON, because job files are JSON."""
    content = document(tmp_path, "a: [1, 1.5, x, true, null, {b: [c]}]").content
    assert json.loads(json.dumps(content)) == content


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        ("a: 1\nb: 2\na: 3\n", ":3:1: ", "'a' is given twice (first in line 1)"),
        ("a:\n  b: 1\n  b: 2\n", ":3:3: ", "given twice"),
        ("1: a\n", ":1:1: ", "the key '1' is not text"),
        ("true: a\n", ":1:1: ", "the key 'true' is not text"),
        ("[a, b]: c\n", ":1:1: ", "a key must be text"),
        (
            "a: !!python/object:os.system x\n",
            ":1:4: ",
            "the tag '!!python/object:os.system' is not supported",
        ),
        ("a: !secret x\n", ":1:4: ", "not supported"),
        ("a: !!binary eA==\n", ":1:4: ", "not supported"),
        ("a: !!int x\n", ":1:4: ", "'x' is no int"),
        ("a: &a [*a]\n", ":1:8: ", "refers to something around itself"),
        ("<<: 1\n", ":1:5: ", "'<<' takes a mapping"),
        ("a: 1\n---\nb: 2\n", ":2:1: ", "another document begins here"),
        ("a: !!seq {b: c}\n", ":1:4: ", "the tag '!!seq' is not supported"),
        ("a: [1\n", ":2:1: ", "not YAML"),
        ("a:\n\t- 1\n", ":2:1: ", "not YAML"),
        ("a: *b\n", ":1:4: ", "the alias '*b' has no anchor before it"),
        (b"a: \xff\n", ": ", "not UTF-8"),
        ("a: \x01\n", ": ", "not YAML"),
        ("[" * 102 + "]" * 102, ":1:102: ", "nested too deeply"),
        ("[" * 100_000, ":1:", "nested too deeply"),
        ("- " * 100_000 + "x", ":1:", "nested too deeply"),
    ],
)
def test_what_is_not_our_yaml_is_refused(tmp_path: Path, text: str | bytes, place: str, words: str) -> None:
    """Errors of the file itself name file, line and column, and no traceback of a parser."""
    with pytest.raises(ConfigurationError) as caught:
        document(tmp_path, text)
    assert caught.value.message.startswith(f"{tmp_path / 'x.yml'}{place}")
    assert words in caught.value.message


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    """A directory or a missing file is a configuration error with the system's words."""
    with pytest.raises(ConfigurationError, match="cannot be read: Is a directory"):
        read_document(tmp_path)
    with pytest.raises(ConfigurationError, match="cannot be read: No such file"):
        read_document(tmp_path / "missing.yml")


def test_everything_has_a_default(tmp_path: Path) -> None:
    """An empty file means the defaults, with the workspace beside it."""
    read = settings(tmp_path, "")
    assert read == Settings(
        workspace=WorkspaceSetting("local", tmp_path / "workspace"), path=tmp_path / "dispatch.yml"
    )
    assert (read.executor, read.source, read.allow_dirty) == (ExecutorSetting(), SourceSetting(), None)


def test_every_key(tmp_path: Path) -> None:
    """Each key becomes a typed value, and relative paths are relative to the file."""
    read = settings(
        tmp_path,
        """
        workspace: {type: local, dir: ws}
        executor: {type: docker, parallelism: 4}
        include_package: [digits.data, digits.train, digits.data]
        image: tools
        images: {tools: {docker: "tools:1"}}
        env: {LEVEL: debug, COUNT: 3}
        mounts: [{source: data, target: /data}, {source: ~/models, target: /models/x, read_only: false}]
        groups: {api: 2, one.at-a_time: 1}
        secrets:
          A: {env: USERS_A}
          B: {file: keys/b.pem}
          C: {command: [pass, show, my secret]}
          D: {command: "pass show 'my secret'"}
        shared_dirs: [/net/drive, local]
        allow_dirty: false
        source: export
        default_format: json
        trusted_workspaces: [other, "local:///srv/ws"]
        """,
    )
    assert read == Settings(
        workspace=WorkspaceSetting("local", tmp_path / "ws"),
        executor=ExecutorSetting("docker", 4),
        include_package=("digits.data", "digits.train"),
        image="tools",
        images={"tools": Environment("tools", DockerImage("tools:1"), tmp_path / "dispatch.yml")},
        env={"LEVEL": "debug", "COUNT": "3"},
        mounts=(
            MountSetting(tmp_path / "data", "/data"),
            MountSetting(HOME / "models", "/models/x", read_only=False),
        ),
        groups={"api": 2, "one.at-a_time": 1},
        secrets={
            "A": FromVariable("USERS_A"),
            "B": FromFile(tmp_path / "keys" / "b.pem"),
            "C": FromCommand(("pass", "show", "my secret"), tmp_path),
            "D": FromCommand(("pass", "show", "my secret"), tmp_path),
        },
        shared_dirs=(Path("/net/drive"), tmp_path / "local"),
        allow_dirty=False,
        source=SourceSetting(SourceMode.EXPORT),
        default_format="json",
        trusted_workspaces=(
            WorkspaceSetting("local", tmp_path / "other"),
            WorkspaceSetting("local", Path("/srv/ws")),
        ),
        path=tmp_path / "dispatch.yml",
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/data/ws", WorkspaceSetting("local", Path("/data/ws"))),
        ("~/ws", WorkspaceSetting("local", HOME / "ws")),
        ("local:///data/ws", WorkspaceSetting("local", Path("/data/ws"))),
        ("local:///a%20b", WorkspaceSetting("local", Path("/a b"))),
        ("memory://", WorkspaceSetting("memory")),
        ("beaker://ai2/mine", WorkspaceSetting("beaker", None, {"beaker_workspace": "ai2/mine"})),
        (
            "{type: beaker, beaker_workspace: ai2/mine}",
            WorkspaceSetting("beaker", None, {"beaker_workspace": "ai2/mine"}),
        ),
        ("{type: memory}", WorkspaceSetting("memory")),
        ("memory://mine", WorkspaceSetting("memory", None, {"name": "mine"})),
        ("local://ws", WorkspaceSetting("local", Path("ws"))),
        ("{type: from_url, url: 'local:///a%20b'}", WorkspaceSetting("local", Path("/a b"))),
        ("{type: from_url, url: 'local://ws'}", WorkspaceSetting("local", Path("ws"))),
        ("{type: from_url, url: ws}", WorkspaceSetting("local", Path("ws"))),
        ("{type: from_url, url: 'memory://'}", WorkspaceSetting("memory")),
        (
            "{type: from_url, url: 'beaker://ai2/mine'}",
            WorkspaceSetting("beaker", None, {"beaker_workspace": "ai2/mine"}),
        ),
    ],
)
def test_a_workspace_is_a_path_a_url_or_a_mapping(
    tmp_path: Path, text: str, expected: WorkspaceSetting
) -> None:
    """All spellings of a workspace become one value; whether it works yet is not asked here."""
    if expected.dir is not None:
        expected = replace(expected, dir=tmp_path / expected.dir)
    assert settings(tmp_path, f"workspace: {text}").workspace == expected


@pytest.mark.parametrize("text", ["/data/a b?#é", "memory://", "memory://mine", "beaker://ai2/mine"])
def test_a_workspace_has_a_url_that_means_it(text: str) -> None:
    """Whoever makes a workspace can make it from the URL of its setting."""
    setting = parse_workspace(text, Base(Path("/"), HOME))
    assert parse_workspace(setting.url, Base(Path("/elsewhere"), HOME)) == setting
    if setting.type in Workspace.list_available():
        assert Workspace.from_url(setting.url).url.startswith(setting.url)


def test_how_local_steps_are_started(tmp_path: Path) -> None:
    """The executor of this machine takes a method of starting processes, with or without a type."""
    text = "executor: {type: local, parallelism: 3, start_method: spawn}"
    assert settings(tmp_path, text).executor == ExecutorSetting("local", 3, start_method="spawn")
    assert settings(tmp_path, "executor: {start_method: fork}").executor.start_method == "fork"


def test_a_default_format_may_take_arguments(tmp_path: Path) -> None:
    """A format is a name, or a mapping with its type."""
    assert settings(tmp_path, "default_format: a.b:C").default_format == "a.b:C"
    read = settings(tmp_path, "default_format: {type: json, compress: gz}").default_format
    assert json.loads(json.dumps(read)) == {"type": "json", "compress": "gz"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nworksapce: x", "dispatch.yml:1:1: unknown key 'a'"),
        ("worksapce: x", "dispatch.yml:1:1: unknown key 'worksapce', did you mean 'workspace'?"),
        ("\nallow_dirty: yes", "dispatch.yml:2:1: allow_dirty: expected true or false, got the text 'yes'"),
        ("image: [a]", "dispatch.yml:1:1: image: expected the name of an image, got a list"),
        ("image: 'a:1'", "dispatch.yml:1:1: image: expected the name of an image, got the text 'a:1'"),
        ("source: clome", "dispatch.yml:1:1: source: unknown 'clome', did you mean 'clone'?"),
        ("source: 3", "dispatch.yml:1:1: source: expected text"),
        ("source: {mode: export, token: T}", "dispatch.yml:1:24: source: 'token' is for `mode: clone` alone"),
        ("source: {remote: x}", "dispatch.yml:1:10: source: 'remote' is for `mode: clone` alone"),
        ("source: {mode: clone, tokn: T}", "dispatch.yml:1:23: unknown key 'tokn', did you mean 'token'?"),
        ("source: {mode: clone, token: ghp_x/y}", "dispatch.yml:1:23: token: expected the name of a secret"),
        (
            "source: {mode: clone, ssh_key: '-----BEGIN'}",
            "dispatch.yml:1:23: ssh_key: expected the name of a secret",
        ),
        ("source: {mode: clone, user: 'a:b'}", "dispatch.yml:1:23: user: expected a user's name"),
        ("env: [A]", "dispatch.yml:1:1: env: expected keys with values, got a list"),
        ("env: {A: true}", "dispatch.yml:1:7: env.A: expected text, got true"),
        ("env: {A: 1.0}", "dispatch.yml:1:7: env.A: expected text, got the number 1.0"),
        ("env: {A: }", "dispatch.yml:1:7: env.A: expected text, got nothing"),
        ("env: {A-B: x}", "dispatch.yml:1:7: 'A-B' is no name of an environment variable"),
        ('env: {"A\\n": x}', "dispatch.yml:1:7: 'A\\n' is no name of an environment variable"),
        ('env: {A: "\\0"}', "dispatch.yml:1:7: env.A: the text holds a NUL"),
        ("env: {DISPATCH_X: y}", "dispatch.yml:1:7: 'DISPATCH_X': variables that begin with DISPATCH_"),
        ("include_package: [a.b, 1]", "dispatch.yml:1:24: include_package: expected texts in the list"),
        ("include_package: [a/b]", "dispatch.yml:1:1: include_package: expected names of modules"),
        ("include_package: {a: b}", "dispatch.yml:1:1: include_package: expected a list of texts"),
        ("default_format: a b", "dispatch.yml:1:1: default_format: expected the name of a format"),
        ("default_format: [json]", "dispatch.yml:1:1: default_format: expected text, got a list"),
        (
            "default_format: {compress: gz}",
            "dispatch.yml:1:1: default_format.type: expected the na",
        ),
        ("workspace: {type: memory, dir: x}", "dispatch.yml:1:27: unknown key 'dir'"),
        ("workspace: {type: from_url}", "dispatch.yml:1:1: workspace: from_url needs `url:`"),
        ("workspace: {type: from_url, url: 's3://x'}", "dispatch.yml:1:29: workspace 's3://x': unknown 's3'"),
        (
            "executor: {type: local, start_method: forkserver}",
            "dispatch.yml:1:25: executor.start_method: ",
        ),
        ("executor: {type: docker, start_method: fork}", "dispatch.yml:1:26: unknown key 'start_method'"),
        ("executor: {type: multicore}", "dispatch.yml:1:12: executor.type: unknown 'multicore'"),
        (
            "multiprocessing_start_method: spawn",
            "dispatch.yml:1:1: unknown key 'multiprocessing_start_method': here it is `executor.st",
        ),
        ("environment: {A: b}", "dispatch.yml:1:1: unknown key 'environment': here it is `env`"),
        ("log_level: debug", "dispatch.yml:1:1: unknown key 'log_level': there is none to set"),
        (
            "file_friendly_logging: true",
            "dispatch.yml:1:1: unknown key 'file_friendly_logging': there",
        ),
        ("workspace: 3", "dispatch.yml:1:1: workspace: expected a path, a URL or {type: local"),
        ("workspace: ''", "dispatch.yml:1:1: workspace: the text is empty or holds a NUL"),
        ("workspace: s3://x", "dispatch.yml:1:1: workspace 's3://x': unknown 's3'"),
        ("workspace: 'local://'", "dispatch.yml:1:1: workspace 'local://': nothing after '://'"),
        ("workspace: {dir: x}", "dispatch.yml:1:1: workspace: says no type"),
        ("workspace: {type: local}", "dispatch.yml:1:1: workspace: a local workspace needs `dir:`"),
        (
            "workspace: {type: locl}",
            "dispatch.yml:1:13: workspace.type: unknown 'locl', did you mean 'local'?",
        ),
        ("workspace: {type: local, path: x}", "dispatch.yml:1:26: unknown key 'path'"),
        (
            "executor: {type: docker, paralelism: 2}",
            "dispatch.yml:1:26: unknown key 'paralelism', did you mean",
        ),
        ("executor: {parallelism: 0}", "dispatch.yml:1:12: executor.parallelism: expected a number from 1"),
        ("executor: {parallelism: 1.5}", "dispatch.yml:1:12: executor.parallelism: expected a whole number"),
        ("executor: {parallelism: true}", "dispatch.yml:1:12: executor.parallelism: expected a whole number"),
        (
            "executor: {type: beaker, workspace: x}",
            "dispatch.yml:1:26: executor: 'workspace' does not belong",
        ),
        ("mounts: [x]", "dispatch.yml:1:10: mounts: expected keys with values in the list, got the text 'x'"),
        ("mounts: [{source: x}]", "dispatch.yml:1:10: a mount needs `source:` and `target:`"),
        ("mounts: [{source: x, target: y}]", "dispatch.yml:1:22: mounts.0.target: expected an absolute path"),
        (
            "mounts: [{source: x, target: /a/../src}]",
            "dispatch.yml:1:22: mounts.0.target: expected an absolute",
        ),
        ("mounts: [{source: x, target: /}]", "dispatch.yml:1:22: mounts.0.target: expected an absolute path"),
        ("mounts: [{source: x, target: /src/y}]", "dispatch.yml:1:22: target: '/src/y' lies in a place"),
        (
            "mounts: [{source: x, target: //dispatch}]",
            "dispatch.yml:1:22: target: '//dispatch' lies in a place",
        ),
        (
            "mounts: [{source: x, target: /y}, {source: z, target: /y/}]",
            "dispatch.yml:1:47: target: '/y' is mounted twice",
        ),
        ("groups: [a]", "dispatch.yml:1:1: groups: expected keys with values, got a list"),
        ("groups: {a: 0}", "dispatch.yml:1:10: groups.a: expected a number from 1, got the number 0"),
        ("groups: {a: -1}", "dispatch.yml:1:10: groups.a: expected a number from 1, got the number -1"),
        ("groups: {a: }", "dispatch.yml:1:10: groups.a: expected a number from 1, got nothing"),
        ("groups: {a: 1.5}", "dispatch.yml:1:10: groups.a: expected a whole number"),
        ("groups: {a b: 1}", "dispatch.yml:1:10: 'a b' is no name of a group"),
        ("executor: {gpus: -1}", "dispatch.yml:1:12: executor.gpus: expected how many GPUs there are, or"),
        ("executor: {gpus: true}", "dispatch.yml:1:12: executor.gpus: expected how many GPUs there are, or"),
        (
            "executor: {gpus: [true]}",
            "dispatch.yml:1:12: executor.gpus: expected how many GPUs there are, or",
        ),
        ("executor: {gpus: ['0,1']}", "dispatch.yml:1:12: executor.gpus: expected how many GPUs there are"),
        ("executor: {gpus: [0, '0']}", "dispatch.yml:1:12: gpus: an id is there twice"),
        ("images: {a b: {docker: x}}", "dispatch.yml:1:10: 'a b' is no name for an image"),
        ("images: {../x: {docker: x}}", "dispatch.yml:1:10: '../x' is no name for an image"),
        ("images: {a: }", "dispatch.yml:1:10: images.a: expected a declaration"),
        ("trusted_workspaces: ['x://y']", "dispatch.yml:1:1: trusted_workspaces, entry 1: workspace 'x://y'"),
        ("- a", "dispatch.yml: expected keys with values, got a list"),
    ],
)
def test_mistakes_in_settings(tmp_path: Path, text: str, message: str) -> None:
    """Each mistake is named with file, line, key, what was expected and what was found."""
    assert refused(tmp_path, text).message.startswith(message)


def test_an_unknown_key_lists_the_known_ones(tmp_path: Path) -> None:
    """The way out of an unknown key is the list of keys."""
    assert refused(tmp_path, "x: 1").remedy.startswith("use one of: workspace, executor, include_package")


PIP = PipImage(Path("a.in"), Path("a.lock"), "debian-python")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{pip: a.in}", PIP),
        ("{pip: r/a.txt}", PipImage(Path("r/a.txt"), Path("r/a.lock"), "debian-python")),
        ("{pip: r/needs}", PipImage(Path("r/needs"), Path("r/needs.lock"), "debian-python")),
        ("{pip: p/pyproject.toml}", PipImage(Path("p/pyproject.toml"), Path("p/it.lock"), "debian-python")),
        (
            '{pip: a.in, python: "3.11", base: "b:1", lock: l/x.lock, bytecode: false, env: {B: 1, A: x}}',
            PipImage(
                Path("a.in"),
                Path("l/x.lock"),
                "b:1",
                "3.11",
                False,
                more=Extras(env=(("A", "x"), ("B", "1"))),
            ),
        ),
        ('{docker: "host:5000/team/name:tag"}', DockerImage("host:5000/team/name:tag")),
        ("{beaker: ai2/conda}", BeakerImage("ai2/conda")),
        ("{beaker: 01ARZ3NDEKTSV4RRFFQ69G5FAV}", BeakerImage("01ARZ3NDEKTSV4RRFFQ69G5FAV")),
        ("{beaker: tools--0123456789abcdef.2}", BeakerImage("tools--0123456789abcdef.2")),
        (
            '{debian: {suites: [s], packages: [p3, libc++1], architecture: amd64, epoch: 1}, python: "3.11"}',
            DebianImage(("s",), ("p3", "libc++1"), "amd64", 1, Path("image.lock"), "3.11"),
        ),
    ],
)
def test_kinds_of_images(tmp_path: Path, text: str, expected: Any) -> None:
    """Each supported kind becomes its declaration; the lock lies beside its input unless it is named."""
    read = image(tmp_path, text).declaration
    for field in ("requirements", "lock"):
        if hasattr(expected, field):
            assert getattr(read, field) == tmp_path / getattr(expected, field)
            object.__setattr__(read, field, getattr(expected, field))
    assert read == expected


def test_the_lock_of_a_debian_image_in_another_file_has_the_images_name(tmp_path: Path) -> None:
    """Only an ``image.yml`` owns the name ``image.lock``."""
    text = "{debian: {suites: [s], packages: [p1], architecture: amd64, epoch: 1}}"
    assert image(tmp_path, text, "mine", "experiment.yml").declaration.lock == tmp_path / "mine.lock"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{pip: a.in, docker: x}", ":1:13: image 'it' is of several kinds at once: pip, docker"),
        ("{pips: a.in}", ":1:1: image 'it' is of no kind, did you mean 'pip'?"),
        ("{}", ":1:1: image 'it' is of no kind"),
        ("{pip: a.in, pyton: '3.11'}", ":1:13: unknown key of a 'pip' image 'pyton', did you mean 'python'?"),
        ("{docker: x, python: '3.11'}", ":1:13: unknown key of a 'docker' image 'python'"),
        ("{pip: }", ":1:2: pip: expected a requirements file, got nothing"),
        ("{pip: [a]}", ":1:2: pip: expected text, got a list"),
        ("{docker: -x}", ":1:2: docker: expected a reference such as name:tag, got the text '-x'"),
        ("{docker: 'a b'}", ":1:2: docker: expected a reference"),
        ("{beaker: a/b/c}", ":1:2: beaker: expected AUTHOR/NAME, or an id, got the text 'a/b/c'"),
        ("{beaker: -x}", ":1:2: beaker: expected AUTHOR/NAME, or an id"),
        ("{beaker: 'a:1'}", ":1:2: beaker: expected AUTHOR/NAME, or an id"),
        ("{beaker: x, env: {A: b}}", ":1:13: unknown key of a 'beaker' image 'env'"),
        ("{pip: a.in, python: 3.10}", ":1:13: python: expected a version in quotes, got the number 3.1"),
        ("{pip: a.in, python: '2.7'}", ':1:13: python: expected a minor version such as "3.11"'),
        ("{pip: a.in, python: '3.11.2'}", ":1:13: python: expected a minor version"),
        ("{pip: a.in, base: '-x'}", ":1:13: base: expected the name of an image"),
        ("{pip: a.in, bytecode: 1}", ":1:13: bytecode: expected true or false"),
        (
            "{debian: {suites: [x], packages: [p1], architecture: amd64}}",
            ":1:2: debian.epoch: expected seconds",
        ),
        (
            "{debian: {suites: [x], packages: [-p], architecture: a1, epoch: 1}}",
            ":1:24: debian.packages: exp",
        ),
        ("{debian: {packages: [p1], architecture: amd64, epoch: 1}}", ":1:2: debian.suites: expected a list"),
        ("{debian: {suite: x}}", ":1:11: unknown key 'suite', did you mean 'suites'?"),
    ],
)
def test_mistakes_in_declarations(tmp_path: Path, text: str, words: str) -> None:
    """Each mistake in a declaration is named at its place."""
    with pytest.raises(ConfigurationError) as caught:
        image(tmp_path, text)
    assert caught.value.message.replace(str(tmp_path), "").startswith(f"/image.yml{words}")


def test_settings_are_found_upward_to_the_root_of_the_repository(tmp_path: Path) -> None:
    """The nearest file up to the directory with ``.git`` counts; one above it does not."""
    root = tmp_path / "repo"
    below = root / "a" / "b"
    below.mkdir(parents=True)
    (root / ".git").write_text("gitdir: elsewhere")
    (tmp_path / "dispatch.yml").write_text("image: outside")
    assert find_settings(below, surroundings()).image is None
    assert find_settings(below, surroundings()).workspace == WorkspaceSetting("local", root / "workspace")
    (root / "dispatch.yml").write_text("image: root")
    assert find_settings(below, surroundings()).image == "root"
    (root / "a" / "dispatch.yml").write_text("image: nearer")
    found = find_settings(below, surroundings())
    assert (found.image, found.workspace.dir) == ("nearer", root / "a" / "workspace")


def test_settings_that_are_named_count_alone(tmp_path: Path) -> None:
    """The file that is named is read instead of all others, with its own directory as its base."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "dispatch.yml").write_text("{image: here, source: clone}")
    (tmp_path / "elsewhere" / "mine.yml").write_text("{image: named, shared_dirs: [x]}")
    found = find_settings(tmp_path, surroundings(), Path("elsewhere/mine.yml"))
    assert (found.image, found.source) == ("named", SourceSetting())
    assert found.path == tmp_path / "elsewhere" / "mine.yml"
    assert found.shared_dirs == (tmp_path / "elsewhere" / "x",)
    assert found.workspace == WorkspaceSetting("local", tmp_path / "elsewhere" / "workspace")
    with pytest.raises(ConfigurationError, match=r"nowhere\.yml: cannot be read: No such file"):
        find_settings(tmp_path, surroundings(), tmp_path / "nowhere.yml")


def test_outside_a_repository_only_the_directory_itself_counts(tmp_path: Path) -> None:
    """No file on the way to ``/`` is picked up where no repository marks an end."""
    below = tmp_path / "a"
    below.mkdir()
    (tmp_path / "dispatch.yml").write_text("image: above")
    assert find_settings(below, surroundings()).image is None
    (below / "dispatch.yml").write_text("image: here")
    assert find_settings(below, surroundings()).image == "here"


def test_the_users_own_settings_come_last(tmp_path: Path) -> None:
    """The user's file holds where the project has none, and the workspace stays with the project."""
    own = tmp_path / "home" / ".config" / "dispatch"
    own.mkdir(parents=True)
    (own / "dispatch.yml").write_text("{image: own, shared_dirs: [x]}")
    project = tmp_path / "project"
    project.mkdir()
    found = find_settings(project, surroundings(tmp_path / "home"))
    assert (found.image, found.path, found.shared_dirs) == ("own", own / "dispatch.yml", (own / "x",))
    assert found.workspace == WorkspaceSetting("local", project / "workspace")
    (project / "dispatch.yml").write_text("")
    assert find_settings(project, surroundings(tmp_path / "home")).image is None


@pytest.mark.parametrize("name", ["tango.yml", "tango.yaml", "dispatch.yaml"])
def test_a_file_that_only_looks_like_settings_is_hinted_at(tmp_path: Path, name: str) -> None:
    """A lone lookalike gives one line of notice; beside real settings it gives none."""
    (tmp_path / name).write_text("image: x")
    found = find_settings(tmp_path, surroundings())
    assert found.notices == (f"{tmp_path / name} is not read: settings are in dispatch.yml",)
    assert found.image is None
    (tmp_path / "dispatch.yml").write_text("")
    assert find_settings(tmp_path, surroundings()).notices == ()


def test_the_environment_is_read_once_into_a_value() -> None:
    """Places follow the XDG specification: empty or relative values count as not set."""
    read = read_environment(
        {
            "HOME": "/h",
            "XDG_CACHE_HOME": "/c",
            "XDG_STATE_HOME": "relative",
            "XDG_CONFIG_HOME": "",
            "DOCKER_HOST": "unix:///d.sock",
            "DISPATCH_APT_MIRROR": "",
            "NO_COLOR": "1",
        }
    )
    assert (read.home, read.cache) == (Path("/h"), Path("/c/dispatch"))
    assert (read.state, read.config) == (
        Path("/h/.local/state/dispatch/engine"),
        Path("/h/.config/dispatch"),
    )
    assert (read.apt_mirror, read.colour) == (None, False)


@pytest.mark.parametrize(
    ("variables", "drawn"),
    [
        ({"TERM": "xterm-256color"}, True),
        ({"TERM": "xterm", "CI": "false"}, True),
        ({"TERM": "xterm", "CI": ""}, True),
        ({"TERM": "xterm", "CI": "1"}, False),
        ({"TERM": "dumb"}, False),
        ({}, False),
    ],
)
def test_where_a_terminal_can_be_drawn_on(variables: Mapping[str, str], drawn: bool) -> None:
    """TERM has to name one that moves its cursor, and no CI may be recording it."""
    assert read_environment({"HOME": "/home/me", **variables}).terminal is drawn


@pytest.mark.parametrize(("path", "read"), [("/tmp/s.md", Path("/tmp/s.md")), ("", None), ("s.md", None)])
def test_where_a_job_of_github_is_summarised(path: str, read: Path | None) -> None:
    """An absolute path, as GitHub gives it."""
    assert read_environment({"HOME": "/home/me", "GITHUB_STEP_SUMMARY": path}).step_summary == read


def test_the_environment_is_never_shown() -> None:
    """The variables may hold secrets: they are not in the value's text."""
    assert "hunter2" not in repr(read_environment({"HOME": "/h", "TOKEN": "hunter2"}))


def test_the_environment_is_a_copy_nobody_can_change() -> None:
    """What was read stays as it was."""
    environ = {"HOME": "/h"}
    read = read_environment(environ)
    environ["HOME"] = "/x"
    assert read.environ["HOME"] == "/h"
    with pytest.raises(TypeError):
        read.environ["HOME"] = "/x"  # type: ignore[index]


def test_settings_load_no_validation_library() -> None:
    """Reading settings costs YAML and nothing else: no library that would slow every command down."""
    code = "import sys, dispatch.settings; print(sorted({'pydantic', 'click', 'git'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("text", "gpus"),
    [
        ("executor: docker", None),
        ("executor: {type: docker}", None),
        ("executor: {type: docker, gpus: 4}", ("0", "1", "2", "3")),
        ("executor: {type: docker, gpus: 0}", ()),
        ("executor: {type: docker, gpus: []}", ()),
        ("executor: {type: local, gpus: [2, '3', GPU-8f-a]}", ("2", "3", "GPU-8f-a")),
    ],
)
def test_gpus_of_an_executor(tmp_path: Path, text: str, gpus: tuple[str, ...] | None) -> None:
    """The settings may say how many GPUs the engine's host has, or which of them are to be used."""
    assert settings(tmp_path, text).executor.gpus == gpus


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("A: hunter2", "secret 'A': says not where its value comes from"),
        ("A: {env: X, file: y}", "says not where its value comes from"),
        ("A: {}", "says not where its value comes from"),
        ("A: {vault: x}", "unknown key 'vault'"),
        ("a-b: {env: X}", "'a-b' cannot be the name of a secret"),
        ("A: {env: 3}", "expected text"),
        ("A: {env: a b}", "expected the name of an environment variable"),
        ("A: {file: ''}", "the text is empty"),
        ("A: {command: []}", "expected a program and its arguments"),
        ('A: {command: "pass \'x"}', "No closing quotation"),
        ("[A]", "expected keys with values"),
    ],
)
def test_secrets_that_are_refused(tmp_path: Path, text: str, words: str) -> None:
    """What is no source of a secret is said with its place; what may be the value itself is not shown."""
    error = refused(tmp_path, f"secrets:\n  {text}\n")
    assert error.message.startswith("dispatch.yml:")
    assert words in error.message
    assert "hunter2" not in error.message + error.remedy


def test_secrets_are_shown_by_their_source(tmp_path: Path) -> None:
    """Messages name a variable, a file or a program, and none of its arguments."""
    assert str(FromVariable("X")) == "the environment variable X"
    assert str(FromFile(Path("/a"))) == "the file /a"
    assert str(FromCommand(("pass", "--password=x"), tmp_path)) == "the command 'pass'"


def test_a_clone_with_all_it_takes(tmp_path: Path) -> None:
    """The remote, and whose access: secrets by their names."""
    (tmp_path / "dispatch.yml").write_text(
        "source: {mode: clone, remote: mirror, user: oauth2, token: GIT_TOKEN, ssh_key: KEY}"
    )
    found = find_settings(tmp_path, surroundings()).source
    assert found == SourceSetting(SourceMode.CLONE, "mirror", "oauth2", "GIT_TOKEN", "KEY")
    (tmp_path / "dispatch.yml").write_text("source: clone")
    assert find_settings(tmp_path, surroundings()).source == SourceSetting(SourceMode.CLONE)
