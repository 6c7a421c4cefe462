"""Images from Dockerfiles on a real engine: BuildKit, the classic builder and the docker command."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from dispatch._docker import Door, ImageRecord
from dispatch._docker.helper import OneShot
from dispatch.app.dockerfiles import dockerfile_maker
from dispatch.environment import BuildSecret, DockerfileImage, Environment, Extras
from dispatch.errors import DispatchError, ImageError
from dispatch.image.context import context_of
from dispatch.image.dockerfile import BUILDKIT_VARIABLE
from dispatch.image.plan import Generated
from dispatch.image.recipes import dockerfile_spec
from dispatch.image.spec import DIGEST_LABEL
from dispatch.testing.dockerd import own_engine
from dispatch.testing.processes import until
from dispatch.testing.reporting import RecordingReporter

pytestmark = pytest.mark.engine

BUILDERS = {"buildkit": {}, "classic": {BUILDKIT_VARIABLE: "0"}}
HOSTILE = 'it\'s "$HOME" `id` \\ #\n${PATH} é'
KILLED = """\
from pathlib import Path
from dispatch._docker import Address, Door
from dispatch.app.dockerfiles import dockerfile_maker
from dispatch.environment import DockerfileImage, Environment
from dispatch.image.plan import Generated
from dispatch.image.recipes import dockerfile_spec
from dispatch.reporting import Lines
place = Path({place!r})
declaration = DockerfileImage(place / "Dockerfile", place)
environment = Environment("thing", declaration, place)
generated = Generated(environment, None, dockerfile_spec(declaration, "", "linux/amd64"))
dockerfile_maker(Door(Address({address!r})), {{}})(generated, None, Lines(lambda _: None), lambda: False)
"""
SECRET = "correct-horse-battery-staple"
APT = """\
FROM dispatch-test-busybox:1
RUN printf '#!/bin/sh\\necho "apt-get $*" >> /apt.log\\n' > /bin/apt-get && chmod 755 /bin/apt-get
USER nobody
"""


@dataclass
class Bench:
    """Builds on an engine, keeps what was reported, and removes what was built at the end."""

    door: Door
    base: ImageRecord
    environ: dict[str, str] = field(default_factory=lambda: dict(os.environ))
    report: RecordingReporter = field(default_factory=RecordingReporter)
    built: list[str] = field(default_factory=list)
    cancelled: Callable[[], bool] = lambda: False

    def build(self, declaration: DockerfileImage, base: ImageRecord | None = None) -> ImageRecord:
        """Build a declaration named ``thing``."""
        generated = self.generated(declaration, base)
        maker = dockerfile_maker(self.door, self.environ)
        record = maker(generated, base, self.report, self.cancelled)
        self.built.append(record.id)
        return record

    def generated(self, declaration: DockerfileImage, base: ImageRecord | None = None) -> Generated:
        """Return what a planner makes of a declaration."""
        identity = f"image:{base.id}" if base else ""
        environment = Environment("thing", declaration, Path("/project/dispatch.yml"))
        return Generated(environment, None, dockerfile_spec(declaration, identity, "linux/amd64"))

    def run(self, record: ImageRecord, *command: str) -> str:
        """Return what a command prints in an image."""
        finished = self.door.run_once(OneShot(record.id, command, timeout=60))
        assert finished.exit_code == 0, finished.stderr
        return finished.stdout.decode()


@pytest.fixture
def bench(door: Door, busybox_image: ImageRecord) -> Iterator[Bench]:
    """A bench on the user's engine."""
    bench = Bench(door, busybox_image)
    yield bench
    for image in reversed(bench.built):
        door.remove_image(image)


@pytest.fixture
def project(tmp_path: Path) -> Callable[..., DockerfileImage]:
    """Writes a Dockerfile and the files of its context, and declares it."""

    def write(text: str, files: Mapping[str, str] | None = None, **more: object) -> DockerfileImage:
        for name, content in {"Dockerfile": text, **(files or {})}.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
        return replace(DockerfileImage(tmp_path / "Dockerfile", tmp_path), **more)  # type: ignore[arg-type]

    return write


Project = Callable[..., DockerfileImage]


