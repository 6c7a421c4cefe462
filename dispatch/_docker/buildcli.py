"""Builds by the docker command, for what needs a session with BuildKit: secrets, ssh, several platforms.

Owns the command's arguments and the reading of what it prints (``--progress=plain``). A secret goes by the
name of its file or variable, so that its value is in no argument; it is taken out of what the steps print.
The context goes in by standard input, the same bytes as to the engine itself.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dispatch._docker.address import VARIABLE, Address
from dispatch._docker.building import BuildRequest
from dispatch._docker.buildlog import BuildLog
from dispatch.environment import BuildSecret, DockerfileImage
from dispatch.errors import ConfigurationError, ImageError
from dispatch.reporting import Reporter
from dispatch.runtime.mask import Masker

_PROGRAM = "docker"
_AGENT = "SSH_AUTH_SOCK"
_GRACE = 10.0
_PIECE = 1 << 16
_NUMBERED = re.compile(r"#(?P<step>\d+) (?P<text>.*)")
_NAME = re.compile(r"\[[^]]+\] .*|exporting .*|copy /context .*")
_OUTPUT = re.compile(r"\d+\.\d+ (?P<line>.*)")
_SECRET = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")

Cancelled = Callable[[], bool]
Run = Callable[[Sequence[str], Mapping[str, str]], bool]


@dataclass(frozen=True)
class Tool:
    """A docker command that speaks with BuildKit; ``words`` begin its command line."""

    words: tuple[str, ...]
    buildx: bool


def find_tool(environ: Mapping[str, str], succeeds: Run | None = None) -> Tool:
    """Return the first docker command on PATH that has buildx, else the first that can build with BuildKit.

    :raises ConfigurationError: where there is none
    """
    succeeds = succeeds or _succeeds
    programs = [
        path
        for folder in environ.get("PATH", os.defpath).split(os.pathsep)
        if (path := shutil.which(_PROGRAM, path=folder))
    ]
    for path in programs:
        if succeeds([path, "buildx", "version"], environ):
            return Tool((path, "buildx", "build"), buildx=True)
    for path in programs:
        # Newer commands have no BuildKit of their own without the plugin.
        if succeeds([path, "build", "--secret", "id=none,src=/dev/null", "--help"], environ):
            return Tool((path, "build"), buildx=False)
    raise ConfigurationError(
        "secrets, ssh and several platforms need a docker command with buildx, and there is none on PATH",
        "install docker-buildx-plugin (or docker.io of Debian), or do without them",
    )


@dataclass(frozen=True)
class Command:
    """The docker command, for the engine at ``address``."""

    tool: Tool
    address: Address
    environ: Mapping[str, str]

    def build(
        self, request: BuildRequest, declaration: DockerfileImage, report: Reporter, cancelled: Cancelled
    ) -> str:
        """Build and return the image's ID; see ``building.build``."""
        if len(declaration.platforms) > 1 and not self.tool.buildx:
            raise ConfigurationError(
                f"image {request.name!r}: a docker command without buildx builds for one platform, not for"
                f" {', '.join(declaration.platforms)}",
                "install docker-buildx-plugin, or name one under `platforms:`",
            )
        for secret in declaration.secrets:
            _refuse_secret(f"image {request.name!r}", secret, self.environ)
        if declaration.ssh and not self.environ.get(_AGENT):
            raise ConfigurationError(
                f"image {request.name!r}: `ssh: true` needs an ssh agent, and {_AGENT} is not set",
                "start one (`eval $(ssh-agent)`, `ssh-add`)",
            )
        log = BuildLog(request.name, report)
        with tempfile.TemporaryDirectory(prefix="dispatch-build-") as folder:
            result = Path(folder) / "id"
            arguments = [*self.tool.words, *_arguments(request, declaration, result, buildx=self.tool.buildx)]
            masker = Masker(_values(declaration.secrets, self.environ))
            code = self._run(arguments, request.chunks(), PlainLog(log, masker), cancelled)
            if code == 0:
                return result.read_text("ascii").strip()
        if not log.error:
            log.error = f"the docker command ended with exit code {code}"
        raise log.failure(request.declared)

    def _run(self, arguments: list[str], chunks: Iterable[bytes], log: PlainLog, cancelled: Cancelled) -> int:
        environ = {**self.environ, "DOCKER_BUILDKIT": "1"}
        if self.address.tls is None:
            # Else the variables and files that the address came from say more than it does.
            environ[VARIABLE] = self.address.url
            environ.pop("DOCKER_CONTEXT", None)
        try:
            process = subprocess.Popen(
                arguments,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                env=environ,
                # An interrupt of the terminal is ours to pass on.
                start_new_session=True,
            )
        except OSError as error:
            raise ImageError(
                f"{arguments[0]}: {error.strerror}", "install the docker command anew"
            ) from error
        assert process.stdin is not None and process.stderr is not None
        reader = threading.Thread(target=_read, args=(process, log), daemon=True)
        reader.start()
        try:
            with contextlib.suppress(BrokenPipeError), process.stdin as sink:
                for chunk in chunks:
                    if cancelled():
                        raise ImageError("interrupted")
                    sink.write(chunk)
            while True:
                try:
                    code = process.wait(0.2)
                    break
                except subprocess.TimeoutExpired:
                    if cancelled():
                        raise ImageError("interrupted") from None
        except BaseException:
            _end(process)
            raise
        reader.join(_GRACE)
        return code


