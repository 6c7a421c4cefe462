"""Images of registries fixed to digests: by asking a registry, never by hand."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from dispatch import assets
from dispatch.app.pinning import Pinning
from dispatch.config import load
from dispatch.config.pinned import read_pin_file, render_pins
from dispatch.environment import DockerImage
from dispatch.errors import ConfigurationError
from dispatch.reporting import Lines
from dispatch.settings import Settings, WorkspaceSetting
from dispatch.testing.project import Project

FIRST, SECOND = "sha256:" + "1" * 64, "sha256:" + "2" * 64


class Registry(http.server.ThreadingHTTPServer):
    """A registry of this machine that knows the digests of some tags, and nothing else."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answers)
        self.digests: dict[str, str] = {}

    @property
    def host(self) -> str:
        """Its address."""
        return f"127.0.0.1:{self.server_port}"


class _Answers(http.server.BaseHTTPRequestHandler):
    server: Registry

    def do_HEAD(self) -> None:
        """Tell the digest of a manifest."""
        _, _, repository, _, tag = self.path.split("/", 4)
        digest = self.server.digests.get(f"{repository}:{tag}")
        self.send_response(200 if digest else 404)
        self.send_header("Content-Length", "0")
        if digest:
            self.send_header("Docker-Content-Digest", digest)
        self.end_headers()

    def do_GET(self) -> None:
        """Be a registry."""
        self.send_response(200 if self.path == "/v2/" else 404)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def registry() -> Iterator[Registry]:
    """A registry that answers while the test runs."""
    with Registry() as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def project(tmp_path: Path, registry: Registry) -> Project:
    """A repository with an image of a registry, one upon another, and one that is fixed already."""
    root = tmp_path / "project"
    root.mkdir()
    env = {"DOCKER_HOST": "unix:///nonexistent/docker.sock", "XDG_CACHE_HOME": str(tmp_path / "cache")}
    config = f"""
    images:
      tools: {{docker: "{registry.host}/tools:1"}}
      upon: {{pip: a.in, base: "{registry.host}/python:3.11"}}
      fixed: {{docker: "{registry.host}/fixed@{FIRST}"}}
    steps:
      one: {{type: shell, step_image: tools, command: "true"}}
    """
    registry.digests.update({"tools:1": FIRST, "python:3.11": SECOND})
    return Project(root, env).write({"x.yml": config, "a.in": "low\n"}).commit()


def test_fetched_and_used(project: Project, registry: Registry) -> None:
    """What a registry says is written down, kept until an upgrade, and what the image means from then on."""
    file = project.root / "images" / "pins.toml"
    done = project.dispatch("lock", "--pins", "x.yml").well()
    assert done.out == f"{file}\n"
    assert read_pin_file(file) == {f"{registry.host}/tools:1": FIRST, f"{registry.host}/python:3.11": SECOND}
    registry.digests["tools:1"] = SECOND
    assert "pins.toml: unchanged" in project.dispatch("lock", "--pins", "x.yml").well().err
    assert read_pin_file(file)[f"{registry.host}/tools:1"] == FIRST
    settings = Settings(WorkspaceSetting("local", project.root / "workspace"))
    found = load(project.root / "x.yml", settings, assets.images(), unused=True).environments
    declared = {name: each.declaration for name, each in found.items()}
    assert declared["tools"] == DockerImage(f"{registry.host}/tools:1@{FIRST}")
    assert declared[f"{registry.host}/python:3.11"] == DockerImage(f"{registry.host}/python:3.11@{SECOND}")
    assert declared["fixed"] == DockerImage(f"{registry.host}/fixed@{FIRST}")
    project.dispatch("lock", "--pins", "--upgrade", "x.yml").well()
    assert read_pin_file(file)[f"{registry.host}/tools:1"] == SECOND


def test_nothing_is_invented(project: Project, registry: Registry) -> None:
    """A tag that the registry does not know, or a registry that does not answer, leaves no file behind."""
    del registry.digests["python:3.11"]
    done = project.dispatch("lock", "--pins", "x.yml")
    assert done.code == 2
    assert f"{registry.host}/python:3.11: its registry has no such image" in done.err
    assert not (project.root / "images").exists()


def test_only_in_a_repository(tmp_path: Path) -> None:
    """Pins belong to a repository's images."""
    config = 'steps: {a: {type: shell, step_image: {docker: "a:1"}, command: "true"}}'
    done = Project(tmp_path).write({"x.yml": config}).dispatch("lock", "--pins", "x.yml")
    assert done.code == 2
    assert "images/pins.toml of a repository" in done.err


@pytest.mark.parametrize("words", [("--pins", "--check"), ("--pins", "--upgrade-package", "a")])
def test_options_that_exclude_each_other(project: Project, words: tuple[str, ...]) -> None:
    """What means nothing together is refused."""
    done = project.dispatch("lock", *words, "x.yml")
    assert done.code == 2
    assert "leave" in done.err


@pytest.mark.parametrize(
    ("text", "fact"),
    [
        ('[images]\n"a:1" = "latest"\n', "'a:1': this is no pin"),
        (f'[images]\n"a b" = "{FIRST}"\n', "'a b': this is no pin"),
        (f'[images]\n"a@{FIRST}" = "{FIRST}"\n', "this is no pin"),
        ("[image]\n", "did you mean 'images'"),
        ("[images", "not TOML"),
    ],
)
def test_files_that_mean_nothing(tmp_path: Path, text: str, fact: str) -> None:
    """A file that was changed by hand into something else is refused with its place."""
    path = tmp_path / "pins.toml"
    path.write_text(text)
    with pytest.raises(ConfigurationError) as caught:
        read_pin_file(path)
    assert fact in caught.value.message
    assert str(path) in caught.value.message


def test_a_file_is_sorted_and_stable(tmp_path: Path) -> None:
    """The same pins are the same text, and read back as they were."""
    pins = {"b:1": FIRST, "a:1": SECOND}
    path = tmp_path / "images" / "pins.toml"
    first = Pinning(path, pins.get, Lines(lambda _: None)).renew(["b:1", "a:1", "a:1"], upgrade=False)
    assert (first.changed, first.summary) == (True, "2 pins")
    assert path.read_text() == render_pins(dict(reversed(pins.items())))
    assert read_pin_file(path) == pins


def test_what_ships_has_only_what_was_fetched() -> None:
    """The pins that ship with the package are those of a command: its text is what the command writes."""
    path = assets.images() / "pins.toml"
    assert path.read_text() == render_pins(read_pin_file(path))
