"""Why a build failed, in plain words: the sentences of engines old and new, and of the docker command."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from dispatch._docker import Address
from dispatch._docker.buildcli import Command, PlainLog, Tool, find_tool
from dispatch._docker.buildfailure import explain
from dispatch._docker.building import BuildRequest
from dispatch._docker.buildlog import BuildLog
from dispatch.environment import BuildSecret, DockerfileImage
from dispatch.errors import ConfigurationError
from dispatch.runtime.mask import Masker
from dispatch.testing.reporting import RecordingReporter

FRONTEND = "failed to solve with frontend dockerfile.v0: failed to create LLB definition: "
SENTENCES = {
    'failed to solve: process "/bin/sh -c make" did not complete successfully: exit code: 2': (
        "a step of the build failed: `RUN make` ended with exit code 2"
    ),
    "executor failed running [/bin/sh -c make]: exit code: 137": (
        "a step of the build failed: `RUN make` ended with exit code 137 (killed, perhaps for want of memory)"
    ),
    "The command '/bin/sh -c make' returned a non-zero code: 2": (
        "a step of the build failed: `RUN make` ended with exit code 2"
    ),
    f"{FRONTEND}dockerfile parse error line 2: unknown instruction: FOO": (
        "/Dockerfile: line 2: unknown instruction: FOO"
    ),
    "failed to solve: dockerfile parse error on line 2: unknown instruction: FOO": (
        "/Dockerfile: line 2: unknown instruction: FOO"
    ),
    f"{FRONTEND}target stage zz could not be found": "/Dockerfile has no stage 'zz'",
    "failed to reach build target zz in Dockerfile": "/Dockerfile has no stage 'zz'",
    'failed to solve: target stage "zz" could not be found': "/Dockerfile has no stage 'zz'",
    'failed to compute cache key: "/nothing" not found: not found': (
        "'nothing', which the Dockerfile copies, is not in the context"
    ),
    'failed to solve: failed to calculate checksum of ref a::b: "/nothing": not found': (
        "'nothing', which the Dockerfile copies, is not in the context"
    ),
    "failed to copy: write /var/lib/docker/x: no space left on device": (
        "the engine has no room left on its disk"
    ),
    "the --mount option requires BuildKit. Refer to …": (
        "`--mount` in the Dockerfile needs BuildKit; the engine's classic builder has none"
    ),
    "no active sessions": "the Dockerfile asks for a secret or for ssh, and none is declared",
    "docker exporter does not currently support exporting manifest lists": (
        "this engine holds an image for one platform only"
    ),
    "something else": "the build failed: something else (at `[2/2] RUN make`)",
}


@pytest.mark.parametrize("sentence", SENTENCES)
def test_an_engines_sentence_in_ours(sentence: str) -> None:
    """Each comes to one fact, without the way it took, and with a remedy."""
    error = explain("image 'x'", sentence, "[2/2] RUN make", [], "/Dockerfile")
    assert error.message == f"image 'x': {SENTENCES[sentence]}"
    assert error.remedy


BUILDX = """\
#0 building with "default" instance using docker driver

#1 [internal] load build definition from Dockerfile
#1 transferring dockerfile: 109B done
#1 DONE 0.0s

#2 [internal] load metadata for docker.io/library/debian:12
#2 DONE 0.4s

#3 [1/3] FROM docker.io/library/debian:12
#3 CACHED

#4 [2/3] RUN echo hello
#4 0.233 hello sesame
#4 0.240\x20
#4 DONE 0.3s

#5 [3/3] RUN exit 7
#5 0.201 no such luck
#5 ERROR: process "/bin/sh -c exit 7" did not complete successfully: exit code: 7
------
 > [3/3] RUN exit 7:
