"""What a declaration of an image may say, and which chain of images it comes to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dispatch.config.catalogue import Catalogue, collect
from dispatch.environment import (
    BuildSecret,
    CondaImage,
    CopiedFile,
    DebianImage,
    DockerfileImage,
    DockerImage,
    Environment,
    Extras,
    PipImage,
    Resolver,
    TargetProfile,
)
from dispatch.errors import ConfigurationError
from dispatch.settings.document import read_document
from dispatch.settings.images import read_image
from dispatch.settings.matrix import read_images
from dispatch.settings.section import Section

BASE = "debian: {suites: [s], packages: [p1], architecture: amd64, epoch: 1}"
PIP_SECTION = "{channels: [c], dependencies: [python=3.11, pip, {pip: [flask]}]}"
PLAIN = "{channels: [c], dependencies: [python=3.11]}"


def image(tmp_path: Path, text: str, name: str = "it") -> Environment:
    path = tmp_path / "image.yml"
    path.write_text(text)
    return read_image(Section.of(read_document(path)), name)


def chain(tmp_path: Path, text: str, base: str = BASE, environment: str = PLAIN) -> dict[str, Environment]:
    """All environments that the image ``it`` comes to, upon ``base``."""
    for name in ("a.in", "Dockerfile", "pyproject.toml", "v.txt"):
        (tmp_path / name).touch()
    (tmp_path / "environment.yml").write_text(environment)
    path = tmp_path / "experiment.yml"
    path.write_text(f"it: {text}\ndebian-python: {{{base}}}\n")
    entries = read_images(Section.of(read_document(path)))
    return collect(Catalogue([entries], []), [("it", "a test")])


FULL = Extras(
    apt=("git",),
    run=("true",),
    copy=(CopiedFile(Path("/x/v.txt"), "/opt/v.txt"),),
    env=(("A", "b"),),
    user="1000:1000",
    platform="linux/arm64",
    target=TargetProfile("2.28", "12.4"),
)
FULL_TEXT = """
apt: [git]
run: ["true"]
copy: [{source: /x/v.txt, target: /opt//v.txt}]
env: {A: b}
user: 1000:1000
platform: linux/arm64
target: {glibc: "2.28", cuda: "12.4"}
"""


def test_a_pip_image_says_all_that_it_can(tmp_path: Path) -> None:
    """Every key of a pip image has its place, and the lock of a project has the image's name."""
    text = f"""
pip: p/pyproject.toml
extras: [gpu]
groups: [dev]
resolver: pip-tools
sdists: [odd]
python: "3.11"
bytecode: false
base: ubuntu:22.04
{FULL_TEXT}"""
    assert image(tmp_path, text).declaration == PipImage(
        requirements=tmp_path / "p" / "pyproject.toml",
        lock=tmp_path / "p" / "it.lock",
        base="ubuntu:22.04",
        python="3.11",
        bytecode=False,
        extras=("gpu",),
        groups=("dev",),
        resolver=Resolver.PIP_TOOLS,
        sdists=("odd",),
        more=FULL,
    )


def test_a_conda_image_says_all_that_it_can(tmp_path: Path) -> None:
    """Every key of a conda image has its place, and its lock has the platform's name as conda gives it."""
    assert image(tmp_path, f"conda: e/environment.yml{FULL_TEXT}").declaration == CondaImage(
        file=tmp_path / "e" / "environment.yml",
        lock=tmp_path / "e" / "environment.linux-aarch64.lock",
        base="debian-python",
        more=FULL,
    )
    plain = image(tmp_path, "{conda: environment.yml, lock: x.lock}").declaration
    assert plain == CondaImage(tmp_path / "environment.yml", tmp_path / "x.lock", "debian-python")


def test_a_dockerfile_says_all_that_it_can(tmp_path: Path) -> None:
    """Every key of a user's own Dockerfile has its place; its directory is the context unless it is named."""
    text = """
dockerfile: docker/Dockerfile
context: .
base: tools
args: {B: 1, A: x}
stage: final
secrets: {token: {file: t.txt}, other: {env: OTHER}}
ssh: true
platforms: [linux/amd64, linux/arm64]
env: {A: b}
"""
    assert image(tmp_path, text).declaration == DockerfileImage(
        file=tmp_path / "docker" / "Dockerfile",
        context=tmp_path,
        base="tools",
        args=(("A", "x"), ("B", "1")),
        stage="final",
        secrets=(BuildSecret("other", variable="OTHER"), BuildSecret("token", file=tmp_path / "t.txt")),
        ssh=True,
        platforms=("linux/amd64", "linux/arm64"),
        more=Extras(env=(("A", "b"),)),
    )
    plain = image(tmp_path, "dockerfile: docker/Dockerfile").declaration
    assert plain == DockerfileImage(tmp_path / "docker" / "Dockerfile", tmp_path / "docker")


def test_a_docker_image_with_more_stands_upon_that_image(tmp_path: Path) -> None:
    """What is added to an image that exists is rendered steps upon it; alone it is that image itself."""
    assert image(tmp_path, "docker: ubuntu").declaration == DockerImage("ubuntu")
    made = DockerfileImage(None, None, "ubuntu:latest", more=Extras(apt=("git",)))
    assert image(tmp_path, "{docker: ubuntu, apt: [git]}").declaration == made


def kinds(environments: dict[str, Environment]) -> list[tuple[str, str, str]]:
    """Each environment as its name, its kind and its base."""
    return [
        (name, each.declaration.kind.value, getattr(each.declaration, "base", ""))
        for name, each in environments.items()
    ]


DEBIAN = ("debian-python", "debian", "")


@pytest.mark.parametrize(
    ("text", "environment", "expected"),
    [
        ("{pip: a.in}", PLAIN, [DEBIAN, ("it", "pip", "debian-python")]),
        (
            "{pip: a.in, apt: [git]}",
            PLAIN,
            [DEBIAN, ("it+apt", "debian", ""), ("it", "pip", "it+apt")],
        ),
        (
            "{pip: a.in, apt: [git], base: 'u:1'}",
            PLAIN,
            [("u:1", "docker", ""), ("it+apt", "dockerfile", "u:1"), ("it", "pip", "it+apt")],
        ),
        (
            "{pip: a.in, run: [x]}",
            PLAIN,
            [DEBIAN, ("it+packages", "pip", "debian-python"), ("it", "dockerfile", "it+packages")],
        ),
        ("{conda: environment.yml}", PLAIN, [DEBIAN, ("it", "conda", "debian-python")]),
        (
            "{conda: environment.yml}",
            PIP_SECTION,
            [DEBIAN, ("it+conda", "conda", "debian-python"), ("it", "pip", "it+conda")],
        ),
        (
            "{conda: environment.yml, apt: [git], run: [x]}",
            PIP_SECTION,
            [
                DEBIAN,
                ("it+apt", "debian", ""),
                ("it+conda", "conda", "it+apt"),
                ("it+packages", "pip", "it+conda"),
                ("it", "dockerfile", "it+packages"),
            ],
        ),
        ("{dockerfile: Dockerfile}", PLAIN, [("it", "dockerfile", "")]),
        (
            "{dockerfile: Dockerfile, base: debian-python}",
            PLAIN,
            [DEBIAN, ("it", "dockerfile", "debian-python")],
        ),
        (
            "{docker: 'u:1', apt: [git], run: [x]}",
            PLAIN,
            [("u:1", "docker", ""), ("it", "dockerfile", "u:1")],
        ),
    ],
)
def test_what_a_declaration_comes_to(tmp_path: Path, text: str, environment: str, expected: Any) -> None:
    """Packages of the distribution lie below, the pip section upon conda, commands above all."""
    assert kinds(chain(tmp_path, text, environment=environment)) == expected


def test_what_each_image_of_a_chain_is_given(tmp_path: Path) -> None:
    """Files are the packages' image's, the user is the last one's, each lock has its own name."""
    text = (
        "{conda: environment.yml, python: '3.11', bytecode: false, user: app, env: {A: b}, apt: [p2, p1],"
        " run: [x], copy: [{source: v.txt, target: /v.txt}], target: {cuda: '12.4'}, resolver: pip-tools}"
    )
    found = {name: each.declaration for name, each in chain(tmp_path, text, environment=PIP_SECTION).items()}
    target, env = TargetProfile(cuda="12.4"), (("A", "b"),)
    file = tmp_path / "environment.yml"
    assert found["it+apt"] == DebianImage(("s",), ("p1", "p2"), "amd64", 1, tmp_path / "it.apt.lock")
    assert found["it+conda"] == CondaImage(
        file=file,
        lock=tmp_path / "environment.linux-64.lock",
        base="it+apt",
        python="3.11",
        bytecode=False,
        resolver=Resolver.PIP_TOOLS,
        more=Extras(env=env, target=target),
    )
    assert found["it+packages"] == PipImage(
        requirements=file,
        lock=tmp_path / "environment.linux-64.pip.lock",
        base="it+conda",
        bytecode=False,
        resolver=Resolver.PIP_TOOLS,
        more=Extras(copy=(CopiedFile(tmp_path / "v.txt", "/v.txt"),), env=env, target=target),
    )
    last = Extras(run=("x",), env=env, user="app")
    assert found["it"] == DockerfileImage(None, None, "it+packages", more=last)


def test_a_conda_lock_has_the_platform_of_a_locked_base(tmp_path: Path) -> None:
    """Where no platform is declared it is that of the base, as far as the base's declaration says it."""
    found = chain(tmp_path, "{conda: environment.yml}", base=BASE.replace("amd64", "arm64"))
    declaration = found["it"].declaration
    assert isinstance(declaration, CondaImage)
    assert declaration.lock == tmp_path / "environment.linux-aarch64.lock"


def test_images_that_differ_in_what_lies_below_share_the_lock_of_their_packages(tmp_path: Path) -> None:
    """More packages of the distribution make no other pip lock; another base may."""
    (tmp_path / "a.in").touch()
    path = tmp_path / "experiment.yml"
    common = f"debian-python: {{{BASE}}}\none: {{pip: a.in, apt: [git]}}\n"

    def found(text: str) -> dict[str, Environment]:
        path.write_text(common + text)
        entries = read_images(Section.of(read_document(path)))
        return collect(Catalogue([entries], []), [("one", "a test"), ("two", "a test")])

    assert list(found("two: {pip: a.in}")) == ["debian-python", "one+apt", "one", "two"]
    with pytest.raises(ConfigurationError, match="differ but have one lock"):
        found("two: {pip: a.in, base: 'u:1'}")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{conda: }", ":1:2: conda: expected an environment.yml, got nothing"),
        ("{dockerfile: D, apt: [git]}", ":1:17: unknown key of a 'dockerfile' image 'apt'"),
        ("{pip: a.in, extras: [x]}", ":1:13: extras: a.in has none"),
        ("{pip: a.in, groups: [x]}", ":1:13: groups: a.in has none"),
        ("{conda: e.yml, extras: [x]}", ":1:16: unknown key of a 'conda' image 'extras'"),
        ("{pip: a.in, resolver: poetry}", ":1:13: resolver: unknown 'poetry'"),
        ("{pip: a.in, platform: windows/amd64}", ":1:13: platform: expected a platform such as linux/amd64"),
        ("{pip: a.in, target: {cuda: 12.4}}", ":1:22: target.cuda: expected a version in quotes"),
        ("{pip: a.in, target: {cuda: '12'}}", ":1:22: target.cuda: expected a minor version such as"),
        ("{pip: a.in, target: {gpu: x}}", ":1:22: unknown key 'gpu'"),
        ("{pip: a.in, apt: ['-y']}", ":1:13: apt: expected the name of a package"),
        ("{pip: a.in, apt: git}", ":1:13: apt: expected a list of texts"),
        ("{pip: a.in, run: make}", ":1:13: run: expected a list of texts"),
        ("{pip: a.in, user: 'a b'}", ":1:13: user: expected a user such as"),
        ("{pip: a.in, copy: [{source: x}]}", ":1:20: copy.0.target: expected an absolute path"),
        ("{pip: a.in, copy: [{source: x, target: y}]}", ":1:32: copy.0.target: expected an absolute path"),
        ("{pip: a.in, copy: [{source: x, target: /a/../b}]}", ":1:32: copy.0.target: expected an absolute"),
        ("{pip: a.in, copy: [{source: x, target: /opt/venv/y}]}", ":1:32: target: '/opt/venv/y' lies in a"),
        (
            "{pip: a.in, copy: [{source: x, target: /a}, {source: y, target: //a}]}",
            ":1:57: target: '/a' is copied to twice",
        ),
        ("{dockerfile: D, secrets: {t: the-value}}", ":1:27: secret 't': says not where its value comes"),
        ("{dockerfile: D, secrets: {t: {file: a, env: B}}}", ":1:27: secret 't': says not where"),
        ("{dockerfile: D, stage: '-x'}", ":1:17: stage: expected the name of a stage"),
        ("{dockerfile: D, platform: linux/amd64, platforms: [linux/arm64]}", ":1:40: platforms: it has a"),
        ("{dockerfile: D, base: b, args: {BASE: x}}", ":1:26: args: BASE is what `base:` gives"),
        ("{dockerfile: D, args: {'A B': x}}", ":1:24: 'A B' is no name of an environment variable"),
    ],
)
def test_mistakes_in_declarations(tmp_path: Path, text: str, words: str) -> None:
    """Each mistake is named at its place, and the value of a secret never."""
    with pytest.raises(ConfigurationError) as caught:
        image(tmp_path, text)
    assert caught.value.message.replace(str(tmp_path), "").startswith(f"/image.yml{words}")
    assert "the-value" not in caught.value.message


