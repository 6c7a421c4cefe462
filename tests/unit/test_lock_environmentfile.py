"""environment.yml as values: what is asked for on which platform, and what is refused by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from dispatch.errors import ConfigurationError
from dispatch.lock.environmentfile import PipLine, has_pip_section, read_environment_file

WHOLE = """\
name: anything
channels:
  - conda-forge
  - nodefaults
  - ./mine/
dependencies:
  - python=3.11            # the interpreter
  - numpy >=1.2,<2   # [linux64]
  - neon             # [aarch64]
  - pywin32          # [win]
  - conda-forge::Foo=1.*=h_*
  - "bar[version='>=2',build=py*]"
  - pip:
      - torch==2.1
      - winonly      # [win]
      - -r more.txt
prefix: /somewhere/else
"""


def write(directory: Path, text: str) -> Path:
    """Write an environment.yml."""
    path = directory / "environment.yml"
    path.write_text(text, "utf-8")
    return path


def test_a_whole_file(tmp_path: Path) -> None:
    """Channels, specifications and the pip section are what conda-lock would read for a platform."""
    path = write(tmp_path, WHOLE)
    file = read_environment_file(path, "linux-64")
    assert file.channels == ("conda-forge", "./mine")
    assert file.specs == (
        "python=3.11",
        "numpy >=1.2,<2",
        "conda-forge::Foo=1.*=h_*",
        "bar[version='>=2',build=py*]",
    )
    assert file.pip == (PipLine(14, "torch==2.1"), PipLine(16, "-r more.txt"))
    assert file.names == {"python", "numpy", "foo", "bar"}
    assert "neon" in read_environment_file(path, "linux-aarch64").names
    assert has_pip_section(path)


def test_what_decides_a_lock(tmp_path: Path) -> None:
    """Order, layout, comments and the pip section are not in the digest; all that decides packages is."""
    virtual = {"__glibc": "2.36"}

    def digest(text: str, platform: str = "linux-64", **more: str) -> str:
        file = read_environment_file(write(tmp_path, text), platform)
        return file.digest(platform, {**virtual, **more})

    first = digest("channels: [a, b]\ndependencies: [x, 'y >=1']\n")
    same = "channels: [a, b]  # c\ndependencies:\n  - y  >=1\n  - x\n  - pip: [z]\nname: other\n"
    assert digest(same) == first
    others = [
        digest("channels: [b, a]\ndependencies: [x, 'y >=1']\n"),
        digest("channels: [a, b]\ndependencies: [x, 'y >=2']\n"),
        digest("channels: [a, b]\ndependencies: [x, 'y >=1']\n", "linux-aarch64"),
        digest("channels: [a, b]\ndependencies: [x, 'y >=1']\n", __cuda="12.4"),
    ]
    assert len({first, *others}) == 5


REFUSED = [
    ("- a\n", "not an environment file"),
    ("dependencies: [a]\n", "it names no channels"),
    ("channels: [nodefaults]\ndependencies: [a]\n", "it names no channels"),
    ("channels: conda-forge\ndependencies: [a]\n", "`channels` is not a list"),
    ("channels: ['a b']\ndependencies: [a]\n", "not a channel: 'a b'"),
    ("channels: [https://u:p@h/c]\ndependencies: [a]\n", "carries credentials"),
    ("channels: [https://h/t/secret/c]\ndependencies: [a]\n", "carries credentials"),
    ("channels: ['https://$TOKEN/c']\ndependencies: [a]\n", "not a channel"),
    ("channels: [c]\n", "it has no `dependencies:`"),
    ("channels: [c]\ndependencies: []\n", "it asks for no conda package"),
    ("channels: [c]\ndependencies:\n  - pip: [a]\n", "it asks for no conda package"),
    ("channels: [c]\ndependencies: [1.5]\n", "not a conda specification"),
    ("channels: [c]\ndependencies: ['a;rm -rf']\n", "not a conda specification: 'a;rm -rf'"),
    ("channels: [c]\ndependencies: ['a `b`']\n", "not a conda specification"),
    ("channels: [c]\ndependencies: [--help]\n", "not a conda specification"),
    ("channels: [c]\ndependencies: ['https://h/a.conda']\n", "not a conda specification"),
    ("channels: [c]\ndependencies: ['d::a']\n", "a is to come from d, which is not among the channels"),
    ("channels: [c]\ndependencies: [a, {conda: [b]}]\n", "not a conda specification"),
    ("channels: [c]\ndependencies: [a, b, A=1]\n", "a is asked for twice"),
    ("channels: [c]\ndependencies: [a, {pip: b}]\n", "`pip` is not a list"),
    ("channels: [c]\ndependencies: [a, {pip: [{b: 1}]}]\n", "not a requirement"),
    ("channels: [c]\ndependences: [a]\n", "unknown key 'dependences', did you mean 'dependencies'?"),
    ("channels: [c]\ndependencies: [a]\nvariables: {A: b}\n", "`variables` means nothing for an image"),
    ("channels: [c]\ndependencies: [a]\npip-repositories: [x]\n", "`pip-repositories` means nothing"),
    ("channels: [c\n", "not YAML"),
]


@pytest.mark.parametrize(("text", "fact"), REFUSED)
def test_what_is_refused(tmp_path: Path, text: str, fact: str) -> None:
    """The message names the file, the fact and a way out; no secret is in it."""
    path = write(tmp_path, text)
    with pytest.raises(ConfigurationError) as caught:
        read_environment_file(path, "linux-64")
    assert fact.rstrip("?") in caught.value.message and str(path) in caught.value.message
    assert caught.value.remedy and "secret" not in str(caught.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    """It is named."""
    with pytest.raises(ConfigurationError, match=r"environment\.yml: cannot be read"):
        read_environment_file(tmp_path / "environment.yml", "linux-64")
