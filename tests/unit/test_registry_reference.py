"""References to images of registries: what they are made of, and what is none."""

from __future__ import annotations

import pytest

from dispatch._registry import Reference, RegistryError, parse_prefix, parse_reference
from dispatch._registry.reference import is_loopback

DIGEST = "sha256:" + "a" * 64


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("python:3.11", ("docker.io", "library/python", "3.11", "")),
        ("python", ("docker.io", "library/python", "", "")),
        ("ada/tool:v1", ("docker.io", "ada/tool", "v1", "")),
        ("ghcr.io/allenai/cuda:12.4", ("ghcr.io", "allenai/cuda", "12.4", "")),
        ("localhost/a/b", ("localhost", "a/b", "", "")),
        ("127.0.0.1:5000/team/dispatch:x--1", ("127.0.0.1:5000", "team/dispatch", "x--1", "")),
        ("host:5000/name", ("host:5000", "name", "", "")),
        (f"host.org/n@{DIGEST}", ("host.org", "n", "", DIGEST)),
        (f"host.org/n:t@{DIGEST}", ("host.org", "n", "t", DIGEST)),
        ("[::1]:5000/n:t", ("[::1]:5000", "n", "t", "")),
        ("host.org/a__b/c.d-e:_t", ("host.org", "a__b/c.d-e", "_t", "")),
    ],
)
def test_a_reference_is_taken_apart_as_docker_does(text: str, parts: tuple[str, ...]) -> None:
    """Host, repository, tag and digest; Docker Hub is what is left out."""
    found = parse_reference(text)
    assert (found.host, found.repository, found.tag, found.digest) == parts
    assert parse_reference(str(found)) == found


@pytest.mark.parametrize(
    "text",
    [
        "",
        "UPPER",
        "host.org/",
        "host.org/Upper:t",
        "host.org/n:",
        "host.org/n: t",
        "host.org/n@sha256:abc",
        f"host.org/n@md5:{'a' * 32}",
        "host.org//n",
        "host.org/n/",
        "host.org/../etc:t",
        "host.org/n:a/b",
        "http://host.org/n",
        "host.org/n?x=1",
        "host.org/n#a",
        "host.org/n\r\nX: y",
        "-host.org/n",
        "user@host.org/n",
        "host.org/n:" + "t" * 129,
    ],
)
def test_what_is_no_reference_is_refused(text: str) -> None:
    """Nothing gets into an address of a registry that could mean another place there."""
    with pytest.raises(RegistryError, match="not a reference"):
        parse_reference(text)


def test_a_reference_points_at_its_digest_first() -> None:
    """A digest decides over a tag, and ``latest`` is what nobody says."""
    named = Reference("h.org", "n", "t")
    assert named.pointer == "t"
    assert named.at(DIGEST) == Reference("h.org", "n", "", DIGEST)
    assert Reference("h.org", "n", "t", DIGEST).pointer == DIGEST
    assert Reference("h.org", "n").pointer == "latest"
    assert named.at(DIGEST).tagged("u") == Reference("h.org", "n", "u")


@pytest.mark.parametrize(
    ("text", "host", "path"),
    [
        ("registry.example.org/team", "registry.example.org", "team"),
        ("registry.example.org/team/", "registry.example.org", "team"),
        ("localhost:5000", "localhost:5000", ""),
        ("ghcr.io/a/b", "ghcr.io", "a/b"),
    ],
)
def test_where_images_are_kept_is_a_host_and_a_path(text: str, host: str, path: str) -> None:
    """The path may be missing."""
    assert parse_prefix(text) == Reference(host, path)


@pytest.mark.parametrize("text", ["", "team", "https://h.org", "h.org/T", "h.org/a:b", "h.org/a@b"])
def test_where_images_are_kept_is_a_registry(text: str) -> None:
    """A word alone may be a path of Docker Hub as well as a host: it is refused, as is a whole URL."""
    with pytest.raises(RegistryError, match="not the address of a registry"):
        parse_prefix(text)


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("localhost", True),
        ("localhost:5000", True),
        ("127.0.0.1", True),
        ("127.9.8.7:1", True),
        ("[::1]:5000", True),
        ("localhost.example.org", False),
        ("127.0.0.1.example.org", False),
        ("128.0.0.1", False),
        ("[::2]:5000", False),
        ("example.org", False),
    ],
)
def test_only_this_machine_is_the_loopback(host: str, loopback: bool) -> None:
    """What is plain HTTP elsewhere has to be declared."""
    assert is_loopback(host) is loopback