class PlainLog:
    """Reads what ``--progress=plain`` prints into a log, without what ``masker`` takes out of it."""

    def __init__(self, log: BuildLog, masker: Masker) -> None:
        self._log = log
        self._masker = masker
        self._partial = b""
        self._names: dict[str, str] = {}
        self._told: set[str] = set()

    def feed(self, data: bytes) -> None:
        """Take what has come."""
        self._take(self._masker.feed(data))

    def end(self) -> None:
        """Nothing more will come."""
        self._take(self._masker.end() + b"\n")

    def _take(self, data: bytes) -> None:
        *lines, self._partial = (self._partial + data).split(b"\n")
        for line in lines:
            self.line(line.decode("utf-8", "replace"))

    def line(self, line: str) -> None:
        """Take one line."""
        found = _NUMBERED.fullmatch(line)
        if found is None:
            # The last word comes without a number.
            if line.startswith(("ERROR: ", "error: ", "failed to ", "executor failed")):
                self._log.error = line.partition(": ")[2] if line[:5].lower() == "error" else line
            return
        step, text = found["step"], found["text"]
        if step not in self._names and _NAME.fullmatch(text):
            self._names[step] = text
            return
        self._tell(step, cached=text == "CACHED")
        if text.startswith("ERROR: "):
            self._log.failed(step)
            self._log.error = self._log.error or text.removeprefix("ERROR: ")
        elif output := _OUTPUT.fullmatch(text):
            self._log.output(step, output["line"] + "\n")

    def _tell(self, step: str, *, cached: bool) -> None:
        if step in self._names and step not in self._told:
            self._told.add(step)
            self._log.step(step, self._names[step], cached)


def _arguments(
    request: BuildRequest, declaration: DockerfileImage, result: Path, *, buildx: bool
) -> list[str]:
    arguments = ["--progress=plain", "--iidfile", str(result), "--file", request.dockerfile]
    arguments += ["--load", "--provenance=false"] if buildx else []
    for name, value in request.args.items():
        arguments += ["--build-arg", f"{name}={value}"]
    for name, value in request.labels.items():
        arguments += ["--label", f"{name}={value}"]
    arguments += ["--target", request.stage] if request.stage else []
    platforms = ",".join(declaration.platforms) or request.platform
    arguments += ["--platform", platforms] if platforms else []
    arguments += [] if request.network else ["--network", "none"]
    arguments += ["--no-cache"] if request.no_cache else []
    for secret in declaration.secrets:
        source = f"src={secret.file}" if secret.file else f"env={secret.variable}"
        arguments += ["--secret", f"id={secret.id},{source}"]
    arguments += ["--ssh", "default"] if declaration.ssh else []
    return [*arguments, "-"]


def _refuse_secret(what: str, secret: BuildSecret, environ: Mapping[str, str]) -> None:
    """The command would go on without a variable that is not set, and take a comma for its own."""
    if not _SECRET.fullmatch(secret.id):
        raise ConfigurationError(f"{what}: {secret.id!r} cannot be the id of a secret", "rename it")
    if secret.variable is not None and secret.variable not in environ:
        raise ConfigurationError(
            f"{what}: the secret {secret.id!r} is to come from {secret.variable}, which is not set",
            f"set {secret.variable}",
        )
    if secret.file is not None and not os.access(secret.file, os.R_OK):
        raise ConfigurationError(
            f"{what}: the file of the secret {secret.id!r}, {secret.file}, cannot be read", "correct its path"
        )
    if secret.file is not None and set(str(secret.file)) & set(',"\n'):
        raise ConfigurationError(
            f"{what}: the docker command takes no such path for a secret: {secret.file}", "move the file"
        )


def _values(secrets: Sequence[BuildSecret], environ: Mapping[str, str]) -> list[str]:
    values = [environ[secret.variable] for secret in secrets if secret.variable]
    return values + [secret.file.read_text("utf-8", "replace") for secret in secrets if secret.file]


def _read(process: subprocess.Popen[bytes], log: PlainLog) -> None:
    assert process.stderr is not None
    while data := os.read(process.stderr.fileno(), _PIECE):
        log.feed(data)
    log.end()


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill the command and its plugin. The engine ends a build whose session is gone.

    Asked to end (SIGINT), the command now and then waits for its build for ever.
    """
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _succeeds(arguments: Sequence[str], environ: Mapping[str, str]) -> bool:
    try:
        done = subprocess.run(
            arguments, env=dict(environ), capture_output=True, stdin=subprocess.DEVNULL, check=False
        )
    except OSError:
        return False
    return done.returncode == 0