@pytest.mark.parametrize(
    ("below", "above"),
    [
        ("{pip: a.in, lock: b.lock}", "{pip: a.in, base: tools}"),
        ("{pip: a.in, lock: b.lock, run: [x]}", "{pip: a.in, base: tools}"),
        ("{pip: a.in, lock: b.lock}", "{conda: environment.yml, base: tools}"),
        ("{conda: environment.yml, lock: b.lock}", "{conda: environment.yml, base: tools}"),
        ("{dockerfile: Dockerfile, base: under}", "{pip: a.in, base: tools}"),
    ],
)
def test_packages_that_would_hide_others(tmp_path: Path, below: str, above: str) -> None:
    """Two environments in one place are refused whatever stands between them, and named as declared."""
    more = f"tools: {below}\nunder: {{pip: a.in, lock: c.lock}}"
    with pytest.raises(ConfigurationError, match=r"image 'it' stands on '(tools|under)', which has"):
        chain(tmp_path, above, f"{BASE}}}\n{more}\nlast: {{docker: 'x:1'")


def test_pip_packages_may_stand_on_conda(tmp_path: Path) -> None:
    """Their places differ: what is installed above sees what lies below."""
    found = chain(tmp_path, "{pip: a.in, base: tools}", f"{BASE}}}\ntools: {{conda: environment.yml")
    assert list(found) == ["debian-python", "tools", "it"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{conda: e.yml}", "the file .*/e.yml does not exist"),
        ("{dockerfile: D}", "the file .*/D does not exist"),
        ("{dockerfile: Dockerfile, context: a.in}", "/a.in is no directory"),
        ("{pip: a.in, copy: [{source: gone, target: /x}]}", "/gone, which is to be copied, does not exist"),
    ],
)
def test_files_that_are_not_there(tmp_path: Path, text: str, words: str) -> None:
    """What a declaration is made from is looked for where it is used, before anything is done."""
    with pytest.raises(ConfigurationError, match=rf"experiment\.yml: image 'it': .*{words}"):
        chain(tmp_path, text)
