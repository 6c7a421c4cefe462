"""An index that only the environment names, with a password: used for everything, and found nowhere after."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from dispatch.testing.index import Index, serving, wheel
from dispatch.testing.project import Project

pytestmark = [pytest.mark.engine, pytest.mark.archive]

PASSWORD = "pa55-of-the-private-index"
PACKAGE = "dispatch-test-private"
FILE = "dispatch_test_private-1.0-py3-none-any.whl"
CONFIG = """
image: e
images: {e: {pip: requirements.in, base: debian-python}}
steps:
  a: {type: shell, command: "python -m dispatch_test_private; env; exit 0", step_network: none}
"""


@pytest.fixture
def private(tmp_path: Path) -> Iterator[Index]:
    """An index that wants a password."""
    with serving(tmp_path / "index", f"someone:{PASSWORD}") as index:
        index.serve(PACKAGE, FILE, wheel(PACKAGE, "print('from the private index')\n"))
        yield index


@pytest.fixture
def project(
    make: Callable[[Mapping[str, str]], Project], private: Index, tmp_path: Path, base: str
) -> Project:
    """A project whose environment alone knows the index; its caches are the test's own."""
    assert base
    made = make({"x.yml": CONFIG, "requirements.in": f"{PACKAGE}\n"})
    unset = {name: "" for name in os.environ if name.startswith(("PIP_", "UV_"))}
    places = {"UV_CACHE_DIR": str(tmp_path / "uv"), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    settings = {"PIP_INDEX_URL": private.address, "PIP_CONFIG_FILE": os.devnull}
    return Project(made.root, {**unset, **places, **settings})


def test_index_of_the_environment_leaves_no_trace(project: Project, private: Index, tmp_path: Path) -> None:
    """Neither its host nor its password is in a lock, image, label, log, record or file of the cache."""
    done = [project.dispatch("lock", "x.yml").well()]
    project.commit()
    done += [project.dispatch(*words).well() for words in (("build", "x.yml"), ("run", "x.yml"))]
    reference = done[1].out.split()[1]
    try:
        assert "from the private index" in project.dispatch("logs", "latest", "a").well().out
        saved = subprocess.run(["docker", "save", reference], check=True, stdout=subprocess.PIPE).stdout
        inspected = subprocess.run(
            ["docker", "image", "inspect", reference], check=True, stdout=subprocess.PIPE
        ).stdout
    finally:
        subprocess.run(["docker", "image", "rm", "--force", reference], check=True, capture_output=True)
    kept = {
        "image": saved,
        "labels": inspected,
        "printed": "".join(each.out + each.err for each in done).encode(),
        **project.files(),
        **Project(tmp_path / "cache").files(),
    }
    host = urlsplit(private.address).netloc.rpartition("@")[2]
    for secret in (PASSWORD, host):
        assert [name for name, content in kept.items() if secret.encode() in content] == []


def test_index_that_refuses_us_is_not_named(project: Project) -> None:
    """An error about the index names neither its host nor the password that it did not take."""
    wrong = project.env["PIP_INDEX_URL"].replace(PASSWORD, "wr0ng-password")
    done = project.dispatch("lock", "x.yml", env={"PIP_INDEX_URL": wrong})
    assert done.code in (2, 3)
    assert len(done.errors()) == 1
    assert "wr0ng-password" not in done.err
    assert urlsplit(wrong).netloc.rpartition("@")[2] not in done.err