@pytest.mark.parametrize("builder", BUILDERS)
def test_packages_commands_and_settings_upon_a_base(bench: Bench, project: Project, builder: str) -> None:
    """apt gets its packages as words, commands run as root, and the base's user comes back."""
    bench.environ |= BUILDERS[builder]
    base = bench.build(project(APT))
    more = Extras(
        apt=("git", "libc6-dev"),
        run=(f"printf %s {json.dumps('a  b')} > /one; id -u >> /one\ntrue", 'printf %s "$MINE" > /two'),
        env=(("MINE", HOSTILE),),
    )
    record = bench.build(DockerfileImage(None, None, "base", more=more), base)
    assert bench.run(record, "cat", "/one") == "a  b0\n"
    assert bench.run(record, "cat", "/two") == HOSTILE
    assert bench.run(record, "sh", "-c", 'printf %s "$MINE"; id -u') == f"{HOSTILE}65534\n"
    log = bench.run(record, "cat", "/apt.log").splitlines()
    assert log == [
        "apt-get update -q",
        "apt-get install -qy --no-install-recommends -- git libc6-dev",
    ]
    assert not record.config.get("Entrypoint")
    assert record.tags == ()


def test_a_users_dockerfile_with_all_that_a_declaration_says(bench: Bench, project: Project) -> None:
    """Context, arguments, base, stage, variables and user arrive; what is ignored does not."""
    text = """\
ARG BASE=scratch
FROM ${BASE} AS first
ARG GREETING
RUN echo "$GREETING" > /greeting
COPY . /src
ENTRYPOINT ["/bin/cat"]
FROM first AS second
RUN exit 9
"""
    files = {".dockerignore": "data\n!data/kept\n", "data/kept": "", "data/left": "", "a/b": "", "run.sh": ""}
    declaration = project(
        text,
        files,
        args=(("GREETING", HOSTILE),),
        stage="first",
        more=Extras(env=(("MINE", HOSTILE),), user="65534"),
    )
    assert declaration.context is not None
    (declaration.context / "run.sh").chmod(0o700)
    (declaration.context / "link").symlink_to("nowhere")
    record = bench.build(declaration, bench.base)
    assert bench.run(record, "cat", "/greeting") == f"{HOSTILE}\n"
    assert bench.run(record, "sh", "-c", 'printf %s "$MINE"') == HOSTILE
    found = bench.run(record, "sh", "-c", "cd /src && find . ! -type d | sort").split()
    assert found == ["./.dockerignore", "./Dockerfile", "./a/b", "./data/kept", "./link", "./run.sh"]
    assert bench.run(record, "stat", "-c", "%a %u %Y", "/src/run.sh") == "755 0 315532800\n"
    assert record.config["User"] == "65534"
    assert record.config["Entrypoint"] == ["/bin/cat"]
    generated = bench.generated(declaration, bench.base)
    assert record.labels == generated.spec.image_labels(bench.base.id)


@pytest.mark.parametrize("builder", BUILDERS)
def test_steps_output_and_cache_hits_are_told(bench: Bench, project: Project, builder: str) -> None:
    """Each step is told by its line, then what it prints, without colours; the second time it is cached."""
    bench.environ |= BUILDERS[builder]
    mark = os.urandom(4).hex()
    text = f"RUN printf '\\033[31mred\\033[0m\\none\\rtwo\\n'; echo é >&2; : {mark}"
    declaration = project(f"FROM dispatch-test-busybox:1\n{text}\n")
    bench.build(declaration)
    said = bench.report.lines
    step = next(place for place, line in enumerate(said) if line.endswith(f"] {text}"))
    assert sorted(said[step + 1 : step + 4]) == [f"thing:   {word}" for word in ("red", "two", "é")]
    said.clear()
    bench.build(declaration)
    assert [line for line in said if mark in line or "(cached)" in line][-1].endswith("(cached)")
    assert not any("red" in line for line in said if mark not in line)


@pytest.mark.parametrize("builder", BUILDERS)
def test_a_failed_command_is_shown_with_its_last_lines(bench: Bench, project: Project, builder: str) -> None:
    """The error names image, command and code, and ends with what the command said."""
    bench.environ |= BUILDERS[builder]
    text = "FROM dispatch-test-busybox:1\nRUN seq 100; echo no such luck; exit 7\n"
    with pytest.raises(ImageError) as caught:
        bench.build(project(text))
    first, *lines = caught.value.message.splitlines()
    assert first == (
        "image 'thing': a step of the build failed: `RUN seq 100; echo no such luck; exit 7`"
        " ended with exit code 7"
    )
    assert len(lines) == 20
    assert lines[-1] == "  | no such luck"
    assert "Dockerfile" in caught.value.remedy