0.201 no such luck
------
ERROR: failed to solve: process "/bin/sh -c exit 7" did not complete successfully: exit code: 7
"""


@pytest.mark.parametrize("piece", [1, 7, 4096])
def test_what_the_command_prints_is_a_build_log(piece: int) -> None:
    """Steps, output without its times, and the failure are read, in whatever pieces they come."""
    report = RecordingReporter()
    log = BuildLog("x", report)
    plain = PlainLog(log, Masker(["sesame"]))
    data = BUILDX.encode()
    for start in range(0, len(data), piece):
        plain.feed(data[start : start + piece])
    plain.end()
    assert report.lines == [
        "x: [1/3] FROM docker.io/library/debian:12 (cached)",
        "x: [2/3] RUN echo hello",
        "x:   hello ***",
        "x: [3/3] RUN exit 7",
        "x:   no such luck",
    ]
    assert log.failure("/Dockerfile").message == (
        "image 'x': a step of the build failed: `RUN exit 7` ended with exit code 7\n  | no such luck"
    )


def commands(folder: Path, *names: str) -> dict[str, str]:
    """Make docker commands in folders of a PATH."""
    for name in names:
        program = folder / name / "docker"
        program.parent.mkdir()
        program.write_text("#!/bin/sh\n")
        program.chmod(0o755)
    return {"PATH": ":".join(str(folder / name) for name in names)}


def test_the_command_with_buildx_goes_before_any_other(tmp_path: Path) -> None:
    """Of several on PATH the one with the plugin is taken, else an old one that needs none, else none."""
    environ = commands(tmp_path, "bare", "old", "new")
    able = {"new": "buildx", "old": "build"}

    def succeeds(words: Sequence[str], environ: Mapping[str, str]) -> bool:
        assert environ["PATH"]
        return able.get(Path(words[0]).parent.name) == words[1]

    assert find_tool(environ, succeeds).words == (str(tmp_path / "new" / "docker"), "buildx", "build")
    del able["new"]
    assert find_tool(environ, succeeds).words == (str(tmp_path / "old" / "docker"), "build")
    del able["old"]
    with pytest.raises(ConfigurationError, match="need a docker command with buildx"):
        find_tool(environ, succeeds)


RECORDER = """\
#!/bin/sh
printf '%s\\n' "$@" > "$RECORD/words"
env > "$RECORD/env"
cat > "$RECORD/stdin"
while [ "$1" != --iidfile ]; do shift; done
echo sha256:abc > "$2"
"""


def recorded(tmp_path: Path, declaration: DockerfileImage, buildx: bool, **variables: str) -> list[str]:
    """Build by a docker command that notes how it was called; return its words."""
    program = tmp_path / "docker"
    program.write_text(RECORDER)
    program.chmod(0o755)
    environ = {"PATH": "/usr/bin:/bin", "RECORD": str(tmp_path), "DOCKER_CONTEXT": "other", **variables}
    words = (str(program), "buildx", "build") if buildx else (str(program), "build")
    command = Command(Tool(words, buildx), Address("unix:///engine.sock"), environ)
    request = BuildRequest(
        "x", "/Dockerfile", 3, lambda: [b"a", b"bc"], "Dockerfile", {"A": "1 $x"}, {"l": "v"}, "final"
    )
    assert command.build(request, declaration, RecordingReporter(), lambda: False) == "sha256:abc"
    return (tmp_path / "words").read_text().splitlines()


def test_how_the_command_is_called(tmp_path: Path) -> None:
    """Context by standard input, secrets by name, several platforms by buildx; the engine is ours."""
    declaration = DockerfileImage(
        None,
        None,
        secrets=(BuildSecret("one", variable="TOKEN"), BuildSecret("two", file=tmp_path / "key")),
        ssh=True,
        platforms=("linux/amd64", "linux/arm64"),
    )
    (tmp_path / "key").write_text("value of the key")
    found = recorded(tmp_path, declaration, True, TOKEN="value of the token", SSH_AUTH_SOCK="/agent")
    text = " ".join(found)
    assert text.startswith("buildx build --progress=plain --iidfile ")
    assert text.endswith(
        " --file Dockerfile --load --provenance=false --build-arg A=1 $x --label l=v --target final"
        " --platform linux/amd64,linux/arm64"
        f" --secret id=one,env=TOKEN --secret id=two,src={tmp_path}/key --ssh default -"
    )
    assert "value of" not in text
    assert (tmp_path / "stdin").read_bytes() == b"abc"
    env = (tmp_path / "env").read_text().splitlines()
    assert {"DOCKER_BUILDKIT=1", "DOCKER_HOST=unix:///engine.sock", "TOKEN=value of the token"} <= set(env)
    assert not any(line.startswith("DOCKER_CONTEXT=") for line in env)


REFUSED = {
    "no agent": (DockerfileImage(None, None, ssh=True), "SSH_AUTH_SOCK is not set"),
    "platforms": (DockerfileImage(None, None, platforms=("linux/amd64", "linux/arm64")), "without buildx"),
    "no variable": (
        DockerfileImage(None, None, secrets=(BuildSecret("a", variable="NOSUCH"),)),
        "come from NOSUCH, which is not set",
    ),
    "no file": (
        DockerfileImage(None, None, secrets=(BuildSecret("a", file=Path("/nosuch")),)),
        "/nosuch, cannot be read",
    ),
    "no id": (
        DockerfileImage(None, None, secrets=(BuildSecret("a,env=HOME", variable="PATH"),)),
        "cannot be the id of a secret",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_the_command_would_get_wrong_is_refused_before(tmp_path: Path, case: str) -> None:
    """It is never called with a secret that is not there, nor with one that says more than it should."""
    declaration, expected = REFUSED[case]
    with pytest.raises(ConfigurationError, match=expected) as caught:
        recorded(tmp_path, declaration, False)
    assert caught.value.remedy
    assert not (tmp_path / "words").exists()


def test_commands_that_we_gave_to_a_shell_are_shown_as_written() -> None:
    """A rendered step is told by the command of the declaration; another exec form stays as it is."""
    report = RecordingReporter()
    log = BuildLog("x", report)
    log.step("1", '[2/3] RUN ["/bin/sh", "-ec", "echo \\"a b\\"\\nfalse"]')
    log.step("2", '[3/3] RUN ["/bin/true", "-ec", "x"]')
    assert report.lines == ['x: [2/3] RUN echo "a b" false', 'x: [3/3] RUN ["/bin/true", "-ec", "x"]']
