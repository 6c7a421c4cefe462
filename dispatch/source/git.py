"""One git command at a time, in an environment that nobody else can bend.

git's own plumbing is called, rather than a library: importing GitPython costs 95 ms, more than a whole
snapshot, and it cannot drop variables of the caller's environment, so ``GIT_DIR`` would redirect us.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from dispatch.errors import SourceError

# Discovery policy and configuration stay the user's; whatever points at another repository, index or object
# store (as inside a hook) does not get through.
_KEPT = re.compile(
    r"GIT_(CONFIG_(GLOBAL|SYSTEM|NOSYSTEM|COUNT|KEY_\d+|VALUE_\d+)"
    r"|CEILING_DIRECTORIES|DISCOVERY_ACROSS_FILESYSTEM|EXEC_PATH)"
)
# What else a talk with a remote may need: keys, certificates and proxies are the user's own.
_TRANSPORT = re.compile(r"GIT_(SSH|SSH_COMMAND|SSH_VARIANT|ASKPASS|SSL_\w+|PROXY_SSL_\w+|HTTP_\w+)")
_FIXED = {"LC_ALL": "C", "GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0", "GIT_NO_LAZY_FETCH": "1"}
_OPTIONS = {
    "core.hooksPath": os.devnull,
    "core.fsmonitor": "false",
    "core.splitIndex": "false",
    "core.safecrlf": "false",
    "advice.addEmbeddedRepo": "false",
    "submodule.recurse": "false",
}
# A remote that does not answer is given up, where git by itself would wait for minutes.
_PATIENCE = {"http.lowSpeedLimit": "1", "http.lowSpeedTime": "30"}
_SSH = "ssh -o BatchMode=yes -o ConnectTimeout=20"
_PROTOCOLS = "http:https:ssh:git:file"
_DUBIOUS = re.compile(r"detected dubious ownership in repository at '(.*?)'")


class GitError(Exception):
    """A git command failed: ``output`` is its stdout so far, ``message`` its stderr. Stays in the package."""

    def __init__(self, output: bytes, message: str) -> None:
        super().__init__(message)
        self.output = output
        self.message = message


class Git:
    """The git executable, found on the ``PATH`` of ``environ``.

    ``environ`` is the user's environment, taken as it is except for the variables named ``GIT_…`` that would
    redirect commands to another repository. ``run`` has the signature of :func:`subprocess.run`.
    """

    def __init__(
        self, environ: Mapping[str, str], executable: str = "git", run: Callable[..., Any] = subprocess.run
    ) -> None:
        self._environ = environ
        self._executable = executable
        self._run = run

    def user(
        self,
        directory: Path,
        *arguments: str,
        env: Mapping[str, str] | None = None,
        options: Mapping[str, str] | None = None,
    ) -> bytes:
        """Run a command in the user's repository around ``directory``, under the user's configuration.

        ``options`` are settings that go over that configuration.
        """
        settings = [
            word for item in {**_OPTIONS, **(options or {})}.items() for word in ("-c", "=".join(item))
        ]
        words = [self._executable, "-C", str(directory), *settings, *arguments]
        return self._call(words, {**self._clean(), **_FIXED, **(env or {})}, directory)

    def own(self, git_dir: Path, *arguments: str, env: Mapping[str, str]) -> bytes:
        """Run a command in a git directory of ours, blind to every configuration but that directory's.

        Files come out as 644 or 755 whatever the caller's umask.
        """
        quiet = {
            "PATH": self._environ.get("PATH", os.defpath),
            "HOME": str(git_dir),
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_ATTR_NOSYSTEM": "1",
            "GIT_DIR": str(git_dir),
        }
        words = [self._executable, *arguments]
        return self._call(words, {**quiet, **_FIXED, **env}, git_dir, umask=0o022)

    def remote(
        self,
        directory: Path,
        git_dir: Path,
        *arguments: str,
        env: Mapping[str, str],
        options: Mapping[str, str],
        files: Sequence[int] = (),
    ) -> bytes:
        """Talk to a remote on behalf of a git directory of ours, with the user's access to it.

        ``directory`` is where the user would call git; ``files`` are descriptors that git is handed down.
        """
        transport = {
            name: value for name, value in self._environ.items() if _TRANSPORT.fullmatch(name) and value
        }
        if not {"GIT_SSH", "GIT_SSH_COMMAND"} & {*transport} and "core.sshCommand" not in options:
            transport["GIT_SSH_COMMAND"] = _SSH
        settings = [
            word for item in {**_OPTIONS, **_PATIENCE, **options}.items() for word in ("-c", "=".join(item))
        ]
        words = [self._executable, "-C", str(directory), f"--git-dir={git_dir}", *settings, *arguments]
        own = {**_FIXED, "GIT_ALLOW_PROTOCOL": _PROTOCOLS, **env}
        return self._call(words, {**self._clean(), **transport, **own}, directory, files=files)

    def _clean(self) -> dict[str, str]:
        return {
            name: value
            for name, value in self._environ.items()
            if not name.startswith("GIT_") or _KEPT.fullmatch(name)
        }

    def _call(
        self,
        words: list[str],
        env: Mapping[str, str],
        directory: Path,
        umask: int = -1,
        files: Sequence[int] = (),
    ) -> bytes:
        try:
            done = self._run(
                words,
                env=dict(env),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                check=False,
                umask=umask,
                pass_fds=files,
            )
        except FileNotFoundError as error:
            raise SourceError(
                f"{self._executable}: not found on the PATH", "install git (Debian: apt-get install git)"
            ) from error
        if done.returncode == 0:
            return bytes(done.stdout)
        message = done.stderr.decode("utf-8", "replace").strip()
        dubious = _DUBIOUS.search(message)
        if dubious:
            raise SourceError(
                f"{directory}: git refuses the repository because another user owns it",
                f"if you trust it: git config --global --add safe.directory {dubious[1]}",
            )
        raise GitError(done.stdout, message)