BAD = {
    "syntax": ("FROM dispatch-test-busybox:1\nFOO bar\n", "Dockerfile: line 2: unknown instruction: FOO"),
    "empty": ("", "cannot be empty"),
    "no file": ("FROM dispatch-test-busybox:1\nCOPY nothing /x\n", "'nothing', which the Dockerfile copies"),
    "no base": ("FROM dispatch-test-nosuch:1\n", "an image that the Dockerfile names is not in the engine"),
    "no command": ("FROM dispatch-test-busybox:1\nRUN nosuch\n", "`RUN nosuch` ended with exit code 127"),
}


@pytest.mark.parametrize("builder", BUILDERS)
@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_built_is_said_in_plain_words(
    bench: Bench, project: Project, builder: str, case: str
) -> None:
    """Both builders' complaints come out as one sentence with a remedy."""
    bench.environ |= BUILDERS[builder]
    text, expected = BAD[case]
    with pytest.raises(DispatchError) as caught:
        bench.build(project(text))
    assert expected in caught.value.message
    assert caught.value.remedy
    assert "frontend" not in caught.value.message


def test_a_stage_that_is_not_there(bench: Bench, project: Project) -> None:
    """The error names it."""
    with pytest.raises(ImageError, match="has no stage 'nosuch'"):
        bench.build(project("FROM dispatch-test-busybox:1\n", stage="nosuch"))


def test_the_classic_builder_says_what_it_cannot_do(bench: Bench, project: Project) -> None:
    """A mount is BuildKit's, which builds the same file."""
    text = "FROM dispatch-test-busybox:1\nRUN --mount=type=cache,target=/cache touch /cache/x\n"
    bench.build(project(text))
    bench.environ |= BUILDERS["classic"]
    with pytest.raises(ImageError, match="`--mount` in the Dockerfile needs BuildKit") as caught:
        bench.build(project(text))
    assert "DOCKER_BUILDKIT" in caught.value.remedy


@pytest.mark.parametrize("builder", BUILDERS)
def test_an_interrupted_build_ends_at_once(bench: Bench, project: Project, builder: str) -> None:
    """What runs in the engine is stopped as soon as the build is no longer wanted."""
    bench.environ |= BUILDERS[builder]
    mark = f"10{os.getpid()}.{len(builder)}"
    bench.cancelled = lambda: any(line.endswith("  begun") for line in bench.report.lines)
    with pytest.raises(ImageError, match="interrupted"):
        bench.build(project(f"FROM dispatch-test-busybox:1\nRUN echo begun; sleep {mark}\n"))
    until(lambda: not running(f"sleep {mark}"), "the interrupted step ends")


def test_a_killed_build_leaves_nothing(bench: Bench, project: Project, tmp_path: Path) -> None:
    """After kill -9 the step ends, no image has the digest, and the next build is right."""
    mark = f"11{os.getpid()}"
    text = f"FROM dispatch-test-busybox:1\nRUN echo begun; test -e /bin/sh && sleep {mark}\n"
    declaration = project(text)
    generated = bench.generated(declaration)
    program = KILLED.format(place=str(tmp_path), address=bench.door.address.url)
    child = subprocess.Popen([sys.executable, "-c", program], start_new_session=True)
    try:
        until(lambda: running(f"sleep {mark}"), "the step begins")
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()
    until(lambda: not running(f"sleep {mark}"), "the killed build's step ends")
    assert bench.door.find_image(DIGEST_LABEL, generated.spec.digest) is None
    assert bench.build(project(text.replace(f"sleep {mark}", "true"))).id


def test_a_secret_is_in_nothing_but_its_step(bench: Bench, project: Project, tmp_path: Path) -> None:
    """A variable and a file reach their step; image, history and log have neither."""
    text = """\
FROM dispatch-test-busybox:1
RUN --mount=type=secret,id=var --mount=type=secret,id=file \
    cat /run/secrets/var /run/secrets/file; cat /run/secrets/* | wc -c > /count; echo done %s
"""
    (tmp_path / "token").write_text(SECRET[::-1])
    (tmp_path / ".dockerignore").write_text("token\n")
    bench.environ["MINE"] = SECRET
    declaration = project(
        text % os.urandom(4).hex(),
        secrets=(BuildSecret("var", variable="MINE"), BuildSecret("file", file=tmp_path / "token")),
    )
    record = bench.build(declaration)
    assert bench.run(record, "cat", "/count").strip() == str(2 * len(SECRET))
    said = "\n".join(bench.report.lines)
    assert "***" in said
    history = subprocess.run(
        ["docker", "history", "--no-trunc", record.id], check=True, capture_output=True, text=True
    ).stdout
    saved = subprocess.run(["docker", "save", record.id], check=True, capture_output=True).stdout
    for value in (SECRET, SECRET[::-1]):
        assert value not in said
        assert value not in history
        assert value.encode() not in saved


