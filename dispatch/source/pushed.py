"""Whether a remote has a commit, asked of the remote itself before any job is to clone it.

What the user's repository remembers of a remote is out of date by nature, so it only helps to ask less: first
for the tips, which often is enough, then for the commit by its name, as a job will, and only where the remote
answers to no names for its whole history. All that comes goes to a directory of ours, and is thrown away.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from dispatch.errors import RemoteError, SourceError
from dispatch.source.git import Git, GitError
from dispatch.source.remotes import Remote
from dispatch.source.stage import Desk
from dispatch.source.store import Store

# The names that hosts take for a user who has but a token.
TOKEN_USER = "x-access-token"
_REFUSED = re.compile(
    r"Authentication failed|could not read (Username|Password)|terminal prompts disabled|Permission denied"
    r"|Host key verification failed|returned error: 40[13]|[Aa]ccess denied",
)
_NOT_FOUND = re.compile(
    r"not found|does not appear to be a git repository|returned error: 404|does not exist", re.IGNORECASE
)
_FETCH = (
    "fetch", "--quiet", "--refmap=", "--no-tags", "--no-prune", "--no-auto-maintenance",
    "--no-write-fetch-head", "--no-recurse-submodules", "--no-write-commit-graph",
)  # fmt: skip
# Commits alone: their files are of no interest.
_COMMITS = "--filter=tree:0"
_BRANCHES = "refs/heads/"
_ASK = """#!/bin/sh
case $1 in
"Username for "?"$DISPATCH_SITE"[\\'\\"/]*) printf '%s\\n' "$DISPATCH_USER" ;;
"Password for "?"$DISPATCH_LOGIN"[\\'\\"/]*) cat "$DISPATCH_TOKEN_FILE" ;;
*) exit 1 ;;
esac
"""


class ClosedRemoteError(SourceError):
    """The remote lets us in only with other access than was used, or shows us no such repository."""


@dataclass(frozen=True)
class Login:
    """How to log in where the user's own access is not to be used: a name, and what gives the token."""

    user: str
    token: Callable[[], str]


@dataclass(frozen=True)
class RemoteQuestion:
    """Asks one remote. ``config`` is the user's repository's own configuration, which names the remote."""

    git: Git
    store: Store
    desk: Desk
    config: Path
    remote: Remote
    login: Login | None = None

    def holder(self, commit: str) -> str:
        """Return a branch or tag of the remote whose history holds a commit; empty where only the commit's
        own name leads to it.

        SourceError where the remote does not have it, or does not let us in; RemoteError where it is silent.
        """
        with self.store.scratch() as scratch, self._session(Path(scratch), commit) as session:
            tips = self._tips(session)
            found = _tip(tips, commit) or self._known_to_hold(tips, commit)
            if found is None and self._has_by_name(session, commit):
                return ""
            if found is None and tips:
                found = self._in_history(session, commit)
            if found is not None:
                return found
        raise SourceError(
            f"commit {commit[:12]} is not in the remote {self.remote.name!r} ({self.remote.url}), from which "
            f"`source: clone` takes it",
            f"push it: git push {self.remote.name} HEAD; or set `source: export`",
        )

    @contextlib.contextmanager
    def _session(self, scratch: Path, commit: str) -> Iterator[_Session]:
        git_dir = self.store.new_git_dir(scratch / "remote.git", commit, self.config)
        user = self.desk.asks("config", "core.sshCommand").decode().strip()
        # Ours would go over the user's own command.
        options = {"core.sshCommand": user} if user else {}
        if self.login is None or not self.remote.site:
            # By its name: an address with the user's password in it would stand in everybody's `ps`.
            yield _Session(self, git_dir, {}, options, (), self.remote.name)
            return
        options["credential.helper"] = ""
        ask = scratch / "ask"
        ask.write_text(_ASK, encoding="ascii")
        ask.chmod(0o700)
        scheme, _, place = self.remote.site.partition("://")
        with _in_memory(self.login.token()) as descriptor:
            env = {
                "GIT_ASKPASS": str(ask),
                "DISPATCH_SITE": self.remote.site,
                "DISPATCH_USER": self.login.user,
                "DISPATCH_LOGIN": f"{scheme}://{self.login.user}@{place}",
                "DISPATCH_TOKEN_FILE": f"/dev/fd/{descriptor}",
            }
            yield _Session(self, git_dir, env, options, (descriptor,), self.remote.url)

    def _tips(self, session: _Session) -> dict[str, str]:
        """The remote's refs; of a tag, what it stands for."""
        try:
            listing = session.call("ls-remote", "--", session.where).decode("utf-8", "surrogateescape")
        except GitError as error:
            raise self._silent(error.message) from error
        pairs = [line.partition("\t") for line in listing.splitlines()]
        return {name.removesuffix("^{}"): found for found, _, name in pairs if name.startswith("refs/")}

    def _known_to_hold(self, tips: Mapping[str, str], commit: str) -> str | None:
        """A branch whose tip the user's repository has, too, and knows to come after the commit."""
        words = ("for-each-ref", f"--contains={commit}", "--format=%(objectname) %(*objectname)")
        after = {*os.fsdecode(self.desk.asks(*words)).split()}
        names = [name for name, tip in tips.items() if tip in after]
        return min(names, key=_branches_first, default=None)

    def _has_by_name(self, session: _Session, commit: str) -> bool:
        with contextlib.suppress(GitError):
            session.call(*_FETCH, "--depth=1", _COMMITS, "--", session.where, commit)
            return True
        return False

    def _in_history(self, session: _Session, commit: str) -> str | None:
        """Look for the commit in all branches and tags, having fetched what there is of commits."""
        try:
            session.call(
                *_FETCH,
                _COMMITS,
                "--",
                session.where,
                "+refs/heads/*:refs/heads/*",
                "+refs/tags/*:refs/tags/*",
            )
        except GitError as error:
            raise self._silent(error.message) from error
        with contextlib.suppress(GitError):
            found = session.call("for-each-ref", "--count=1", "--format=%(refname)", f"--contains={commit}")
            return os.fsdecode(found).strip() or None
        return None

    def _silent(self, message: str) -> SourceError | RemoteError:
        said = self._without_secrets(message)
        where = f"remote {self.remote.name!r} ({self.remote.url})"
        if _REFUSED.search(message):
            return ClosedRemoteError(
                f"{where} does not let us in: {said}",
                "see that `git fetch` works here, and name a token for the job: "
                "`source: {mode: clone, token: SECRET}`",
            )
        if _NOT_FOUND.search(message):
            return ClosedRemoteError(f"{where} is not there: {said}", "correct it with: git remote set-url")
        return RemoteError(
            f"{where} does not answer: {said}", "see that `git fetch` works here, or set `source: export`"
        )

    def _without_secrets(self, message: str) -> str:
        lines = [line for line in message.splitlines() if line.strip()]
        last = [line for line in lines if line.startswith("fatal:")] or lines or ["git says nothing"]
        said = last[0].removeprefix("fatal: ")
        return re.sub(r"(?<=://)[^/\s]*@", "", said)


@dataclass(frozen=True)
class _Session:
    """What all commands of one question share."""

    question: RemoteQuestion
    git_dir: Path
    env: Mapping[str, str]
    options: Mapping[str, str]
    files: tuple[int, ...]
    where: str

    def call(self, *arguments: str) -> bytes:
        """Run git. GitError as it says it."""
        question = self.question
        return question.git.remote(
            question.desk.root, self.git_dir, *arguments, env=self.env, options=self.options, files=self.files
        )


def _tip(tips: Mapping[str, str], commit: str) -> str | None:
    names = [name for name, tip in tips.items() if tip == commit]
    return min(names, key=_branches_first, default=None)


def _branches_first(name: str) -> tuple[bool, str]:
    return not name.startswith(_BRANCHES), name


@contextlib.contextmanager
def _in_memory(text: str) -> Iterator[int]:
    """A file that has no name and no disk, to be read by who is handed down its descriptor."""
    descriptor = os.memfd_create("token")
    try:
        os.write(descriptor, text.encode())
        yield descriptor
    finally:
        os.close(descriptor)
