"""``dispatch lock`` from outside: what it writes, and ``--check``, which asks nobody and writes nothing."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from dispatch.testing.index import serving
from dispatch.testing.project import Done, Project
from dispatch.testing.wheelhouse import make_wheel

CONFIG = """
images:
  a: {pip: a.in}
  b: {pip: pyproject.toml, extras: [x], target: {cuda: "12.4"}}
steps:
  one: {type: shell, step_image: a, command: "true"}
"""
PROJECT = """
[project]
name = "own"
dependencies = ["low"]
optional-dependencies = {x = ["other"]}
"""


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project whose packages are in a directory, with its locks; neither an index nor an engine answers."""
    place = tmp_path_factory.mktemp("template")
    wheels = place / "wheels"
    wheels.mkdir()
    for name, version in (("low", "1.0"), ("low", "2.0"), ("other", "1.0")):
        make_wheel(wheels, name, version)
    unset = {name: "" for name in os.environ if name.startswith(("PIP_", "UV_", "DOCKER_"))}
    env = {
        **unset,
        "DOCKER_HOST": "unix:///nonexistent/docker.sock",
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": str(wheels),
        "UV_CACHE_DIR": str(place / "uv"),
        "XDG_CACHE_HOME": str(place / "cache"),
    }
    root = place / "project"
    root.mkdir()
    made = Project(root, env).write({"x.yml": CONFIG, "a.in": "low<2\n", "pyproject.toml": PROJECT})
    made.dispatch("lock", "x.yml").well()
    return made


@pytest.fixture
def locked(template: Project, tmp_path: Path) -> Project:
    """The same, to be changed."""
    shutil.copytree(template.root, tmp_path / "project")
    return Project(tmp_path / "project", template.env)


def check(project: Project, *words: str) -> Done:
    """Check the locks where no package can be had; nothing is written."""
    before = project.files()
    done = project.dispatch("lock", "--check", "x.yml", *words, env={"PIP_FIND_LINKS": "", "UV_OFFLINE": "1"})
    assert project.files() == before
    return done


def test_locks_that_fit(locked: Project) -> None:
    """Locks that fit are named, those of bases too, and the exit code is 0."""
    done = check(locked).well()
    rows = dict(line.split("\t") for line in done.out.splitlines())
    assert {Path(path).name for path in rows} == {"image.lock", "a.lock", "b.lock"}
    assert set(rows.values()) == {"fits"}
    assert done.err == ""
    assert all(row["fits"] and not row["problem"] for row in check(locked, "--json").json()["locks"])


@pytest.mark.parametrize(
    ("files", "image", "fact"),
    [
        ({"a.in": "low<2\nother\n"}, "a", "a.in asks for other, which it does not hold"),
        ({"a.in": "low\n"}, "a", "a.in (or a file it includes) changed"),
        ({"pyproject.toml": PROJECT.replace("other", "low")}, "b", "pyproject.toml (or a file it includes)"),
        ({"x.yml": CONFIG.replace("12.4", "12.6")}, "b", "CUDA was 12.4, now it is 12.6"),
        ({"x.yml": CONFIG.replace("extras: [x]", "extras: []")}, "b", "changed"),
        ({"x.yml": CONFIG.replace("{pip: a.in}", '{pip: a.in, target: {glibc: "2.28"}}')}, "a", "glibc was"),
        ({"a.lock": "# nothing\n"}, "a", "the header has 0 lines `# format: …`"),
    ],
)
def test_stale_locks(locked: Project, files: dict[str, str], image: str, fact: str) -> None:
    """Each stale lock is named with the reason and the command that renews it; the others are not; exit 2."""
    locked.write(files)
    done = check(locked, "--json")
    assert done.code == 2
    stale = [row for row in done.json()["locks"] if not row["fits"]]
    assert [row["image"] for row in stale] == [image]
    assert fact in stale[0]["problem"]
    assert "`dispatch lock x.yml`" in stale[0]["remedy"]


def test_all_that_is_stale_is_told_at_once(locked: Project) -> None:
    """Two stale locks are two lines: one is not hidden by the other."""
    (locked.root / "a.lock").unlink()
    locked.write({"pyproject.toml": PROJECT.replace('"low"', '"low>1"')})
    done = check(locked)
    assert done.code == 2
    assert sorted(line.split("\t")[1] for line in done.out.splitlines()) == ["fits", "stale", "stale"]
    assert "image 'a' has no lock" in done.err
    assert "image 'b': the lock" in done.err


def test_a_vanished_file(locked: Project) -> None:
    """A requirements file that is gone is an error of the configuration that names it."""
    (locked.root / "a.in").unlink()
    done = check(locked)
    assert done.code == 2
    assert "a.in does not exist" in done.err


def test_check_takes_no_upgrade(locked: Project) -> None:
    """What writes nothing cannot upgrade."""
    done = check(locked, "--upgrade")
    assert done.code == 2
    assert "--check writes nothing" in done.err


def test_upgrade_of_one_package(locked: Project) -> None:
    """One package is taken newer in every lock that holds it; a name that none holds is refused."""
    locked.write({"a.in": "low\n"})
    locked.dispatch("lock", "x.yml").well()
    assert "low==1.0" in (locked.root / "a.lock").read_text()
    refused = locked.dispatch("lock", "--upgrade-package", "lov", "x.yml")
    assert refused.code == 2
    assert "no lock holds the package 'lov', did you mean 'low'?" in refused.err
    done = locked.dispatch("lock", "--upgrade-package", "Low", "x.yml").well()
    assert "a.lock: written, 1 packages: low 1.0 → 2.0" in done.err
    assert "b.lock: unchanged" in done.err


def test_a_lock_has_no_command_no_date_and_no_place(template: Project, tmp_path: Path) -> None:
    """Two machines with another index, path, user, locale, time zone and umask write the same lock."""
    elsewhere = tmp_path / "elsewhere" / "deeper"
    elsewhere.mkdir(parents=True)
    with serving(tmp_path / "index", "someone:pa55word") as index:
        for file in sorted(Path(template.env["PIP_FIND_LINKS"]).iterdir()):
            index.add(file.name.partition("-")[0], file)
        env = {
            **template.env,
            "PIP_FIND_LINKS": "",
            "PIP_NO_INDEX": "",
            "PIP_INDEX_URL": index.address,
            "UV_CACHE_DIR": str(tmp_path / "other-uv"),
            "LANG": "de_DE.UTF-8",
            "LC_ALL": "C",
            "TZ": "Asia/Tokyo",
            "HOME": str(tmp_path / "home"),
            "USER": "somebody",
        }
        other = Project(elsewhere, env).write({"x.yml": CONFIG, "a.in": "low<2\n", "pyproject.toml": PROJECT})
        other.call("sh", "-c", "umask 077 && dispatch lock ./x.yml").well()
    for name in ("a.lock", "b.lock"):
        text = (template.root / name).read_bytes()
        assert (elsewhere / name).read_bytes() == text
        assert (elsewhere / name).stat().st_mode == (template.root / name).stat().st_mode
        for secret in (b"pa55word", b"127.0.0.1", str(tmp_path).encode(), b"dispatch lock x.yml"):
            assert secret not in text