def test_a_secret_that_is_not_declared_or_not_there(bench: Bench, project: Project) -> None:
    """Both are said before or by the build, with the key to write."""
    text = "FROM dispatch-test-busybox:1\nRUN --mount=type=secret,id=x true\n"
    with pytest.raises(ImageError, match="asks for a secret or for ssh, and none is declared"):
        bench.build(project(text))
    bench.environ.pop("NOSUCH", None)
    with pytest.raises(DispatchError, match="come from NOSUCH, which is not set"):
        bench.build(project(text, secrets=(BuildSecret("x", variable="NOSUCH"),)))


def test_a_failure_by_the_command_is_told_as_any(bench: Bench, project: Project) -> None:
    """The docker command's text comes to the same error as the engine's messages."""
    bench.environ["MINE"] = SECRET
    text = "FROM dispatch-test-busybox:1\nRUN echo no such luck; exit 7\n"
    with pytest.raises(ImageError) as caught:
        bench.build(project(text, secrets=(BuildSecret("x", variable="MINE"),)))
    assert caught.value.message.splitlines() == [
        "image 'thing': a step of the build failed: `RUN echo no such luck; exit 7` ended with exit code 7",
        "  | no such luck",
    ]


def test_an_interrupted_command_ends_its_build(bench: Bench, project: Project) -> None:
    """The docker command is asked to end, and ends what it has begun."""
    bench.environ["MINE"] = SECRET
    mark = f"12{os.getpid()}"
    bench.cancelled = lambda: any(line.endswith("  begun") for line in bench.report.lines)
    text = f"FROM dispatch-test-busybox:1\nRUN echo begun; sleep {mark}\n"
    with pytest.raises(ImageError, match="interrupted"):
        bench.build(project(text, secrets=(BuildSecret("x", variable="MINE"),)))
    until(lambda: not running(f"sleep {mark}"), "the interrupted step ends")


@pytest.mark.parametrize("builder", BUILDERS)
def test_proxies_reach_steps_and_stay_out_of_the_image(
    bench: Bench, project: Project, tmp_path: Path, builder: str
) -> None:
    """Steps see the proxies of the docker command's configuration; image and history do not."""
    config = tmp_path / "docker"
    config.mkdir()
    address = f"http://user:{SECRET}@proxy:3128"
    (config / "config.json").write_text(json.dumps({"proxies": {"default": {"httpProxy": address}}}))
    bench.environ |= {"DOCKER_CONFIG": str(config), **BUILDERS[builder]}
    text = 'FROM dispatch-test-busybox:1\nRUN printf %s "$http_proxy" | wc -c > /size\n'
    record = bench.build(project(text, {".dockerignore": "docker\n"}))
    assert bench.run(record, "cat", "/size").strip() == str(len(address))
    words = ["docker", "history", "--no-trunc", record.id]
    history = subprocess.run(words, check=True, capture_output=True, text=True).stdout
    assert SECRET not in history + json.dumps(dict(record.config))


IGNORED = """\
# comment
*.pyc
/top
**/cache
docs/*.md
!docs/README.md
sub/**
!sub/deep/kept
a?c
[x-z]file
odd\\*name
"""
NAMES = [
    *("m.pyc", "deep/m.pyc", "top", "in/top", "cache/a", "in/cache/b", "docs/a.md", "docs/README.md"),
    *("docs/in/a.md", "sub/a", "sub/deep/kept", "sub/deep/left", "abc", "adc/inside", "xfile", "wfile"),
    *("odd*name", "oddxname", "plain"),
]


def test_ignored_files_are_those_of_docker(bench: Bench, project: Project, tmp_path: Path) -> None:
    """The context is what the docker command sends of the same directory."""
    text = "FROM dispatch-test-busybox:1\nCOPY . /src\n"
    declaration = project(text, {".dockerignore": IGNORED, **{name: name for name in NAMES}})
    ours = {each.entry.path for each in context_of(declaration).entries if each.sha256}
    result = tmp_path.with_suffix(".id")
    subprocess.run(
        ["/usr/bin/docker", "build", "--quiet", "--iidfile", result, tmp_path],
        env={**os.environ, "DOCKER_BUILDKIT": "1"},
        check=True,
        capture_output=True,
    )
    record = bench.door.inspect_image(result.read_text())
    assert record is not None
    bench.built.append(record.id)
    theirs = set(bench.run(record, "sh", "-c", "cd /src && find . -type f | cut -c3-").split())
    # The command sends neither of these two where BuildKit does not need them.
    assert ours == theirs


def test_a_context_is_checked_while_it_goes_out(bench: Bench, project: Project) -> None:
    """A file that changes under the build breaks it off, and no image comes of it."""
    declaration = project("FROM dispatch-test-busybox:1\nCOPY . /src\n", {"data": "x" * 100_000})
    assert declaration.context is not None
    data = declaration.context / "data"
    bench.cancelled = lambda: data.write_text("y" * 100_000) == 0
    with pytest.raises(ImageError, match="data: it was changed while it was sent"):
        bench.build(declaration)
    assert bench.door.find_image(DIGEST_LABEL, bench.generated(declaration).spec.digest) is None


def running(command: str) -> bool:
    """Tell whether a process runs with this command line, in whichever container."""
    wanted = re.escape(command.replace(" ", "\0").encode()) + b"\0"
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if re.search(wanted, path.read_bytes()):
                return True
        except OSError:
            continue
    return False


def test_an_image_made_on_ours_is_not_taken_for_it(bench: Bench, project: Project) -> None:
    """Who builds on an image inherits its labels: the one that has the name is found."""
    declaration = project("FROM dispatch-test-busybox:1\nLABEL mark=mine\n")
    ours = bench.build(declaration)
    spec = bench.generated(declaration).spec
    repository, _, tag = spec.reference("thing").partition(":")
    bench.door.tag(ours.id, repository, tag)
    made = []
    for number in range(4):
        name = f"dispatch-test-made:{number}"
        text = f"FROM {spec.reference('thing')}\nENV N={number}\n"
        words = ["/usr/bin/docker", "build", "--quiet", "--tag", name, "-"]
        environ = {**os.environ, "DOCKER_BUILDKIT": "1"}
        subprocess.run(words, input=text, text=True, env=environ, check=True, capture_output=True)
        made.append(name)
    found = bench.door.find_image(DIGEST_LABEL, spec.digest)
    for name in [*made, spec.reference("thing")]:
        bench.door.remove_image(name)
    assert found is not None
    assert found.id == ours.id


def test_a_full_disk_leaves_nothing_behind(
    tmp_path: Path, load_busybox: Callable[[Door], ImageRecord], project: Project
) -> None:
    """Where the engine's disk is full in the middle, that is said, and no image and no name is left."""
    declaration = project("FROM dispatch-test-busybox:1\nCOPY data /one\nCOPY data /two\n")
    (tmp_path / "data").write_bytes(os.urandom(24 << 20))
    with small_disk() as place, own_engine(place) as engine:
        base = load_busybox(engine.door)
        for builder in BUILDERS.values():
            bench = Bench(engine.door, base, {**os.environ, **builder})
            with pytest.raises(DispatchError, match="no room left on its disk"):
                bench.build(declaration, base)
            digest = bench.generated(declaration, base).spec.digest
            assert engine.door.find_image(DIGEST_LABEL, digest) is None
            assert inspected_tags(engine.door, base) == base.tags


def inspected_tags(door: Door, image: ImageRecord) -> tuple[str, ...]:
    """Return the names that an image has now."""
    record = door.inspect_image(image.id)
    assert record is not None
    return record.tags


@contextmanager
def small_disk() -> Iterator[Path]:
    """A directory with room for little."""
    with tempfile.TemporaryDirectory(prefix="dispatch-disk-") as folder:
        words = ["mount", "-t", "tmpfs", "-o", "size=64m", "none", folder]
        subprocess.run(words, check=True)
        try:
            yield Path(folder)
        finally:
            subprocess.run(["umount", "--lazy", folder], check=True)
